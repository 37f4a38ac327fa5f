//! What the postgres sink counts.

use crate::support::engine::Engine;
use crate::support::pg_proxy::{Fault, PgProxy};
use metrics_exporter_prometheus::PrometheusBuilder;
use shardflow_sinks::postgres;
use shardflow_stand_ins::postgres::Database;

#[test]
fn rows_bytes_refusals_calls_and_retries_are_counted() {
    let Some(db) = Database::fresh() else { return };
    db.run("CREATE TABLE numbers (n bigint CHECK (n <> 7))");
    let proxy = PgProxy::start(db.runtime.handle(), db.cluster.port());
    let sink = postgres(db.address_at(proxy.port())).table("numbers").column("n", |n: &u64| n);
    let recorder = PrometheusBuilder::new().build_recorder();
    let mut engine = Engine::new(sink.rejected_to_table("rejected"));
    metrics::with_local_recorder(&recorder, || engine.start()).unwrap();
    let value = |name: &str, labels: &str| {
        let text = recorder.handle().render();
        let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")) && line.contains(labels));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
    };
    let calls = value("shardflow_sink_call_seconds_count", "charges");
    engine.write(&[1, 2, 30]).unwrap();
    assert_eq!(value("shardflow_sink_records_total", "step=\"charges\""), 3);
    assert_eq!(value("shardflow_sink_bytes_total", "step=\"charges\""), 2 + 2 + 3);
    assert_eq!(value("shardflow_sink_call_seconds_count", "charges"), calls + 1);
    assert_eq!(value("shardflow_sink_retries_total", "failed"), 0);
    // A commit whose answer is lost counts its rows once, and the call that settles it.
    for (retries, fault) in [(1, Fault::ResetBefore), (2, Fault::ResetAfter)] {
        proxy.once(fault, |message| message.is("COMMIT"));
        engine.write(&[4, 5]).unwrap();
        assert_eq!(value("shardflow_sink_retries_total", "cause=\"failed\""), retries);
        assert_eq!(value("shardflow_sink_records_total", "charges"), 3 + 2 * retries);
    }
    engine.write(&[6, 7, 8]).unwrap();
    assert_eq!(value("shardflow_sink_refused_total", "charges"), 1);
    assert_eq!(value("shardflow_sink_records_total", "charges"), 3 + 4 + 2);
    assert_eq!(db.text("SELECT count(*) FROM numbers"), "9");
}
