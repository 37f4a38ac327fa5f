//! The file sink on random courses of the protocol, with crashes and other worker counts, against a model.
#![allow(clippy::unwrap_used, reason = "a test may stop at what must not happen")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{hidden, job};
use proptest::prelude::*;
use shardflow_sinks::files;

#[derive(Debug, Clone)]
enum Step {
    Stage(usize, usize),
    Prepare,
    Persist,
    Commit,
    Acknowledge,
    Tick(u64),
    Start(usize),
    Finish(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4_usize, 0..6_usize).prop_map(|(worker, count)| Step::Stage(worker, count)),
        4 => Just(Step::Prepare),
        4 => Just(Step::Persist),
        4 => Just(Step::Commit),
        2 => Just(Step::Acknowledge),
        2 => (0..8_u64).prop_map(Step::Tick),
        1 => (1..5_usize).prop_map(Step::Start),
        1 => (1..5_usize).prop_map(Step::Finish),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_course_shows_each_record_once(
        steps in prop::collection::vec(step(), 1..60),
        roll_bytes in prop_oneof![Just(1_u64), Just(7), Just(40), Just(1 << 20)],
        roll_after in prop_oneof![Just(0_u64), Just(5), Just(1000)],
    ) {
        let dir = tempfile::tempdir()?;
        let (start, seconds) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let now = Arc::clone(&seconds);
        let sink = files(dir.path())
            .roll_bytes(roll_bytes)
            .roll_after(Duration::from_secs(roll_after))
            .clock(move || start + Duration::from_secs(now.load(Ordering::Relaxed)));
        let mut job = job(dir.path(), sink);
        job.start(2);
        for step in steps {
            match step {
                Step::Stage(worker, count) => job.stage(worker, count),
                Step::Prepare => job.prepare(),
                Step::Persist => job.persist(),
                Step::Commit => job.commit(),
                Step::Acknowledge => {
                    job.commit();
                    job.acknowledge();
                }
                Step::Tick(by) => {
                    seconds.fetch_add(by, Ordering::Relaxed);
                }
                Step::Start(workers) => job.start(workers),
                Step::Finish(workers) => {
                    job.finish();
                    job.start(workers);
                }
            }
            if roll_after == 0 && matches!(step, Step::Commit) {
                job.assert_all_visible();
            }
        }
        job.replay(0);
        job.finish();
        prop_assert_eq!(job.visible(), (0..job.records()).collect::<Vec<_>>());
        prop_assert!(hidden(dir.path()).is_empty(), "left behind: {:?}", hidden(dir.path()));
    }
}
