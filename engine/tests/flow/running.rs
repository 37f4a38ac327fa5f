//! Running aggregates: a result a record, over restarts, and with more state than memory.

use std::collections::BTreeMap;
use std::path::Path;

use shardflow::metrics::names;
use shardflow::testing::{Collected, Feed};
use shardflow::{Flow, Job, RunningResult, Summary, lines, millis};
use tempfile::tempdir;

use crate::metrics::Scrape;
use crate::support::source::{Pace, Paced};
use crate::support::{child, expect_passed, job, lag, start_watched};

type Count = RunningResult<String, u64>;

fn paced(records: impl Iterator<Item = String>) -> Paced {
    let source = Paced { feed: Feed::new(), pace: Pace::stopped() };
    for (number, record) in records.enumerate() {
        source.feed.push(["left", "right", "third"][number % 3], record);
    }
    source.feed.close();
    source
}

/// Runs until the input ends, or until so many commits, each of which lets so many further batches be read.
fn part(
    job: Job,
    source: &Paced,
    (commits, each): (u64, u64),
    program: impl Fn(&Flow<'_>) + Send + Sync + 'static,
) -> Summary {
    let (pace, stopper) = (std::sync::Arc::clone(&source.pace), job.stopper());
    let hook = move |done| {
        pace.grant(each);
        if done >= commits {
            stopper.request();
        }
    };
    start_watched(job, hook, program).end().unwrap()
}

/// The counts that each key has had, in the order in which they were committed.
fn counts(sink: &Collected<(String, u64)>) -> BTreeMap<String, Vec<u64>> {
    let mut counts = BTreeMap::<String, Vec<u64>>::new();
    for (key, count) in sink.values() {
        counts.entry(key).or_default().push(count);
    }
    counts
}

#[test]
fn every_record_gives_its_keys_next_result_over_restarts_with_other_workers() {
    let records: Vec<String> = (0..3_000_u64).map(|number| format!("key-{}", number * number % 97)).collect();
    let mut expected = BTreeMap::<String, u64>::new();
    records.iter().for_each(|key| *expected.entry(key.clone()).or_default() += 1);
    let (source, sink, state) = (paced(records.into_iter()), Collected::new(), tempdir().unwrap());
    let mut starts = 0;
    for workers in [1, 3, 2, 4].into_iter().cycle() {
        starts += 1;
        assert!(starts < 100, "the job never comes to its end");
        let (from, to) = (source.clone(), sink.clone());
        let summary = part(job("running", state.path(), workers), &source, (4, 8), move |flow| {
            let (keys, rejected) = flow.source("keys", from.clone()).decode(lines());
            rejected.sink("rejected", Collected::new());
            keys.event_time(|_| shardflow::EventTime::from_millis(1), lag(0))
                .key_by(String::clone)
                .running()
                .count("counts")
                .map(|Count { key, value, .. }| (key, value))
                .sink("results", to.clone());
        });
        if summary.input_ended {
            break;
        }
    }
    assert!(starts > 3, "{starts} starts prove nothing");
    let expected: BTreeMap<_, Vec<u64>> =
        expected.into_iter().map(|(key, count)| (key, (1..=count).collect())).collect();
    assert_eq!(counts(&sink), expected);
}

#[test]
fn sums_go_on_without_end() {
    let (source, sums, state) =
        (paced(["a 5", "b 1", "c 3", "a 7"].map(str::to_owned).into_iter()), Collected::new(), tempdir().unwrap());
    source.pace.open();
    let (from, to) = (source.clone(), sums.clone());
    let run = job("sums", state.path(), 2).run(move |flow| {
        let (lines, rejected) = flow.source("lines", from.clone()).decode(lines());
        rejected.sink("rejected", Collected::new());
        lines
            .event_time(|_| shardflow::EventTime::from_millis(1), lag(0))
            .key_by(|line| line[..1].to_owned())
            .running()
            .sum("sums", |line| line[2..].parse().unwrap())
            .map(|sum| (sum.key, sum.value))
            .sink("to", to.clone());
    });
    run.unwrap();
    let mut sums = sums.values();
    sums.sort();
    // Both records of "a" are the first split's.
    let expected = [("a", 5), ("a", 12), ("b", 1), ("c", 3)].map(|(key, sum)| (key.to_owned(), sum));
    assert_eq!(sums, expected);
}

const KEYS: usize = 30_000;
const PASSES: u64 = 3;
const MEMORY: u64 = 16 << 20;
const VALUE: usize = 2_000;

fn wide_program(source: &Paced, sink: &Collected<(String, u64)>) -> impl Fn(&Flow<'_>) + Send + Sync + 'static {
    let (from, to) = (source.clone(), sink.clone());
    move |flow| {
        let (keys, rejected) = flow.source("keys", from.clone()).decode(lines());
        rejected.sink("rejected", Collected::new());
        keys.event_time(|_| shardflow::EventTime::from_millis(1), lag(0))
            .key_by(String::clone)
            .running()
            .fold("wide", || (0_u64, vec![7_u8; VALUE]), |(count, _), _| *count += 1)
            .map(|result| (result.key, result.value.0))
            .sink("results", to.clone());
    }
}

fn wide_job(state: &Path, workers: usize) -> Job {
    job("wide", state, workers).epoch(millis(20)).state_memory(MEMORY)
}

#[test]
fn state_beyond_its_memory_is_exact() {
    expect_passed(child("running::state_beyond_its_memory_in_a_process_of_its_own"));
}

#[test]
#[ignore = "run by state_beyond_its_memory_is_exact"]
fn state_beyond_its_memory_in_a_process_of_its_own() {
    let scrape = Scrape::install();
    let records = (0..PASSES).flat_map(|_| (0..KEYS).map(|number| format!("key-{}", number * 7919 % KEYS)));
    let (source, sink, state) = (paced(records), Collected::new(), tempdir().unwrap());
    let mut last = None;
    for (workers, commits) in [(2, 40), (1, 30), (3, u64::MAX)] {
        last = Some(part(wide_job(state.path(), workers), &source, (commits, 40), wide_program(&source, &sink)));
    }
    assert!(last.unwrap().input_ended);
    let expected: Vec<u64> = (1..=PASSES).collect();
    let counts = counts(&sink);
    assert_eq!(counts.len(), KEYS);
    let wrong: Vec<_> = counts.iter().filter(|(_, counts)| sorted(counts) != expected).take(3).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    // A quarter of the keys fit; what the last epochs touched may come on top.
    let entries = scrape.read().sum(names::STATE_ENTRIES, &[("step", "wide")]).unwrap();
    assert!(entries < KEYS as f64 / 2.0, "{entries} entries are in memory");
}

/// Much larger in memory than in a changelog, so that none of it is folded before it is asked for.
type Inflated = (u64, [u64; 32], [u64; 32], [u64; 32]);

#[test]
fn a_start_with_more_unfolded_state_than_memory_makes_room_and_goes_on() {
    let records = (0..2 * KEYS).map(|number| format!("key-{}", number % KEYS));
    let (source, sink, state) = (paced(records), Collected::new(), tempdir().unwrap());
    let program = || {
        let (from, to) = (source.clone(), sink.clone());
        move |flow: &Flow<'_>| {
            let (keys, rejected) = flow.source("keys", from.clone()).decode(lines());
            rejected.sink("rejected", Collected::new());
            keys.event_time(|_| shardflow::EventTime::from_millis(1), lag(0))
                .key_by(String::clone)
                .running()
                .fold("inflated", || (0, [0; 32], [0; 32], [0; 32]), |count: &mut Inflated, _| count.0 += 1)
                .map(|result| (result.key, result.value.0))
                .sink("results", to.clone());
        }
    };
    let first = wide_job(state.path(), 2).state_memory(1 << 30);
    assert!(!part(first, &source, (60, 40), program()).input_ended);
    // The source has nothing before several epochs are over: they are empty, and what has to leave memory is older.
    assert!(part(wide_job(state.path(), 2), &source, (u64::MAX, 40), program()).input_ended);
    let counts = counts(&sink);
    assert!(counts.len() == KEYS && counts.values().all(|counts| sorted(counts) == [1, 2]));
}

fn sorted(counts: &[u64]) -> Vec<u64> {
    let mut counts = counts.to_vec();
    // Splits of one key may be read by different workers: their records have no order.
    counts.sort_unstable();
    counts
}
