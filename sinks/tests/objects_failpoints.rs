//! The object sink stopped at each of its named points, then started again. Runs with `--features failpoints`.
#![cfg(all(feature = "failpoints", feature = "objects"))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at what must not happen")]

#[path = "objects/common/mod.rs"]
mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::faulty::{Fault, Faulty};
use common::{assert_manifested, numbers};
use fail::FailScenario;
use object_store::ObjectStore;
use object_store::multipart::MultipartStore;
use shardflow::testing::sink::{Driver, Promise};
use shardflow_sinks::{ObjectSink, objects_in};

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

/// Two objects of each spool file.
fn partitioned(sink: ObjectSink<u64>) -> ObjectSink<u64> {
    sink.partitioned_by("mod={mod}").partition_field("mod", |number| (number % 2).into())
}

/// Whether the point struck.
fn stopped_at(point: &str, strikes: &str, set: impl Fn(ObjectSink<u64>) -> ObjectSink<u64>) -> bool {
    let store = Faulty::new(|_| Fault::Pass);
    let sink = objects_in::<u64>(Arc::clone(&store) as Arc<dyn ObjectStore>, "out")
        .roll_after(Duration::ZERO)
        .multipart_store(Arc::clone(&store) as Arc<dyn MultipartStore>);
    let mut job = Driver::new(Promise::ExactlyOnce, Box::new(set(sink)), |number| number, || numbers(&store.inner));
    job.start(3);
    run(&mut job).unwrap();
    fail::cfg(point, strikes).unwrap();
    let ran = run(&mut job);
    if let Err(error) = &ran {
        assert!(error.to_string().contains("stopped"), "{point}: {error}");
    }
    // A second start that may stop at the same point, and a third that gets through.
    let second = job.try_start(1);
    fail::remove(point);
    job.start(2);
    job.replay(0);
    job.finish();
    assert_eq!(job.visible(), (0..job.records()).collect::<Vec<_>>(), "{point}");
    assert_manifested(&store.inner);
    // An upload that was on its way when the job ended is left, as by a crash: the start on S3 aborts it, here nobody can.
    assert!(store.open_uploads.load(Ordering::Relaxed) <= 2 * 4, "{point}");
    ran.is_err() || second.is_err()
}

const POINTS: [(&str, &str); 24] = [
    ("sink-objects::after-stage", "4*off->return"),
    ("sink-objects::before-prepare", "1*off->return"),
    ("sink-objects::before-prepare", "2*off->return"),
    ("sink-objects::before-rename", "return"),
    ("sink-objects::between-renames", "return"),
    ("sink-objects::between-renames", "1*off->return"),
    ("sink-objects::after-rename", "return"),
    ("sink-objects::after-mark", "return"),
    ("sink-objects::before-recovery", "return"),
    ("sink-objects::recovery-settled", "return"),
    ("sink-objects::before-pack", "return"),
    ("sink-objects::before-pack", "1*off->return"),
    ("sink-objects::before-pack-is-named", "return"),
    ("sink-objects::after-pack", "return"),
    ("sink-objects::before-upload", "return"),
    ("sink-objects::before-put", "return"),
    ("sink-objects::before-put", "1*off->return"),
    ("sink-objects::after-put", "return"),
    ("sink-objects::after-put", "1*off->return"),
    ("sink-objects::before-manifest", "return"),
    ("sink-objects::after-manifest", "return"),
    ("sink-objects::after-remove", "return"),
    ("sink-objects::before-part", "2*off->return"),
    ("sink-objects::before-complete", "return"),
];

#[test]
fn each_point_loses_nothing_and_doubles_nothing() {
    let scenario = FailScenario::setup();
    for (point, strikes) in POINTS {
        let struck = [
            stopped_at(point, strikes, partitioned),
            stopped_at(point, strikes, |sink| partitioned(sink).roll_records(2)),
            stopped_at(point, strikes, |sink| partitioned(sink).part_bytes(3)),
            stopped_at(point, strikes, |sink| partitioned(sink).roll_after(Duration::from_secs(3600))),
            // Spooled as lines, which are never packed anew.
            stopped_at(point, strikes, |sink| sink),
            stopped_at(point, strikes, |sink| sink.part_bytes(3).roll_records(2)),
        ];
        assert!(struck.contains(&true), "{point} never struck");
    }
    scenario.teardown();
}
