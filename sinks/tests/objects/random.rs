//! The object sink on random courses of the protocol, with crashes, other worker counts and a failing store, against a model.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::faulty::{Fault, Faulty};
use crate::common::{assert_manifested, numbers};
use object_store::ObjectStore;
use object_store::multipart::MultipartStore;
use proptest::prelude::*;
use shardflow::testing::sink::{Driver, Promise};
use shardflow_sinks::{Ndjson, objects_in};

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

/// Whether a call fails: a number that depends on the seed and on which call it is.
fn drawn(seed: u64, nth: u64) -> u64 {
    let mut z = seed.wrapping_add(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % 100
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_course_shows_each_record_once(
        steps in prop::collection::vec(step(), 1..50),
        roll_bytes in prop_oneof![Just(1_u64), Just(60), Just(300), Just(1 << 20)],
        roll_after in prop_oneof![Just(0_u64), Just(5), Just(1000)],
        part_bytes in prop_oneof![Just(3_u64), Just(1 << 20)],
        with_multipart: bool,
        // Failures in a hundred calls; they cost waits, so most courses have none.
        failing in prop_oneof![5 => Just(0_u64), 1 => Just(3)],
        seed: u64,
    ) {
        let store = Faulty::new(move |call| match drawn(seed, call.nth) {
            n if n < failing => Fault::Before,
            n if n < 2 * failing => Fault::After,
            _ => Fault::Pass,
        });
        let (start, seconds) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let now = Arc::clone(&seconds);
        let mut sink = objects_in::<u64>(Arc::clone(&store) as Arc<dyn ObjectStore>, "out")
            .format(Ndjson)
            .partitioned_by("mod={mod}").partition_field("mod", |number| (number % 2).into())
            .roll_bytes(roll_bytes)
            .roll_after(Duration::from_secs(roll_after))
            .part_bytes(part_bytes)
            .clock(move || start + Duration::from_secs(now.load(Ordering::Relaxed)));
        if with_multipart {
            sink = sink.multipart_store(Arc::clone(&store) as Arc<dyn MultipartStore>);
        }
        let mut job = Driver::new(Promise::ExactlyOnce, Box::new(sink), |number| number, || numbers(&store.inner));
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
        assert_manifested(&store.inner);
    }
}
