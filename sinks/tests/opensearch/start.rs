//! What is looked at before a job starts.

use axum::Router;
use serde_json::json;
use shardflow::ErrorKind;
use shardflow::sink::{Sink, SinkContext, Version};
use shardflow::vocabulary::Incarnation;
use shardflow_sinks::{OpenSearch, opensearch};

use crate::place::{Doc, Place, documents};
use shardflow_stand_ins::search::{Flavour, Nature};

/// The error at the start, which a restart cannot help.
fn refused(place: &Place, sink: OpenSearch<Doc>) -> String {
    let error = sink.committer(&place.context()).err().expect("it must not start");
    assert_eq!((error.kind(), error.step()), (ErrorKind::Config, Some("results")), "{error}");
    error.to_string()
}

fn starts(place: &Place, sink: OpenSearch<Doc>) {
    let sink = sink;
    let context = place.context();
    sink.committer(&context).map(drop).unwrap();
    sink.writer(&context, 0).map(drop).unwrap();
}

#[test]
fn an_index_must_be_there_and_be_what_it_is_said_to_be() {
    for flavour in [Flavour::OpenSearch, Flavour::Elasticsearch] {
        let place = Place::of(Nature { flavour, ..Nature::default() });
        let sink = || opensearch([place.stub.endpoint()], |doc: &Doc| doc.n.to_string());
        place.stub.cluster().alias("current", "results");
        place.stub.cluster().create_stream("logs");
        starts(&place, sink().index("results"));
        starts(&place, sink().index("current"));
        starts(&place, sink().alias("current"));
        starts(&place, sink().data_stream("logs"));
        starts(&place, sink().index("other").may_create_index());
        starts(&place, sink().index_of(|_| "other".to_owned()));
        for (sink, says) in [
            (sink().index("other"), "there is no such index"),
            (sink().alias("other"), "there is no such alias"),
            (sink().alias("other").may_create_index(), "there is no such alias"),
            (sink().data_stream("other"), "there is no such data stream"),
            (sink().index("logs"), "\"logs\" is a data stream"),
            (sink().alias("results"), "\"results\" is an index"),
            (sink().data_stream("results"), "\"results\" is an index"),
            (sink(), "where documents go"),
            (sink().index("Results"), "lowercase"),
            (sink().index_by_time("results-{week}", |_| shardflow::EventTime::MIN), "week"),
            (sink().data_stream("logs").version(|doc| doc.n), "version"),
        ] {
            let error = refused(&place, sink);
            assert!(error.contains(says), "{error}");
        }
    }
}

#[test]
fn a_job_that_has_started_more_often_than_versions_can_tell_does_not_start_again() {
    let place = Place::new();
    let sink = opensearch([place.stub.endpoint()], |doc: &Doc| doc.n.to_string()).index("results");
    let context = |start| SinkContext { incarnation: Incarnation::new(start), ..place.context() };
    sink.committer(&context(Version::LAST_START)).map(drop).unwrap();
    let error = sink.committer(&context(Version::LAST_START + 1)).err().expect("it must not start");
    assert_eq!((error.kind(), error.step()), (ErrorKind::Config, Some("results")), "{error}");
    assert!(error.to_string().contains("this is start 1048576 of the job"), "{error}");
    // Those of the records' own have room for any start.
    sink.version(|doc| doc.n).committer(&context(Version::LAST_START + 1)).map(drop).unwrap();
}

#[test]
fn nodes_must_be_urls() {
    let place = Place::new();
    let none: [&str; 0] = [];
    assert!(refused(&place, opensearch(none, |doc: &Doc| doc.n.to_string()).index("results")).contains("no nodes"));
    for bad in ["localhost:9200", "ftp://x", "user:hunter2@search"] {
        let error =
            refused(&place, opensearch(["http://127.0.0.1:1", bad], |doc: &Doc| doc.n.to_string()).index("results"));
        assert!(error.contains("node 2") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn what_is_no_search_index_is_not_written_to() {
    let place = Place::new();
    let other = |body: serde_json::Value| {
        let app = Router::new().fallback(move || std::future::ready(axum::Json(body.clone())));
        place.io.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let endpoint = format!("http://{}", listener.local_addr().unwrap());
            tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
            endpoint
        })
    };
    for (body, says) in [
        (json!({"hello": "world"}), "neither OpenSearch nor Elasticsearch"),
        (json!({"version": {"number": "8.0.0"}}), "not Elasticsearch"),
        (json!({"version": {"number": "6.8.0"}}), "7.10"),
    ] {
        let error = refused(&place, documents(&other(body)));
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_login_that_may_only_write_is_enough() {
    let place = Place::of(Nature { may_only_write: true, ..Nature::default() });
    let mut job = place.job(place.documents());
    job.start(1);
    job.stage(0, 5);
    job.finish();
}

#[test]
fn an_ingest_pipeline_must_be_there() {
    for flavour in [Flavour::OpenSearch, Flavour::Elasticsearch] {
        let place = Place::of(Nature { flavour, ..Nature::default() });
        for name in ["geo ip", "geo/ip %1"] {
            place.stub.cluster().create_pipeline(name);
            starts(&place, place.documents().pipeline(name));
        }
        starts(&place, place.documents().pipeline("_none"));
        for (name, says) in [
            ("geo", "could not find ingest pipeline \"geo\" at http://127.0.0.1:"),
            ("geo", "there is none of this name"),
            // A pattern finds others.
            ("geo*", "there is none of this name"),
            ("", "it has no name"),
        ] {
            let error = refused(&place, place.documents().pipeline(name));
            assert!(error.contains(says), "{error}");
        }
    }
    // A login that may not look starts all the same.
    let place = Place::of(Nature { may_only_write: true, ..Nature::default() });
    starts(&place, place.documents().pipeline("geo").may_have_documents());
}
