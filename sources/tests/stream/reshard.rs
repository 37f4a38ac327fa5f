//! Measuring, planning and doing.

use std::collections::BTreeSet;
use std::time::Duration;

use shardflow_sources::stream::{Goal, HashRange, Plan, hash_of};

use crate::emulator::Emulator;

const STEP: Duration = Duration::from_secs(30);

/// Long enough that nothing of a test falls out of it.
const SAMPLE: Duration = Duration::from_secs(300);

async fn plan(emulator: &Emulator, goal: Goal) -> Plan {
    let shards = emulator.stream.shards().await.unwrap();
    let loads = emulator.stream.sample(&shards, SAMPLE).await.unwrap();
    Plan::new(&shards, loads, goal).unwrap()
}

async fn open(emulator: &Emulator) -> BTreeSet<HashRange> {
    let shards = emulator.stream.shards().await.unwrap();
    shards.iter().filter(|shard| shard.is_open()).map(|shard| shard.range).collect()
}

#[tokio::test]
async fn what_a_plan_says_is_what_is_open_afterwards() {
    let emulator = Emulator::start(3).await;
    emulator.put(0..200).await;
    for goal in [Goal::SplitHottest(2), Goal::ToCount(4), Goal::MergeColdest(2), Goal::ToCount(3)] {
        let plan = plan(&emulator, goal).await;
        assert!(!plan.steps.is_empty());
        let mut told = Vec::new();
        emulator.stream.reshard(&plan, STEP, |number, step| told.push((number, *step))).await.unwrap();
        assert_eq!(open(&emulator).await, plan.after.iter().map(|piece| piece.range).collect(), "{goal:?}");
        assert_eq!(told.into_iter().map(|(_, step)| step).collect::<Vec<_>>(), plan.steps);
    }
    assert_eq!(open(&emulator).await.len(), 3);
}

#[tokio::test]
async fn the_shard_with_the_most_bytes_is_split_where_they_are_halved() {
    let emulator = Emulator::start(2).await;
    // Five keys in the upper half of the hash keys, which are even there, and one in the lower.
    let keys: Vec<String> = (0..).map(|n| format!("key-{n}")).filter(|key| hash_of(key) >> 127 == 1).take(5).collect();
    let low = (0..).map(|n| format!("low-{n}")).find(|key| hash_of(key) >> 127 == 0).unwrap();
    emulator.put_by(100..600, |n| keys[n as usize % 5].clone()).await;
    emulator.put_by(100..110, |_| low.clone()).await;
    let plan = plan(&emulator, Goal::SplitHottest(1)).await;
    let bytes: Vec<u64> = plan.after.iter().map(|piece| piece.load.bytes()).collect();
    let of_key = |key: &str, records: u64| records * (3 + key.len() as u64);
    assert_eq!(bytes[0], of_key(&low, 10));
    let all: u64 = keys.iter().map(|key| of_key(key, 100)).sum();
    assert_eq!(bytes[1] + bytes[2], all);
    // Two keys on one side and three on the other.
    assert!(bytes[1].abs_diff(bytes[2]) <= 2 * all / 5, "{bytes:?}");
    let seconds = SAMPLE.as_secs_f64();
    assert!((plan.before[1].load.bytes_per_second() - all as f64 / seconds).abs() < 1e-9);
}

#[tokio::test]
async fn no_time_at_all_is_measured_without_a_read_and_more_than_ten_minutes_are_refused() {
    let emulator = Emulator::start(1).await;
    emulator.put(0..10).await;
    let shards = emulator.stream.shards().await.unwrap();
    assert_eq!(emulator.stream.sample(&shards, Duration::ZERO).await.unwrap()[0].bytes(), 0);
    let error = emulator.stream.sample(&shards, Duration::from_secs(601)).await.unwrap_err().to_string();
    assert!(error.contains("600s is the longest"), "{error}");
}

#[tokio::test]
async fn a_plan_that_no_longer_fits_stops_at_its_first_step_that_cannot_be_done() {
    let emulator = Emulator::start(1).await;
    let plan = plan(&emulator, Goal::ToCount(4)).await;
    // Someone else was faster, and otherwise.
    emulator.split_at(12_345).await;
    let stopped = emulator.stream.reshard(&plan, STEP, |_, _| {}).await.unwrap_err();
    assert_eq!((stopped.done, stopped.of), (0, 3));
    let text = stopped.to_string();
    assert!(
        text.contains("has someone else resharded the stream?") && text.ends_with("0 were done, and 3 were not"),
        "{text}"
    );
}
