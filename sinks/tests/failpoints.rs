//! The file sink stopped at each of its named points, then started again. Runs with `--features failpoints`.
#![cfg(feature = "failpoints")]
#![allow(clippy::unwrap_used, reason = "a test may stop at what must not happen")]

mod common;

use common::{hidden, job};
use fail::FailScenario;
use shardflow::testing::sink::Driver;
use shardflow_sinks::{FileSink, files};
use std::time::Duration;

/// Runs until the point strikes; what follows in the protocol does not happen.
fn run(job: &mut Driver<'_, u64>) -> shardflow::Result<()> {
    for worker in 0..3 {
        job.try_stage(worker, 3)?;
    }
    job.try_prepare()?;
    job.try_stage(0, 3)?;
    job.try_prepare()?;
    job.persist();
    job.persist();
    job.try_commit()
}

fn stopped_at(point: &str, strikes: &str, sink: impl Fn(&std::path::Path) -> FileSink) {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let mut job = job(dir.path(), sink(dir.path()));
    job.start(3);
    run(&mut job).unwrap();
    fail::cfg(point, strikes).unwrap();
    let error = run(&mut job).unwrap_err();
    assert!(error.to_string().contains("stopped"), "{point}: {error}");
    // A second start that stops at the same point, and a third that gets through.
    let _ = job.try_start(1);
    fail::remove(point);
    job.start(2);
    job.replay(0);
    job.finish();
    assert_eq!(job.visible(), (0..job.records()).collect::<Vec<_>>());
    assert!(hidden(dir.path()).is_empty(), "{point} left behind {:?}", hidden(dir.path()));
    scenario.teardown();
}

#[test]
fn each_point_loses_nothing_and_doubles_nothing() {
    for (point, strikes) in [
        ("sink-files::after-stage", "4*off->return"),
        ("sink-files::before-prepare", "1*off->return"),
        ("sink-files::before-prepare", "2*off->return"),
        ("sink-files::before-rename", "return"),
        ("sink-files::between-renames", "return"),
        ("sink-files::between-renames", "1*off->return"),
        ("sink-files::after-rename", "return"),
    ] {
        stopped_at(point, strikes, |dir| files(dir));
        stopped_at(point, strikes, |dir| files(dir).roll_bytes(3));
        stopped_at(point, strikes, |dir| files(dir).roll_after(Duration::from_secs(3600)));
    }
}
