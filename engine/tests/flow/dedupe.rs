//! Dedupe: an id passes once per key within a horizon that rolls on in event time, and its state goes when it is over.

use std::sync::Arc;

use shardflow::testing::{Collected, Feed};
use shardflow::{Flow, json, millis, tumbling};
use tempfile::tempdir;

use crate::metrics::Scrape;
use crate::support::source::{Pace, Paced};
use crate::support::{Reading, job, lag, push, reading, run, start};

/// The ids that pass a horizon of 100 ms, by their event times.
fn program(source: Paced, step: &'static str, passed: Collected<(u64, u64)>) -> impl Fn(&Flow<'_>) + Send + Sync {
    move |flow| {
        let (readings, _rejected) = flow.source("readings", source.clone()).decode(json::<Reading>());
        readings
            .event_time(Reading::time, lag(0))
            .key_by(|reading| reading.key.clone())
            .dedupe(step, |reading| reading.id, millis(100))
            .window(tumbling(millis(1)).grace(millis(1_000_000)))
            .discard_late()
            .fold("passed", Vec::new, |ids, reading| ids.push((reading.id, reading.at)))
            .flat_map(|result| result.value)
            .sink("ids", passed.clone());
    }
}

#[test]
fn an_id_passes_once_a_key_and_horizon() {
    let feed = Feed::new();
    push(
        &feed,
        "s",
        &[
            reading("a", 1, 10, 0),
            reading("a", 1, 11, 0),
            // Another key is another id.
            reading("b", 1, 12, 0),
            // The last millisecond within the horizon, and the first beyond.
            reading("a", 1, 109, 0),
            reading("a", 2, 110, 0),
            reading("a", 1, 110, 0),
            // The horizon counts from the id that passed last.
            reading("a", 1, 209, 0),
            reading("a", 1, 210, 0),
        ],
    );
    feed.close();
    let passed = Collected::new();
    let state = tempdir().unwrap();
    let source = Paced { feed, pace: Pace::unlimited() };
    run(job("dedupe", state.path(), 2), program(source, "seen", passed.clone())).unwrap();
    let mut ids = passed.values();
    ids.sort_by_key(|(id, at)| (*at, *id));
    assert_eq!(ids, [(1, 10), (1, 12), (1, 110), (2, 110), (1, 210)]);
}

#[test]
fn an_id_that_was_seen_before_a_restart_is_known_after_it() {
    let feed = Feed::new();
    push(&feed, "s", &[reading("a", 1, 10, 0), reading("b", 2, 20, 0)]);
    let passed = Collected::new();
    let state = tempdir().unwrap();
    let pace = Pace::unlimited();
    let source = Paced { feed: feed.clone(), pace: Arc::clone(&pace) };
    for (workers, again) in [(1, 30), (3, 40), (2, 50)] {
        let running = start(job("dedupe", state.path(), workers), program(source.clone(), "seen", passed.clone()));
        let batches = pace.batches();
        push(&feed, "s", &[reading("a", 1, again, 0), reading("b", 2, again + 1, 0), reading("a", again, again, 0)]);
        running.until("the records to be read", || pace.batches() > batches);
        running.pass_commits(2);
        running.stop().unwrap();
    }
    feed.close();
    run(job("dedupe", state.path(), 4), program(source, "seen", passed.clone())).unwrap();
    let mut ids = passed.values();
    ids.sort_unstable();
    assert_eq!(ids, [(1, 10), (2, 20), (30, 30), (40, 40), (50, 50)]);
}

#[test]
fn the_state_of_ids_goes_when_their_horizon_is_over() {
    const STEP: &str = "seen-and-forgotten";
    let scrape = Scrape::install();
    let entries = || scrape.read().sum("shardflow_state_entries", &[("step", STEP)]).unwrap_or(0.0);
    let feed = Feed::new();
    let state = tempdir().unwrap();
    let source = Paced { feed: feed.clone(), pace: Pace::unlimited() };
    let running = start(job("expiry", state.path(), 2), program(source, STEP, Collected::new()));
    let ids: Vec<_> = (0..1_000).map(|id| reading(&format!("key-{}", id % 7), id, 50, 0)).collect();
    push(&feed, "s", &ids);
    running.until("the ids to be remembered", || entries() == 1_000.0);
    // Every further record is 20 ms later, so in the end only some are within the horizon. Memory is freed bit by bit.
    let mut later = 0;
    running.until("the ids to be forgotten", || {
        later += 1;
        push(&feed, "s", &[reading("later", 10_000 + later, 50 + later * 20, 0)]);
        entries() <= 10.0
    });
    assert!(later >= 5, "they were forgotten within the horizon");
    running.stop().unwrap();
}
