//! A sink that blocks stops the sources, and nothing is lost when it goes on.

use std::sync::Arc;

use shardflow::{Flow, json, millis, tumbling};
use tempfile::tempdir;

use crate::support::sink::{How, Place, Probe};
use crate::support::source::{Endless, Pace};
use crate::support::{EPOCH, Reading, Running, job, key_of, lag, reading, start, wait_until_still};

/// Ids of an endless source, in their order.
fn program(pace: &Arc<Pace>, ids: &Probe<u64>) -> impl Fn(&Flow<'_>) + Send + Sync + 'static {
    let (source, ids) = (Endless { make: number, pace: Arc::clone(pace) }, ids.clone());
    move |flow| {
        let (readings, _rejected) = flow.source("endless", source.clone()).decode(json::<Reading>());
        readings.map(|reading| reading.id).sink("ids", ids.clone());
    }
}

fn number(number: u64) -> Vec<u8> {
    reading("k", number, number, 1).bytes()
}

/// Goes on after a block: everything that was read is committed, once and in order.
fn goes_on(running: Running, pace: &Pace, ids: &Probe<u64>) {
    let before = pace.batches();
    ids.mend();
    running.until("the source to go on", || pace.batches() > before + 10);
    running.stop().unwrap();
    assert_eq!(ids.len() as u64, pace.batches() * 16);
    assert_eq!(ids.values(), (0..pace.batches() * 16).collect::<Vec<_>>());
}

/// Grants a little at each commit: enough to keep epochs filled, too little to fill memory while the test looks.
fn blocked(place: Place, workers: usize) {
    let (pace, ids, state) = (Pace::stopped(), Probe::new(), tempdir().unwrap());
    pace.grant(50);
    let running = start(job("blocked", state.path(), workers), program(&pace, &ids));
    running.until("the first results", || ids.len() == 50 * 16);
    ids.breaks(place, How::Block, 0);
    pace.grant(20);
    ids.wait_until_blocked();
    // Whatever there is to read from now on, it is read for three epochs at most.
    let commits = running.commits();
    wait_until_still(EPOCH * 20, || {
        pace.grant(1);
        pace.batches()
    });
    let read = pace.batches();
    pace.grant(1_000);
    wait_until_still(EPOCH * 20, || pace.batches());
    assert_eq!(pace.batches(), read, "{place:?}: the source reads on while the sink is blocked");
    assert_eq!(ids.len(), 50 * 16, "{place:?}");
    assert!(running.commits() <= commits + 3, "{place:?}: epochs are committed while the sink is blocked");
    goes_on(running, &pace, &ids);
}

#[test]
fn a_sink_that_blocks_while_it_stages_stops_the_source_until_it_goes_on() {
    blocked(Place::Stage, 1);
}

#[test]
fn a_sink_that_blocks_while_it_prepares_stops_the_source_until_it_goes_on() {
    blocked(Place::Prepare, 2);
}

#[test]
fn a_sink_that_blocks_while_it_flushes_stops_the_source_until_it_goes_on() {
    blocked(Place::Flush, 1);
}

#[test]
fn a_sink_that_blocks_while_it_commits_stops_the_source_until_it_goes_on() {
    blocked(Place::Commit, 2);
}

/// Records of one key whose worker is not the one that reads, each of about 1 KiB; all but the first are late.
fn late_ones(number: u64) -> Vec<u8> {
    let at = if number == 0 { 1_000_000_000 } else { number % 1_000 };
    reading(&key_of(1, 1_000), number, at, 1).bytes()
}

#[test]
fn a_worker_that_is_faster_than_another_stops_when_so_many_bytes_are_in_flight() {
    const LIMIT: u64 = 1 << 20;
    let (pace, late, state) = (Pace::stopped(), Probe::new(), tempdir().unwrap());
    late.breaks(Place::Stage, How::Block, 0);
    // So many epochs may be open that it is not they that stop the source.
    let job = job("bytes", state.path(), 2).in_flight_bytes(LIMIT).max_open_epochs(1_000);
    let (source, sink) = (Endless { make: late_ones, pace: Arc::clone(&pace) }, late.clone());
    let running = start(job, move |flow| {
        let (readings, _rejected) = flow.source("endless", source.clone()).decode(json::<Reading>());
        readings
            .event_time(Reading::time, lag(0))
            .key_by(|reading| reading.key.clone())
            .window(tumbling(millis(10)).grace(millis(0)))
            .late_to("late", sink.clone())
            .count("totals")
            .map(|result| result.value)
            .sink("counts", Probe::new());
    });
    pace.open();
    late.wait_until_blocked();
    wait_until_still(EPOCH * 20, || pace.bytes());
    let read = pace.bytes();
    // What is in flight, what one activation reads beyond it, and what was worked off before the sink blocked.
    assert!(read < 8 * LIMIT, "{read} bytes were read with {LIMIT} allowed in flight");
    late.mend();
    running.until("the source to go on", || pace.bytes() > read + 4 * LIMIT);
    running.stop().unwrap();
    assert_eq!(late.len() as u64, pace.batches() * 16 - 1);
}
