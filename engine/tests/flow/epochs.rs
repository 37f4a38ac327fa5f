//! Stateful steps work in the order of epochs: what comes early waits, and counts as not yet worked off.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use shardflow::testing::Feed;
use shardflow::{Flow, json, millis, tumbling};
use tempfile::tempdir;

use crate::metrics::Scrape;
use crate::support::sink::Probe;
use crate::support::source::{Pace, Paced};
use crate::support::{DEADLINE, EPOCH, Reading, job, key_of, lag, lock, push, reading, start};

/// The id of the record at which a worker waits until the test lets it go on.
const HELD: u64 = 99;

#[derive(Default)]
struct Gate {
    /// Whether somebody has come, and whether the gate is open.
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        lock(&self.state).0 = true;
        self.changed.notify_all();
        self.wait(|state| state.1);
    }

    fn wait_until_held(&self) {
        self.wait(|state| state.0);
    }

    fn open(&self) {
        lock(&self.state).1 = true;
        self.changed.notify_all();
    }

    fn wait(&self, until: impl Fn(&(bool, bool)) -> bool) {
        let state = lock(&self.state);
        let waited = self.changed.wait_timeout_while(state, DEADLINE, |state| !until(state));
        assert!(!waited.unwrap_or_else(PoisonError::into_inner).1.timed_out(), "nobody came to the gate, or opened it");
    }
}

#[derive(Clone)]
struct Ordered {
    source: Paced,
    gate: Arc<Gate>,
    /// Start of the window, and its ids in the order in which they were folded.
    rows: Probe<(u64, Vec<u64>)>,
}

impl Ordered {
    fn new() -> Self {
        let source = Paced { feed: Feed::new(), pace: Pace::unlimited() };
        Self { source, gate: Arc::default(), rows: Probe::new() }
    }

    /// Lists the ids of each window of 10 ms, in the step `step`.
    fn program(&self, step: &'static str) -> impl Fn(&Flow<'_>) + Send + Sync + 'static {
        let this = self.clone();
        move |flow| {
            let gate = Arc::clone(&this.gate);
            let (readings, _rejected) = flow.source("readings", this.source.clone()).decode(json::<Reading>());
            readings
                .event_time(Reading::time, lag(0))
                .inspect(move |reading| {
                    if reading.id == HELD {
                        gate.pass();
                    }
                })
                .key_by(|reading| reading.key.clone())
                .window(tumbling(millis(10)).grace(millis(0)))
                .discard_late()
                .fold(step, Vec::new, |ids: &mut Vec<u64>, reading| ids.push(reading.id))
                .map(|result| (result.window.start().as_millis(), result.value))
                .sink("rows", this.rows.clone());
        }
    }
}

#[test]
fn a_window_does_not_close_over_records_that_wait_for_their_epoch() {
    const STEP: &str = "waiting-windows";
    let scrape = Scrape::install();
    let waiting = || scrape.read().sum("shardflow_stash_records", &[("step", STEP)]).unwrap_or(0.0);
    let (ordered, state, key) = (Ordered::new(), tempdir().unwrap(), key_of(0, 1));
    let feed = &ordered.source.feed;
    // The splits are read by one worker each. The second hangs in an early epoch, with its time far ahead.
    feed.open("a", &[]);
    push(feed, "b", &[reading(&key, HELD, 5, 1), reading(&key, 1, 60, 1)]);
    let running = start(job("early", state.path(), 2).max_open_epochs(1_000), ordered.program(STEP));
    ordered.gate.wait_until_held();
    // The first goes on into later epochs, with records of the same window and then beyond it.
    let mut id = 100;
    running.until("a record to wait", || {
        id += 1;
        push(feed, "a", &[reading(&key, id, 6, 1)]);
        waiting() > 0.0
    });
    let read = ordered.source.pace.batches();
    push(feed, "a", &[reading(&key, 1_000, 50, 1)]);
    running.until("time to have come on", || ordered.source.pace.batches() > read);
    ordered.gate.open();
    running.until("the window", || ordered.rows.len() > 0);
    feed.close();
    assert!(running.end().unwrap().input_ended);
    let rows = ordered.rows.values();
    let starts: Vec<u64> = rows.iter().map(|(start, _)| *start).collect();
    assert_eq!(starts, [0, 50, 60], "a window came twice, or too early");
    assert_eq!(rows[0].1.len() as u64, id - 100 + 1);
}

#[test]
fn a_child_splits_records_are_folded_after_its_parents_though_another_worker_reads_them() {
    let (ordered, state, key) = (Ordered::new(), tempdir().unwrap(), key_of(1, 1));
    let feed = &ordered.source.feed;
    // The first worker reads one parent and goes on with another split; so the second, which has none once the other parent
    // has ended, gets the child.
    push(feed, "a-parent", &[reading(&key, HELD, 5, 1)]);
    feed.open("b-parent", &[]);
    // Before the job begins: its worker comes to the held record and reads no further.
    ["a-parent", "b-parent"].iter().for_each(|parent| feed.end(parent));
    feed.open("c", &[]);
    feed.open("z-child", &["a-parent", "b-parent"]);
    push(feed, "z-child", &[reading(&key, 1, 6, 1)]);
    let state_folder = state.path().join("state");
    // Epochs so long that the child could be read in the same one as its parent.
    let running =
        start(job("parents", &state_folder, 2).epoch(EPOCH * 20).max_open_epochs(1_000), ordered.program("totals"));
    ordered.gate.wait_until_held();
    running.until("the child to be read", || ordered.source.pace.batches() == 2);
    ordered.gate.open();
    feed.close();
    assert!(running.end().unwrap().input_ended);
    assert_eq!(ordered.rows.values(), [(0, vec![HELD, 1])]);
}
