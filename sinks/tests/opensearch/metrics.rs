//! What is counted of a search index: the metrics that every sink of batches has, through this one.

use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::json;
use shardflow::testing::Collected;
use shardflow::testing::sink::{Driver, Promise};
use shardflow_sinks::opensearch;

use crate::place::{Place, rejection};
use shardflow_stand_ins::search::{Fault, Refusal};

#[test]
fn documents_bytes_refusals_calls_and_retries_are_counted() {
    let place = Place::new();
    place.stub.inject(|call| match call.nth {
        1 => Fault::Refuse(rejection(), None),
        2 => Fault::RefuseAfter(Refusal::new(504, "", "gateway timeout")),
        _ => Fault::Pass,
    });
    let sink = opensearch([place.stub.endpoint()], |doc: &serde_json::Value| doc["id"].to_string()).index("results");
    // One of them is text where the mapping has a number.
    let doc = |n| if n == 7 { json!({"id": n, "n": "seven"}) } else { json!({"id": n, "n": n}) };
    let sink = sink.rejected_to(Collected::new());
    let mut job = Driver::new(Promise::AtLeastOnce, Box::new(sink), doc, Vec::new);
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || job.start(1));
    job.stage(0, 20);
    job.prepare();
    job.persist();
    let said = recorder.handle().render();
    let count = |name: &str, label: &str| -> u64 {
        let starts = format!("{name}{{step=\"results\"");
        let line = said.lines().find(|line| line.starts_with(&starts) && line.contains(label));
        line.unwrap_or_else(|| panic!("{name} is not among\n{said}")).rsplit(' ').next().unwrap().parse().unwrap()
    };
    let calls = place.stub.seen();
    assert_eq!(calls.len(), 3);
    assert_eq!(count("shardflow_sink_records_total", ""), 19);
    assert_eq!(count("shardflow_sink_refused_total", ""), 1);
    assert_eq!(count("shardflow_sink_retries_total", "throttled"), 1);
    assert_eq!(count("shardflow_sink_retries_total", "failed"), 1);
    assert_eq!(count("shardflow_sink_call_seconds_count", ""), 3);
    assert_eq!(count("shardflow_sink_calls_in_flight", ""), 0);
    // What has an end: those that are taken and those that are refused, once each.
    assert_eq!(count("shardflow_sink_bytes_total", ""), calls[2].bytes as u64);
}
