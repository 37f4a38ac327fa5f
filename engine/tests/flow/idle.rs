//! A silent split holds time back, until it is idle. Idleness is a matter of the wall clock, so these tests wait for
//! commits, of which there is one each 10 ms, and never say how soon something happens.

use std::time::{Duration, Instant};

use shardflow::testing::Feed;
use shardflow::{Flow, Lag, hours, json, millis, tumbling};
use tempfile::tempdir;

use crate::support::sink::Probe;
use crate::support::{Reading, job, push, reading, sorted, start};

/// A split is idle after this, where it ever is.
const IDLE: Duration = millis(60);

#[derive(Clone)]
struct Counting {
    feed: Feed,
    lag: Lag,
    /// Start of the window and number of records.
    counts: Probe<(u64, u64)>,
    late: Probe<Reading>,
}

impl Counting {
    fn new(lag: Lag) -> Self {
        Self { feed: Feed::new(), lag, counts: Probe::new(), late: Probe::new() }
    }

    /// Counts all records in windows of 10 ms.
    fn program(&self) -> impl Fn(&Flow<'_>) + Send + Sync + 'static {
        let this = self.clone();
        move |flow| {
            let (readings, _rejected) = flow.source("readings", this.feed.clone()).decode(json::<Reading>());
            readings
                .event_time(Reading::time, this.lag)
                .key_by(|_| ())
                .window(tumbling(millis(10)).grace(millis(0)))
                .late_to("late", this.late.clone())
                .count("totals")
                .map(|result| (result.window.start().as_millis(), result.value))
                .sink("counts", this.counts.clone());
        }
    }

    fn push(&self, split: &str, at: u64) {
        push(&self.feed, split, &[reading("k", at, at, 1)]);
    }

    /// Two splits, of which one has much to read and the other nothing.
    fn one_silent(&self) {
        self.feed.open("silent", &[]);
        [5, 15, 25].into_iter().for_each(|at| self.push("busy", at));
    }
}

/// Lets so much time pass that a split which may be idle is.
fn pass_idleness(running: &crate::support::Running) {
    let since = Instant::now();
    running.until("time to pass", || since.elapsed() > IDLE * 3);
    running.pass_commits(5);
}

#[test]
fn a_split_that_was_never_read_holds_time_back() {
    for lag in [Lag::of(millis(0)).never_idle(), Lag::of(millis(0)).idle_after(hours(1)), Lag::of(millis(0))] {
        let counting = Counting::new(lag);
        counting.one_silent();
        let state = tempdir().unwrap();
        let running = start(job("held", state.path(), 2), counting.program());
        pass_idleness(&running);
        assert_eq!(counting.counts.values(), []);
        // What it was waited for, and not a moment longer.
        counting.push("silent", 12);
        running.until("the first window", || counting.counts.len() == 1);
        running.pass_commits(5);
        assert_eq!(counting.counts.values(), [(0, 1)]);
        running.stop().unwrap();
    }
}

#[test]
fn a_silent_split_stops_holding_time_back_after_a_while() {
    let counting = Counting::new(Lag::of(millis(0)).idle_after(IDLE));
    counting.one_silent();
    let state = tempdir().unwrap();
    let running = start(job("idle", state.path(), 2), counting.program());
    running.until("time to go on without the silent split", || counting.counts.len() == 2);
    assert_eq!(counting.counts.values(), [(0, 1), (10, 1)]);
    running.stop().unwrap();
}

#[test]
fn an_idle_split_that_wakes_holds_time_again_and_what_time_has_passed_is_late() {
    let counting = Counting::new(Lag::of(millis(0)).idle_after(IDLE));
    counting.one_silent();
    let state = tempdir().unwrap();
    let running = start(job("wakes", state.path(), 2), counting.program());
    running.until("time to go on without the silent split", || counting.counts.len() == 2);
    counting.push("silent", 7);
    running.until("the late record", || counting.late.len() == 1);
    assert_eq!(counting.late.values(), [reading("k", 7, 7, 1)]);
    // Time stands at 25. The window [20, 30) is open, and waits for both.
    counting.push("silent", 26);
    running.pass_commits(5);
    counting.push("silent", 31);
    counting.push("busy", 31);
    running.until("the window of both", || counting.counts.len() == 3);
    assert_eq!(counting.counts.values().last(), Some(&(20, 2)));
    running.stop().unwrap();
}

#[test]
fn time_stands_while_all_splits_are_idle() {
    let counting = Counting::new(Lag::of(millis(0)).idle_after(IDLE));
    counting.one_silent();
    let state = tempdir().unwrap();
    let running = start(job("all-idle", state.path(), 2), counting.program());
    running.until("time to go on without the silent split", || counting.counts.len() == 2);
    pass_idleness(&running);
    assert_eq!(counting.counts.len(), 2, "the open window fired though nobody knows how late it is");
    // Whoever wakes first takes time on: the other is idle still.
    counting.push("busy", 41);
    running.until("the open window", || counting.counts.len() == 3);
    assert_eq!(counting.late.len(), 0);
    running.stop().unwrap();
}

#[test]
fn an_idle_split_holds_time_again_after_a_restart() {
    let counting = Counting::new(Lag::of(millis(0)).idle_after(IDLE));
    counting.one_silent();
    let state = tempdir().unwrap();
    let running = start(job("again", state.path(), 2), counting.program());
    running.until("time to go on without the silent split", || counting.counts.len() == 2);
    running.stop().unwrap();
    let waiting = Counting { lag: Lag::of(millis(0)).never_idle(), ..counting.clone() };
    let running = start(job("again", state.path(), 1), waiting.program());
    waiting.push("busy", 35);
    pass_idleness(&running);
    assert_eq!(waiting.counts.len(), 2);
    // Windows that time has closed without it stay closed: nothing is counted twice.
    waiting.push("silent", 8);
    waiting.push("silent", 31);
    running.until("the window that both have passed", || waiting.counts.len() == 3);
    assert_eq!(sorted(waiting.counts.values()), [(0, 1), (10, 1), (20, 1)]);
    assert_eq!(waiting.late.len(), 1);
    running.stop().unwrap();
}

#[test]
fn the_end_of_a_split_lets_time_go_on() {
    let counting = Counting::new(Lag::of(millis(0)).never_idle());
    counting.one_silent();
    let state = tempdir().unwrap();
    let running = start(job("ended", state.path(), 2), counting.program());
    running.pass_commits(5);
    assert_eq!(counting.counts.len(), 0);
    counting.feed.end("silent");
    running.until("the windows that the busy split has passed", || counting.counts.len() == 2);
    counting.feed.close();
    assert!(running.end().unwrap().input_ended);
    assert_eq!(counting.counts.values(), [(0, 1), (10, 1), (20, 1)]);
}
