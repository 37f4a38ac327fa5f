//! What the server will never take goes to the rejected output, and holds nobody up.

use serde_json::json;
use shardflow::ErrorKind;
use shardflow::testing::Collected;
use shardflow::testing::sink::{Driver, Promise};
use shardflow_sinks::opensearch;

use crate::place::{Doc, Place, doc, with_refused};
use shardflow_stand_ins::search::{Fault, Flavour, Nature, Refusal};

/// Numbers that end in 7 are text that is no number.
fn with_bad_ones(n: u64) -> serde_json::Value {
    if n % 10 == 7 { json!({"id": n, "n": format!("seven {n}")}) } else { json!({"id": n, "n": n}) }
}

#[test]
fn a_document_that_does_not_fit_the_mapping_is_refused_alone_with_the_servers_reason() {
    for (flavour, kind) in
        [(Flavour::OpenSearch, "mapper_parsing_exception"), (Flavour::Elasticsearch, "document_parsing_exception")]
    {
        let place = Place::of(Nature { flavour, ..Nature::default() });
        let refused = Collected::new();
        let sink =
            opensearch([place.stub.endpoint()], |doc: &serde_json::Value| doc["id"].to_string()).index("results");
        let sink = sink.rejected_to(refused.clone());
        let mut job = Driver::new(Promise::AtLeastOnce, Box::new(sink), with_bad_ones, Vec::new);
        job.start(1);
        job.stage(0, 40);
        job.prepare();
        job.persist();
        // What committing shows of the rejected output; the driver would miss the refused numbers.
        job.try_commit().unwrap();
        assert_eq!(place.stub.cluster().documents("results").len(), 36);
        let refused = refused.values();
        assert_eq!(refused.len(), 4);
        for refused in refused {
            assert!(refused.error.contains(kind) && refused.error.contains("For input string: \"seven"), "{refused:?}");
            assert!(refused.record.starts_with("{\"id\":") && refused.record.contains("seven"), "{refused:?}");
        }
    }
}

#[test]
fn a_document_that_makes_the_server_refuse_the_whole_call_is_found_and_refused_alone() {
    let place = Place::new();
    place.stub.inject(|call| match call.ids.iter().any(|id| id == "doc/13") {
        true => Fault::Refuse(Refusal::new(400, "illegal_argument_exception", "cannot read line 27"), None),
        false => Fault::Pass,
    });
    let (sink, refused) = with_refused(place.documents());
    let mut job = Driver::new(Promise::AtLeastOnce, Box::new(sink), doc, Vec::new);
    job.start(1);
    job.stage(0, 50);
    job.prepare();
    job.persist();
    job.try_commit().unwrap();
    let refused: Vec<String> =
        refused.values().into_iter().map(|refused| format!("{}: {}", refused.record, refused.error)).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].contains("\"n\":13") && refused[0].contains("cannot read line 27"), "{refused:?}");
    let mut numbers = place.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..50).filter(|n| *n != 13).collect::<Vec<_>>());
}

#[test]
fn without_a_rejected_output_the_job_stops_and_says_why() {
    let place = Place::new();
    let sink = opensearch([place.stub.endpoint()], |doc: &serde_json::Value| doc["id"].to_string()).index("results");
    let mut job = Driver::new(Promise::AtLeastOnce, Box::new(sink), with_bad_ones, Vec::new);
    job.start(1);
    job.stage(0, 10);
    job.prepare();
    let error = job.try_persist().unwrap_err();
    assert_eq!((error.kind(), error.step()), (ErrorKind::Sink, Some("results")));
    assert!(error.to_string().contains("mapper_parsing_exception"), "{error}");
}

#[test]
fn a_call_that_is_too_large_is_halved_and_later_calls_are_smaller() {
    let place = Place::of(Nature { max_content_length: 3_000, ..Nature::default() });
    let (sink, refused) = with_refused(place.documents().bulk_bytes(1 << 20));
    let mut job = place.job(sink.concurrency(1));
    job.start(1);
    for _ in 0..3 {
        job.stage(0, 200);
        job.prepare();
        job.persist();
        job.commit();
        job.acknowledge();
    }
    job.assert_all_visible();
    assert!(refused.values().is_empty());
    let before = place.stub.calls();
    job.stage(0, 200);
    job.prepare();
    job.persist();
    // 200 documents are about 14 kB; calls of at least a quarter of the limit make at most 20, and none is refused.
    let calls = place.stub.calls() - before;
    assert!((5..=20).contains(&calls), "{calls}");
    assert!(place.stub.seen().iter().all(|call| call.bytes <= 3_000));
}

#[test]
fn a_document_that_is_too_large_by_itself_is_refused_and_the_others_are_not() {
    let place = Place::of(Nature { max_content_length: 3_000, ..Nature::default() });
    let (sink, refused) = with_refused(place.documents());
    let large = |n| if n == 7 { Doc { n, text: "x".repeat(5_000) } } else { doc(n) };
    let mut job = Driver::new(Promise::AtLeastOnce, Box::new(sink), large, Vec::new);
    job.start(1);
    job.stage(0, 30);
    job.prepare();
    job.persist();
    job.try_commit().unwrap();
    assert_eq!(place.stub.cluster().documents("results").len(), 29);
    let [refused] = &refused.values()[..] else { panic!("one is refused") };
    assert!(refused.error.contains("413") && refused.record.starts_with("{\"n\":7,"), "{}", refused.error);
}

#[test]
fn ids_and_indices_that_cannot_be_are_refused_before_they_spoil_a_call() {
    let place = Place::new();
    let id = |doc: &Doc| {
        if doc.n == 3 {
            String::new()
        } else {
            format!("{}{}", "x".repeat(505 * usize::from(doc.n == 5)), 10_000_000 + doc.n)
        }
    };
    let index = |doc: &Doc| if doc.n == 4 { "Results".to_owned() } else { "results".to_owned() };
    let (sink, refused) = with_refused(opensearch([place.stub.endpoint()], id).index_of(index));
    let mut job = Driver::new(Promise::AtLeastOnce, Box::new(sink), doc, Vec::new);
    job.start(1);
    job.stage(0, 10);
    job.prepare();
    job.persist();
    job.try_commit().unwrap();
    assert_eq!(place.stub.cluster().documents("results").len(), 7);
    assert_eq!(refused.values().len(), 3);
    assert_eq!(place.stub.seen().len(), 1, "one call took the rest");
}
