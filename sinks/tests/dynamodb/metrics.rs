//! What the DynamoDB sink counts.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use serde_json::{Value, json};
use shardflow::sink::{Sink, SinkWriter, at_least_once};
use shardflow::testing::Collected;
use shardflow_sinks::dynamodb::metrics::names;

use crate::refused::nested;
use crate::stand::{Stand, flush, item, n, s, writer};
use shardflow_stand_ins::fault_proxy::Fault;

/// A writer that counts, and what counts.
fn counting(stand: &Stand, sink: &dyn Sink<Value>) -> (Box<dyn SinkWriter<Value>>, PrometheusRecorder) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let writer = metrics::with_local_recorder(&recorder, || writer(sink, &stand.runtime, 1));
    (writer, recorder)
}

/// A count of the step, for the one worker or cause that has it.
fn count(recorder: &PrometheusRecorder, name: &str, label: &str) -> u64 {
    let said = recorder.handle().render();
    let line = said.lines().find(|line| line.starts_with(&format!("{name}{{step=\"charges\"")) && line.contains(label));
    let line = line.unwrap_or_else(|| panic!("{name} is not among\n{said}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn write(writer: &mut dyn SinkWriter<Value>, records: &[Value]) {
    records.iter().for_each(|record| writer.stage(record).unwrap());
    flush(writer).unwrap();
}

#[test]
fn writes_that_the_table_had_a_later_state_for_are_counted() {
    Stand::each(|stand| {
        let table = stand.table();
        for (id, version) in [("earlier", 8), ("same", 9), ("later", 10)] {
            stand.put(&table, item([("id", s(id)), ("version", n(version))]));
        }
        let sink = at_least_once(stand.to(&table, None).newest_by("version", |_: &Value| 9_u64));
        let (mut writer, recorder) = counting(stand, &sink);
        write(&mut *writer, &["new", "earlier", "same", "later"].map(|id| json!({"id": id})));
        assert_eq!(count(&recorder, names::SUPERSEDED, ""), 1);
        assert_eq!(count(&recorder, names::SLOWED, ""), 0);
        assert_eq!(count(&recorder, "shardflow_sink_records_total", ""), 4);
        // Once more: now none of them is needed, and one is superseded.
        write(&mut *writer, &["new", "earlier", "same", "later"].map(|id| json!({"id": id})));
        assert_eq!(count(&recorder, names::SUPERSEDED, ""), 2);
    });
}

#[test]
fn each_time_that_the_pace_is_lowered_is_counted() {
    Stand::each(|stand| {
        for (operation, fault) in [
            ("PutItem", Fault::Throttle),
            ("BatchWriteItem", Fault::Throttle),
            ("BatchWriteItem", Fault::Unprocessed { every: 2 }),
        ] {
            let (table, proxy) = (stand.table(), stand.proxy());
            proxy.inject(move |request| match request.operation == operation && request.nth == 1 {
                true => fault,
                false => Fault::Pass,
            });
            let to = stand.to(&table, Some(&proxy));
            let sink: Box<dyn Sink<Value>> = match operation {
                "PutItem" => Box::new(at_least_once(to.newest::<Value>("version"))),
                _ => Box::new(at_least_once(to.put())),
            };
            let (mut writer, recorder) = counting(stand, &*sink);
            let records: Vec<Value> = (0..10).map(|n| json!({"id": format!("id-{n}")})).collect();
            write(&mut *writer, &records);
            assert_eq!(count(&recorder, names::SLOWED, ""), 1, "{operation} {fault:?}");
            assert_eq!(count(&recorder, "shardflow_sink_retries_total", "throttled"), 1, "{operation} {fault:?}");
            assert_eq!(count(&recorder, "shardflow_sink_records_total", ""), 10);
            assert_eq!(count(&recorder, names::SUPERSEDED, "") + count(&recorder, names::SEARCHES, ""), 0);
        }
    });
}

#[test]
fn calls_that_find_the_refused_records_of_a_batch_are_counted() {
    let Some(stand) = Stand::ministack() else { return };
    let (table, proxy) = (stand.table(), stand.proxy());
    let sink = at_least_once(stand.to(&table, Some(&proxy)).put()).rejected_to(Collected::new());
    let (mut writer, recorder) = counting(&stand, &sink);
    let mut records: Vec<Value> = (0..8).map(|n| json!({"id": format!("id-{n}")})).collect();
    records[0] = nested("id-0");
    write(&mut *writer, &records);
    // Of eight the first four, two and one; then what is left of each.
    assert_eq!((count(&recorder, names::SEARCHES, ""), proxy.seen().calls("BatchWriteItem")), (6, 7));
    assert_eq!(count(&recorder, "shardflow_sink_refused_total", ""), 1);
    assert_eq!(count(&recorder, "shardflow_sink_records_total", ""), 7);
    assert_eq!(count(&recorder, names::SLOWED, ""), 0);
}
