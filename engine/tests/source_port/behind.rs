//! How far a split is behind its end, as the metrics say.

use metrics_exporter_prometheus::PrometheusBuilder;

use crate::scripted::{Scripted, job, start};

#[test]
fn a_split_that_gives_no_batch_still_says_how_far_behind_it_is() {
    let metrics = PrometheusBuilder::new().install_recorder().unwrap();
    let behind = |millis: u64| {
        let series = "shardflow_behind_milliseconds{step=\"behind\",split=\"quiet\"}";
        let wanted = format!("{series} {millis}\n");
        metrics.render().contains(&wanted)
    };
    let source = Scripted::new();
    source.split("quiet", |split| split.millis_behind = Some(60_000));
    let state = tempfile::tempdir().unwrap();
    let running = start(job(state.path()), "behind", &source);
    running.until("how far behind it is", |_| behind(60_000));
    source.split("quiet", |split| split.millis_behind = Some(0));
    running.until("that it has caught up", |_| behind(0));
    running.stop();
}
