//! Aliases, data streams, pipelines, and what only creates.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use shardflow::testing::sink::{Driver, Promise};
use shardflow::{ErrorKind, Outcome};
use shardflow_sinks::opensearch;

use crate::place::{Doc, Place, with_refused};

#[derive(Serialize)]
struct Line {
    #[serde(rename = "@timestamp")]
    at: u64,
    n: u64,
}

fn stream<'a>(place: &Place) -> Driver<'a, Line> {
    let lines = opensearch([place.stub.endpoint()], |line: &Line| line.n.to_string()).data_stream("logs");
    Driver::new(Promise::AtLeastOnce, Box::new(lines), |n| Line { at: n, n }, Vec::new)
}

#[test]
fn a_replay_adds_nothing_to_a_data_stream_unless_it_rolled_over() {
    for rolls_over in [false, true] {
        let place = Place::new();
        place.stub.cluster().create_stream("logs");
        let mut job = stream(&place);
        job.start(1);
        job.stage(0, 20);
        job.prepare();
        job.crash();
        // What was on its way when it crashed may be there or not; written again by another start, all of it is.
        let mut other = stream(&place);
        other.start(1);
        other.stage(0, 20);
        other.prepare();
        other.try_persist().unwrap();
        if rolls_over {
            place.stub.cluster().roll_over("logs");
        }
        let mut again = stream(&place);
        again.start(1);
        again.stage(0, 20);
        again.prepare();
        again.try_persist().unwrap();
        let ids = place.stub.cluster().stream_ids("logs");
        assert_eq!(ids.len(), if rolls_over { 40 } else { 20 }, "as the door says");
    }
}

#[test]
fn what_only_creates_leaves_what_is_there() {
    let place = Place::new();
    let job = |text: &'static str| {
        let sink = place.documents().create_only();
        let mut job = Driver::new(Promise::AtLeastOnce, Box::new(sink), |n| Doc { n, text: text.to_owned() }, Vec::new);
        job.start(1);
        job.stage(0, 3);
        job.prepare();
        job.try_persist().unwrap();
    };
    job("first");
    job("second");
    let documents = place.stub.cluster().documents("results");
    assert_eq!(documents.len(), 3);
    assert!(documents.values().all(|(_, doc)| doc["text"] == json!("first")), "{documents:?}");
}

#[test]
fn an_alias_that_is_taken_away_does_not_become_an_index() {
    let place = Place::new();
    place.stub.cluster().alias("current", "results");
    let sink = opensearch([place.stub.endpoint()], |doc: &Doc| format!("doc/{}", doc.n)).alias("current");
    let mut job = place.job(sink.give_up_after(Duration::from_millis(1)));
    job.start(1);
    job.stage(0, 5);
    job.prepare();
    job.persist();
    job.assert_all_visible();
    place.stub.cluster().drop_alias("current");
    job.stage(0, 5);
    job.prepare();
    let error = job.try_persist().unwrap_err().to_string();
    assert!(error.contains("is not an alias"), "{error}");
    assert_eq!(place.stub.cluster().names(), ["results"]);
}

#[test]
fn a_pipeline_and_compression_are_asked_for() {
    let place = Place::new();
    place.stub.cluster().create_pipeline("geo ip");
    let mut job = place.job(place.documents().pipeline("geo ip").gzip());
    job.start(1);
    job.stage(0, 500);
    job.finish();
    let seen = place.stub.seen();
    assert!(seen.iter().all(|call| call.was_compressed && call.query.contains("pipeline=geo+ip")), "{seen:?}");
}

#[test]
fn a_pipeline_that_is_taken_away_stops_the_job_and_refuses_no_document() {
    let place = Place::new();
    place.stub.cluster().create_pipeline("geo");
    let (sink, refused) = with_refused(place.documents().pipeline("geo"));
    let mut job = place.job(sink);
    job.start(1);
    job.stage(0, 5);
    job.prepare();
    job.persist();
    job.commit();
    place.stub.cluster().drop_pipeline("geo");
    job.stage(0, 5);
    job.prepare();
    let error = job.try_persist().unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Sink, Outcome::Determinate));
    assert!(error.to_string().contains("pipeline with id [geo] does not exist"), "{error}");
    assert!(refused.values().is_empty());
    assert_eq!(place.numbers().len(), 5);
    // Made again, it goes on where it was.
    place.stub.cluster().create_pipeline("geo");
    job.start(1);
    job.replay(0);
    job.finish();
    assert_eq!(place.numbers().len(), 10);
}
