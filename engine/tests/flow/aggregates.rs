//! Every built-in aggregate, and a user's own, against the same computed by hand over all records of a key and window.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use shardflow::testing::{Collected, Feed};
use shardflow::window::aggregate::{Aggregate, count, distinct, max, mean, min, sum, sum_f64, sum_i64};
use shardflow::{Record, Stream, WindowResult, json, millis, sliding};
use tempfile::tempdir;

use crate::support::{Reading, job, lag, push, reading, run, sorted};

/// Sizes and slides of the windows. The last divides unevenly.
const WINDOWS: [(u64, u64); 3] = [(50, 50), (50, 10), (50, 15)];

fn records() -> Vec<Reading> {
    let mut random = StdRng::seed_from_u64(9);
    let one = |number: u64| {
        let (key, at) = (format!("key-{}", random.random_range(0..4)), number / 2 + random.random_range(0..10));
        reading(&key, random.random_range(0..60), at, random.random_range(0..1_000))
    };
    (0..1_000).map(one).collect()
}

/// The windows of all records: nothing is late with this lag.
fn windows(size: u64, slide: u64) -> BTreeMap<(String, u64), Vec<Reading>> {
    let mut windows = BTreeMap::<_, Vec<_>>::new();
    for record in records() {
        let starts = (0..=record.at).step_by(slide as usize).filter(|start| record.at < start + size);
        for start in starts {
            windows.entry((record.key.clone(), start)).or_default().push(record.clone());
        }
    }
    windows
}

/// Checks what `step` makes of each window, by `naive`.
fn check<V: Record + PartialEq + std::fmt::Debug>(
    step: impl for<'scope> Fn(shardflow::flow::OnTime<'scope, String, Reading>) -> Stream<'scope, WindowResult<String, V>>
    + Send
    + Sync
    + 'static,
    naive: impl Fn(&[Reading]) -> V,
) {
    let step = Arc::new(step);
    for (size, slide) in WINDOWS {
        let feed = Feed::new();
        push(&feed, "s", &records());
        feed.close();
        let results = Collected::new();
        let (sink, step) = (results.clone(), Arc::clone(&step));
        let state = tempdir().unwrap();
        run(job("aggregates", state.path(), 3), move |flow| {
            let (readings, _rejected) = flow.source("readings", feed.clone()).decode(json::<Reading>());
            let keyed = readings.event_time(Reading::time, lag(10)).key_by(|reading| reading.key.clone());
            step(keyed.window(sliding(millis(size), millis(slide)).grace(millis(0))).discard_late())
                .map(|result| (result.key, result.window.start().as_millis(), result.value))
                .sink("results", sink.clone());
        })
        .unwrap();
        let rows = results.values();
        let found: BTreeMap<_, _> = rows.iter().map(|(key, start, value)| ((key.clone(), *start), value)).collect();
        assert_eq!(found.len(), rows.len(), "a window came twice");
        let expected: BTreeMap<_, _> =
            windows(size, slide).into_iter().map(|(at, records)| (at, naive(&records))).collect();
        assert_eq!(found, expected.iter().map(|(at, value)| (at.clone(), value)).collect(), "{size} every {slide}");
    }
}

#[test]
fn counts_sums_and_extremes_are_those_of_all_records() {
    check(|on_time| on_time.count("step"), |records| records.len() as u64);
    check(|on_time| on_time.sum("step", |r| r.value), |records| records.iter().map(|r| u128::from(r.value)).sum());
    check(|on_time| on_time.min("step", |r| r.value), |records| records.iter().map(|r| r.value).min());
    check(|on_time| on_time.max("step", |r| r.id), |records| records.iter().map(|r| r.id).max());
}

#[test]
fn means_and_distinct_counts_are_those_of_all_records() {
    let total = |records: &[Reading]| records.iter().map(|r| r.value as f64).sum::<f64>();
    check(
        |on_time| on_time.mean("step", |r| r.value as f64),
        move |records| Some(total(records) / records.len() as f64),
    );
    // Fewer than 60 different values in a window: the sketch is exact there.
    let distinct = |records: &[Reading]| records.iter().map(|r| r.id).collect::<BTreeSet<_>>().len() as u64;
    check(|on_time| on_time.distinct("step", |r| r.id), distinct);
}

#[test]
fn a_tuple_of_aggregates_is_computed_in_one_pass() {
    check(
        |on_time| {
            let signed = sum_i64(|r: &Reading| 500 - r.value as i64);
            let (least, most) = (min(|r: &Reading| r.value), max(|r: &Reading| r.value));
            on_time.aggregate("step", (count(), sum(|r: &Reading| r.value), least, most, signed))
        },
        |records| {
            let values: Vec<u64> = records.iter().map(|r| r.value).collect();
            let signed = values.iter().map(|value| 500 - i128::from(*value)).sum::<i128>();
            let total = values.iter().map(|value| u128::from(*value)).sum::<u128>();
            (values.len() as u64, total, values.iter().min().copied(), values.iter().max().copied(), signed)
        },
    );
    check(
        |on_time| {
            let floats = (mean(|r: &Reading| r.id as f64), sum_f64(|r: &Reading| r.value as f64 / 2.0));
            on_time.aggregate("step", (floats, distinct(|r: &Reading| r.key.clone())))
        },
        |records| {
            let ids: f64 = records.iter().map(|r| r.id as f64).sum();
            let halves: f64 = records.iter().map(|r| r.value as f64 / 2.0).sum();
            ((Some(ids / records.len() as f64), halves), 1)
        },
    );
}

/// The values in the order of their ids: a state of any size, with a result of another type.
struct ByIds;

impl Aggregate<Reading> for ByIds {
    type Acc = BTreeMap<u64, u64>;
    type Out = Vec<u64>;

    fn empty(&self) -> Self::Acc {
        BTreeMap::new()
    }

    fn add(&self, acc: &mut Self::Acc, record: &Reading) {
        *acc.entry(record.id).or_default() += record.value;
    }

    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc) {
        other.into_iter().for_each(|(id, value)| *acc.entry(id).or_default() += value);
    }

    fn finish(&self, acc: Self::Acc) -> Vec<u64> {
        acc.into_values().collect()
    }
}

#[test]
fn a_user_may_bring_an_aggregate() {
    check(
        |on_time| on_time.aggregate("step", ByIds),
        |records| {
            let ids: BTreeSet<u64> = records.iter().map(|r| r.id).collect();
            let of = |id: u64| records.iter().filter(|r| r.id == id).map(|r| r.value).sum();
            sorted(ids.into_iter().collect()).into_iter().map(of).collect()
        },
    );
}
