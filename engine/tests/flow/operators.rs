//! Each operator, on a few records whose results one can see by eye.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shardflow::testing::{Collected, Feed};
use shardflow::{Flow, Untimed, json, millis, sliding, tumbling};
use tempfile::tempdir;

use crate::support::{Reading, job, lag, push, reading, run, sorted};

/// A feed of these splits, at its end.
fn feed(splits: &[(&str, &[Reading])]) -> Feed {
    let feed = Feed::new();
    splits.iter().for_each(|(split, records)| push(&feed, split, records));
    feed.close();
    feed
}

/// Runs `program` on two workers, to its end.
fn on_two_workers(program: impl Fn(&Flow<'_>) + Send + Sync + 'static) {
    let state = tempdir().unwrap();
    let summary = run(job("operators", state.path(), 2), program).unwrap();
    assert!(summary.input_ended);
}

/// The readings of a source; what cannot be decoded is dropped.
fn readings<'scope>(flow: &Flow<'scope>, name: &str, feed: &Feed) -> Untimed<'scope, Reading> {
    flow.source(name, feed.clone()).decode(json()).0
}

fn numbered(range: std::ops::Range<u64>) -> Vec<Reading> {
    range.map(|number| reading(if number % 2 == 0 { "even" } else { "odd" }, number, number * 10, number)).collect()
}

#[test]
fn stateless_operators_work_on_records_with_and_without_event_time() {
    let feed = feed(&[("a", &numbered(0..10)), ("b", &numbered(10..20))]);
    let (untimed, timed) = (Collected::new(), Collected::new());
    let looked = Arc::new(AtomicU64::new(0));
    let (to_untimed, to_timed, count) = (untimed.clone(), timed.clone(), Arc::clone(&looked));
    on_two_workers(move |flow| {
        let (early, later) = (Arc::clone(&count), Arc::clone(&count));
        let look = move |counter: &Arc<AtomicU64>| {
            counter.fetch_add(1, Ordering::SeqCst);
        };
        readings(flow, "first", &feed)
            .filter(|reading| reading.id < 12)
            .inspect(move |_| look(&early))
            .flat_map(|reading| [reading.id, reading.id + 100])
            .map(|id| id * 2)
            .sink("untimed", to_untimed.clone());
        readings(flow, "second", &feed)
            .event_time(Reading::time, lag(0))
            .filter(|reading| reading.id >= 12)
            .inspect(move |_| look(&later))
            .flat_map(|reading| vec![reading.id; (reading.id % 3) as usize])
            .map(|id| id + 1)
            .sink("timed", to_timed.clone());
    });
    let doubled = (0..12_u64).flat_map(|id| [id * 2, (id + 100) * 2]);
    assert_eq!(sorted(untimed.values()), sorted(doubled.collect()));
    let repeated = (12..20_u64).flat_map(|id| vec![id + 1; (id % 3) as usize]);
    assert_eq!(sorted(timed.values()), repeated.collect::<Vec<_>>());
    assert_eq!(looked.load(Ordering::SeqCst), 20);
}

#[test]
fn a_split_stream_comes_together_again_by_union() {
    let feed = feed(&[("a", &numbered(0..30))]);
    let (evens, odds, all) = (Collected::new(), Collected::new(), Collected::new());
    let (to_evens, to_odds, to_all) = (evens.clone(), odds.clone(), all.clone());
    on_two_workers(move |flow| {
        let ids = readings(flow, "readings", &feed).event_time(Reading::time, lag(0)).map(|reading| reading.id);
        let (even, odd) = ids.split(|id| id % 2 == 0);
        even.clone().sink("evens", to_evens.clone());
        odd.clone().sink("odds", to_odds.clone());
        even.union(odd).sink("all", to_all.clone());
    });
    assert_eq!(evens.values(), (0..30).step_by(2).collect::<Vec<u64>>());
    assert_eq!(odds.values(), (1..30).step_by(2).collect::<Vec<u64>>());
    assert_eq!(sorted(all.values()), (0..30).collect::<Vec<u64>>());
}

#[test]
fn windows_over_a_union_wait_for_both_sources() {
    let (fast, slow) = (feed(&[("f", &numbered(0..100))]), feed(&[("s", &numbered(0..3))]));
    let totals = Collected::new();
    let sink = totals.clone();
    on_two_workers(move |flow| {
        let fast = readings(flow, "fast", &fast).event_time(Reading::time, lag(0));
        let slow = readings(flow, "slow", &slow).event_time(Reading::time, lag(0));
        fast.union(slow)
            .key_by(|reading| reading.key.clone())
            .window(tumbling(millis(100)).grace(millis(0)))
            .discard_late()
            .count("totals")
            .map(|result| (result.key, result.window.start().as_millis(), result.value))
            .sink("counts", sink.clone());
    });
    let mut expected = Vec::new();
    for start in (0..1_000).step_by(100) {
        let extra = if start == 0 { (2, 1) } else { (0, 0) };
        expected.push(("even".to_owned(), start, 5 + extra.0));
        expected.push(("odd".to_owned(), start, 5 + extra.1));
    }
    assert_eq!(sorted(totals.values()), sorted(expected));
}

#[test]
fn records_of_a_key_and_split_are_folded_in_their_order() {
    let feed = feed(&[("a", &numbered(0..200))]);
    let folded = Collected::new();
    let sink = folded.clone();
    on_two_workers(move |flow| {
        readings(flow, "readings", &feed)
            .event_time(Reading::time, lag(0))
            .key_by(|reading| reading.id % 5)
            .window(tumbling(millis(1_000)).grace(millis(0)))
            .discard_late()
            .fold("ids", Vec::new, |ids: &mut Vec<u64>, reading| ids.push(reading.id))
            .map(|result| (result.window.start().as_millis(), result.key, result.value))
            .sink("folded", sink.clone());
    });
    let folded = sorted(folded.values());
    assert_eq!(folded.len(), 10);
    for (start, key, ids) in folded {
        assert_eq!(ids, (start / 10..start / 10 + 100).filter(|id| id % 5 == key).collect::<Vec<_>>());
    }
}

/// Records of one split with lag 0, so that each is judged by the greatest time before it. Windows are of 10 ms.
fn disordered() -> Feed {
    feed(&[(
        "a",
        &[
            reading("k", 1, 5, 1),
            reading("k", 2, 14, 1),
            // Late without grace, and not with a grace of 5 ms: the watermark is 14.
            reading("k", 3, 9, 1),
            reading("k", 4, 16, 1),
            // Late in both: the watermark is 16.
            reading("k", 5, 8, 1),
            reading("k", 6, 30, 1),
        ],
    )])
}

type Counts = Vec<(u64, u64)>;

fn counted(windows: impl shardflow::window::Windowing + Copy + Send + Sync + 'static) -> (Counts, Vec<u64>) {
    let (counts, late) = (Collected::new(), Collected::new());
    let (to_counts, to_late) = (counts.clone(), late.clone());
    on_two_workers(move |flow| {
        let to_late = to_late.clone();
        readings(flow, "readings", &disordered())
            .event_time(Reading::time, lag(0))
            .key_by(|reading| reading.key.clone())
            .window(windows)
            .late_with(|late| late.map(|reading| reading.id).sink("late", to_late))
            .count("totals")
            .map(|result| (result.window.start().as_millis(), result.value))
            .sink("counts", to_counts.clone());
    });
    (sorted(counts.values()), late.values())
}

#[test]
fn a_record_is_late_when_its_windows_end_plus_grace_has_passed() {
    assert_eq!(counted(tumbling(millis(10)).grace(millis(0))), (vec![(0, 1), (10, 2), (30, 1)], vec![3, 5]));
    assert_eq!(counted(tumbling(millis(10)).grace(millis(5))), (vec![(0, 2), (10, 2), (30, 1)], vec![5]));
    assert_eq!(counted(tumbling(millis(10)).grace(millis(50))), (vec![(0, 3), (10, 2), (30, 1)], vec![]));
}

#[test]
fn a_record_counts_in_those_sliding_windows_that_are_still_open() {
    let (counts, late) = counted(sliding(millis(10), millis(5)).grace(millis(0)));
    // Record 3 (at 9) finds [0, 10) closed and [5, 15) open; record 5 (at 8) finds both closed.
    assert_eq!(counts, [(0, 1), (5, 3), (10, 2), (15, 1), (25, 1), (30, 1)]);
    assert_eq!(late, [5]);
}

#[test]
fn discarded_late_records_are_nowhere() {
    let counts = Collected::new();
    let sink = counts.clone();
    on_two_workers(move |flow| {
        readings(flow, "readings", &disordered())
            .event_time(Reading::time, lag(0))
            .key_by(|reading| reading.key.clone())
            .window(tumbling(millis(10)).grace(millis(0)))
            .discard_late()
            .count("totals")
            .map(|result| result.value)
            .sink("counts", sink.clone());
    });
    assert_eq!(counts.values().iter().sum::<u64>(), 4);
}

#[test]
fn windows_of_windows_are_timed_by_the_windows_they_come_from() {
    let feed = feed(&[("a", &numbered(0..100)), ("b", &numbered(100..200))]);
    let totals = Collected::new();
    let sink = totals.clone();
    on_two_workers(move |flow| {
        readings(flow, "readings", &feed)
            .event_time(Reading::time, lag(0))
            .key_by(|reading| reading.key.clone())
            .window(tumbling(millis(100)).grace(millis(0)))
            .discard_late()
            .count("tenths")
            .map(|result| result.value)
            .key_by(|_| ())
            .window(tumbling(millis(1_000)).grace(millis(0)))
            .late_with(|late| {
                late.map(|count| panic!("a result of {count} came late")).sink("late", Collected::<()>::new())
            })
            .sum("seconds", |count| *count)
            .map(|result| (result.window.start().as_millis(), result.value))
            .sink("totals", sink.clone());
    });
    assert_eq!(totals.values(), [(0, 100), (1_000, 100)]);
}

#[test]
fn rejected_records_tell_why_and_where() {
    let feed = Feed::new();
    push(&feed, "s", &numbered(0..2));
    feed.push("s", "{\"key\":");
    push(&feed, "s", &numbered(2..3));
    feed.push("s", b"\xff\xfe");
    feed.close();
    let (good, bad) = (Collected::new(), Collected::new());
    let (to_good, to_bad) = (good.clone(), bad.clone());
    on_two_workers(move |flow| {
        let (values, rejected) = flow.source("readings", feed.clone()).decode(json::<Reading>());
        values.map(|reading| reading.id).sink("good", to_good.clone());
        rejected.map(|rejected| (rejected.raw, rejected.split, rejected.position)).sink("bad", to_bad.clone());
    });
    assert_eq!(good.values(), [0, 1, 2]);
    let place = |raw: &str, position: &str| (raw.to_owned(), "s".to_owned(), position.to_owned());
    assert_eq!(bad.values(), [place("{\"key\":", "2"), place("\u{fffd}\u{fffd}", "4")]);
}

#[test]
fn a_stream_that_nothing_is_made_of_does_not_stop_the_others() {
    // More than the sources may have in flight, towards a keyed stream that nobody takes.
    let feed = Feed::new();
    let text = "x".repeat(4_000);
    (0..1_000_u64).for_each(|id| push(&feed, "s", &[reading(&text, id, id, 1)]));
    feed.close();
    let ids = Collected::new();
    let sink = ids.clone();
    let state = tempdir().unwrap();
    let job = job("unused", state.path(), 1).in_flight_bytes(1 << 20);
    run(job, move |flow| {
        let timed = readings(flow, "readings", &feed).event_time(Reading::time, lag(0));
        drop(timed.clone().key_by(|reading| reading.key.clone()));
        timed.map(|reading| reading.id).sink("ids", sink.clone());
    })
    .unwrap();
    assert_eq!(ids.values(), (0..1_000).collect::<Vec<u64>>());
}
