//! A panic in any of a user's closures ends the job with an error that names the step. The last committed epoch stands: the
//! job goes on from there with the closure mended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shardflow::testing::{Collected, Feed};
use shardflow::window::aggregate::Aggregate;
use shardflow::{Decoder, ErrorKind, Flow, hours, millis, tumbling};
use tempfile::tempdir;

use crate::support::sink::Probe;
use crate::support::{Reading, job, lag, push, reading, run, sorted, start};

/// Where the program panics, and what the error must name.
const CLOSURES: [(&str, &str); 16] = [
    ("decode", "step \"decode after readings\""),
    ("reject", "step \"map #1\""),
    ("early map", "step \"map #2\""),
    ("early filter", "step \"filter #3\""),
    ("early flat_map", "step \"flat_map #4\""),
    ("early inspect", "step \"inspect #5\""),
    ("event_time", "step \"event_time after readings\""),
    ("map", "step \"map #6\""),
    ("filter", "step \"filter #7\""),
    ("flat_map", "step \"flat_map #8\""),
    ("inspect", "step \"inspect #9\""),
    ("split", "step \"split #10\""),
    ("key_by", "step \"key_by #11\""),
    ("id", "step \"seen\""),
    ("add", "step \"totals\""),
    ("result", "step \"map #12\""),
];

/// Panics at one place, on the poisoned record, while it is armed.
#[derive(Clone)]
struct Trap {
    place: &'static str,
    armed: Arc<AtomicBool>,
}

impl Trap {
    fn new(place: &'static str) -> Self {
        Self { place, armed: Arc::new(AtomicBool::new(true)) }
    }

    fn mend(&self) {
        self.armed.store(false, Ordering::SeqCst);
    }

    fn at(&self, place: &str, poisoned: bool) {
        if poisoned && place == self.place && self.armed.load(Ordering::SeqCst) {
            panic!("no tariff for this record");
        }
    }

    /// A closure that only looks.
    fn on(&self, place: &'static str) -> impl Fn(&Reading) + Clone + Send + Sync + 'static {
        let trap = self.clone();
        move |reading| trap.at(place, reading.value == POISON)
    }
}

const POISON: u64 = 13;

struct Decoding(Trap);

impl Decoder for Decoding {
    type Output = Reading;

    fn decode(&self, raw: &[u8]) -> Result<Reading, String> {
        let decoded = serde_json::from_slice(raw).map_err(|error| error.to_string());
        decoded.inspect(|reading: &Reading| self.0.at("decode", reading.value == POISON))
    }
}

/// Sums values; panics where the trap says.
struct Totals(Trap);

impl Aggregate<Reading> for Totals {
    type Acc = BTreeMap<u64, u64>;
    type Out = (u64, u64);

    fn empty(&self) -> Self::Acc {
        BTreeMap::new()
    }

    fn add(&self, acc: &mut Self::Acc, record: &Reading) {
        self.0.at("add", record.value == POISON);
        acc.insert(record.id, record.value);
    }

    fn merge(&self, _acc: &mut Self::Acc, _other: Self::Acc) {}

    fn finish(&self, acc: Self::Acc) -> (u64, u64) {
        self.0.at("finish", acc.values().any(|value| *value == POISON));
        (acc.len() as u64, acc.values().sum())
    }
}

#[derive(Clone)]
struct Trapped {
    feed: Feed,
    trap: Trap,
    rows: Probe<(String, u64, (u64, u64))>,
}

impl Trapped {
    fn new(place: &'static str) -> Self {
        Self { feed: Feed::new(), trap: Trap::new(place), rows: Probe::new() }
    }

    fn program(&self) -> impl Fn(&Flow<'_>) + Send + Sync + 'static {
        let this = self.clone();
        move |flow| this.build(flow)
    }

    fn build(&self, flow: &Flow<'_>) {
        let on = |place| self.trap.on(place);
        let (early_map, early_filter, early_flat_map) = (on("early map"), on("early filter"), on("early flat_map"));
        let (map, filter, flat_map, split) = (on("map"), on("filter"), on("flat_map"), on("split"));
        let (event_time, key_by, id, result) = (on("event_time"), on("key_by"), on("id"), self.trap.clone());
        let reject = self.trap.clone();
        let (readings, rejected) = flow.source("readings", self.feed.clone()).decode(Decoding(self.trap.clone()));
        rejected.map(move |rejected| reject.at("reject", rejected.raw == "bad")).sink("rejected", Collected::new());
        let seen = move |look: &dyn Fn(&Reading), reading: Reading| {
            look(&reading);
            reading
        };
        let (matching, other) = readings
            .map(move |reading| seen(&early_map, reading))
            .filter(move |reading| {
                early_filter(reading);
                true
            })
            .flat_map(move |reading| [seen(&early_flat_map, reading)])
            .inspect(on("early inspect"))
            .event_time(
                move |reading| {
                    event_time(reading);
                    reading.time()
                },
                lag(0),
            )
            .map(move |reading| seen(&map, reading))
            .filter(move |reading| {
                filter(reading);
                true
            })
            .flat_map(move |reading| [seen(&flat_map, reading)])
            .inspect(on("inspect"))
            .split(move |reading| {
                split(reading);
                reading.id % 2 == 0
            });
        matching
            .union(other)
            .key_by(move |reading| {
                key_by(reading);
                reading.key.clone()
            })
            .dedupe(
                "seen",
                move |reading| {
                    id(reading);
                    reading.id
                },
                hours(1),
            )
            .window(tumbling(millis(10)).grace(millis(0)))
            .discard_late()
            .aggregate("totals", Totals(self.trap.clone()))
            .map(move |row| {
                result.at("result", row.value.1 == 5 + 2 * POISON);
                (row.key, row.window.start().as_millis(), row.value)
            })
            .sink("rows", self.rows.clone());
    }
}

/// Runs until some epochs are committed, then into the trap, then mended.
fn survives(place: &'static str, named: &str) {
    let trapped = Trapped::new(place);
    let ones = |range: std::ops::Range<u64>| range.map(|n| reading("k", n, n, 1)).collect::<Vec<_>>();
    push(&trapped.feed, "s", &ones(0..35));
    let state = tempdir().unwrap();
    let running = start(job("panics", state.path(), 2), trapped.program());
    running.until("some windows", || trapped.rows.len() == 3);
    let before = trapped.rows.values();
    if place == "reject" {
        trapped.feed.push("s", "bad");
    }
    push(&trapped.feed, "s", &[reading("k", 35, 35, POISON), reading("k", 36, 36, POISON), reading("k", 37, 45, 1)]);
    let error = running.failure();
    assert_eq!(error.kind(), ErrorKind::User, "{place}: {error}");
    let text = error.to_string();
    assert!(text.starts_with(named), "{place}: {text}");
    assert!(text.ends_with("panicked: no tariff for this record"), "{place}: {text}");
    assert_eq!(trapped.rows.values(), before, "{place}: something of the failed epoch is visible");
    // It fails again, and still shows nothing, until the closure is mended.
    assert!(run(job("panics", state.path(), 1), trapped.program()).is_err(), "{place}");
    assert_eq!(trapped.rows.values(), before, "{place}");
    trapped.trap.mend();
    trapped.feed.close();
    run(job("panics", state.path(), 3), trapped.program()).unwrap();
    let row = |start, value| ("k".to_owned(), start, value);
    let expected = [row(0, (10, 10)), row(10, (10, 10)), row(20, (10, 10)), row(30, (7, 31)), row(40, (1, 1))];
    assert_eq!(sorted(trapped.rows.values()), expected, "{place}");
}

#[test]
fn a_panic_in_any_closure_ends_the_job_in_the_steps_name_and_is_survived() {
    for (place, named) in CLOSURES {
        survives(place, named);
    }
}

#[test]
fn a_panic_in_the_end_of_an_aggregate_ends_the_job_in_the_steps_name() {
    survives("finish", "step \"totals\"");
}

#[test]
fn a_panic_in_an_empty_accumulator_ends_the_job_in_the_steps_name() {
    let feed = Feed::new();
    push(&feed, "s", &[reading("k", 1, 1, 1)]);
    feed.close();
    let state = tempdir().unwrap();
    let error = run(job("empty", state.path(), 2), move |flow| {
        let (readings, _rejected) = flow.source("readings", feed.clone()).decode(shardflow::json::<Reading>());
        readings
            .event_time(Reading::time, lag(0))
            .key_by(|reading| reading.key.clone())
            .window(tumbling(millis(10)).grace(millis(0)))
            .discard_late()
            .fold("totals", || -> u64 { panic!("nothing to begin with") }, |total, _| *total += 1)
            .map(|result| result.value)
            .sink("rows", Collected::new());
    })
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::User);
    assert_eq!(error.to_string(), "step \"totals\": panicked: nothing to begin with");
}

#[test]
fn a_program_that_panics_while_it_is_built_is_an_error_and_leaves_no_trace() {
    let state = tempdir().unwrap();
    let folder = state.path().join("state");
    let error = run(job("construction", &folder, 2), |_flow| panic!("no configuration")).unwrap_err();
    assert_eq!((error.kind(), folder.exists()), (ErrorKind::User, false));
    assert_eq!(error.to_string(), "step \"the program's construction\": panicked: no configuration");
}

#[test]
fn a_panic_after_a_commit_ends_the_job_and_the_commit_stands() {
    let feed = Feed::new();
    push(&feed, "s", &[reading("k", 1, 1, 1)]);
    let ids = Probe::new();
    let state = tempdir().unwrap();
    let program = |feed: Feed, ids: Probe<u64>| {
        move |flow: &Flow<'_>| {
            let (readings, _rejected) = flow.source("readings", feed.clone()).decode(shardflow::json::<Reading>());
            readings.map(|reading| reading.id).sink("ids", ids.clone());
        }
    };
    let shown = ids.clone();
    let hook = move |_| assert!(shown.len() == 0, "the dashboard is gone");
    let running = crate::support::start_watched(job("hook", state.path(), 1), hook, program(feed.clone(), ids.clone()));
    let error = running.failure();
    assert_eq!(error.kind(), ErrorKind::User);
    assert!(error.to_string().contains("the dashboard is gone"), "{error}");
    feed.close();
    run(job("hook", state.path(), 1), program(feed, ids.clone())).unwrap();
    assert_eq!(ids.values(), [1]);
}
