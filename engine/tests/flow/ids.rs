//! Ids of records: a replay repeats them, and no two records have the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use shardflow::sink::{CommitPermit, Committer, Prepared, Sink, SinkContext, SinkWriter, StagedHandle};
use shardflow::source::Source;
use shardflow::testing::{Collected, Feed};
use shardflow::{Decoder, Epoch, ErrorKind, Flow, RecordId, Result, Sourced, json, millis, tumbling};
use tempfile::tempdir;

use crate::support::sink::{How, Place, Probe};
use crate::support::source::{Pace, Paced};
use crate::support::{Reading, job, lag, lock, push, reading, run, start_watched};

/// A record with its id, and what it is.
type Named = (RecordId, String);

/// A sink that keeps what it was given in each epoch, whether that was committed or not: as a service has it that takes nothing
/// back.
#[derive(Clone, Default)]
struct AtOnce {
    written: Arc<Mutex<Vec<(u64, Named)>>>,
}

impl AtOnce {
    /// Each id with what was written under it, and in which epochs. Of an id that names two things, and of a thing that has two,
    /// nothing is left to say.
    fn checked(&self, what: &str) -> BTreeMap<RecordId, (String, BTreeSet<u64>)> {
        let mut ids = BTreeMap::<RecordId, (String, BTreeSet<u64>)>::new();
        let mut things = BTreeMap::<String, RecordId>::new();
        for (epoch, (id, thing)) in lock(&self.written).iter() {
            let (known, epochs) = ids.entry(*id).or_insert_with(|| (thing.clone(), BTreeSet::new()));
            epochs.insert(*epoch);
            assert_eq!(known, thing, "{what}: two have the id {id}");
            assert_eq!(things.entry(thing.clone()).or_insert(*id), id, "{what}: {thing} has two ids");
        }
        ids
    }
}

impl Sink<Named> for AtOnce {
    fn committer(&self, _context: &SinkContext) -> Result<Box<dyn Committer>> {
        Ok(Box::new(self.clone()))
    }

    fn writer(&self, _context: &SinkContext, _worker: usize) -> Result<Box<dyn SinkWriter<Named>>> {
        Ok(Box::new(AtOnceWriter { sink: self.clone(), open: Vec::new(), begun: None }))
    }
}

impl Committer for AtOnce {
    fn recover(&mut self, _permit: Option<&CommitPermit>, _handles: &[StagedHandle]) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self, _permit: &CommitPermit, _handles: &[StagedHandle]) -> Result<()> {
        Ok(())
    }
}

struct AtOnceWriter {
    sink: AtOnce,
    open: Vec<Named>,
    /// The epoch that it was told of last.
    begun: Option<Epoch>,
}

impl SinkWriter<Named> for AtOnceWriter {
    fn begin(&mut self, epoch: Epoch) {
        assert!(self.open.is_empty() && self.begun < Some(epoch), "{epoch} begins before the end of {:?}", self.begun);
        self.begun = Some(epoch);
    }

    fn stage(&mut self, record: &Named) -> Result<()> {
        self.open.push(record.clone());
        Ok(())
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<Option<Prepared>> {
        assert!(self.open.is_empty() || self.begun == Some(epoch), "{epoch} ends, and {:?} began", self.begun);
        let named = self.open.drain(..).map(|named| (epoch.number(), named));
        lock(&self.sink.written).extend(named);
        Ok(None)
    }
}

/// Where everything that has an id goes.
#[derive(Clone, Default)]
struct Outputs {
    passed: AtOnce,
    rejected: AtOnce,
    totals: AtOnce,
    counts: AtOnce,
    bills: AtOnce,
    /// Takes every reading as well, and fails where a test says.
    breaks: Probe<u64>,
}

/// What names a result in the tests, beside its id.
fn described(step: &str, result: &shardflow::WindowResult<String, u64>) -> Named {
    let (key, start, value) = (&result.key, result.window.start().as_millis(), result.value);
    (result.id(), format!("{step} {key} {start}: {value}"))
}

/// Passes records through, and folds them into windows of two steps and a running sum.
fn program(flow: &Flow<'_>, source: impl Source, outputs: Outputs) {
    let (readings, rejected) = flow.source("readings", source).decode(json::<Reading>().sourced());
    rejected
        .map(|rejected| (rejected.id(), format!("{} {} {}", rejected.source, rejected.split, rejected.position)))
        .sink("rejected", outputs.rejected);
    let readings = readings.event_time(|sourced| sourced.value.time(), lag(0));
    let place = |sourced: Sourced<Reading>| {
        (sourced.id(), format!("{} {} {}", sourced.source, sourced.split, sourced.position))
    };
    readings.clone().map(place).sink("passed", outputs.passed);
    let keyed = || readings.clone().key_by(|sourced: &Sourced<Reading>| sourced.value.key.clone());
    let windows = || keyed().window(tumbling(millis(10)).grace(millis(0))).discard_late();
    let add = |total: &mut u64, sourced: &Sourced<Reading>| *total += sourced.value.value;
    let totals = windows().fold("totals", || 0, add).map(|result| described("totals", &result));
    totals.sink("to-totals", outputs.totals);
    let counts = windows().count("counts").map(|result| described("counts", &result));
    counts.sink("to-counts", outputs.counts);
    let bills = keyed().running().fold("bills", || 0, add).map(|result| (result.key_id(), result.key));
    bills.sink("to-bills", outputs.bills);
    readings.map(|sourced| sourced.value.value).sink("breaks", outputs.breaks);
}

const SEED: u64 = 2077;
const CASES: u64 = 6;

/// Records of a few keys in order of time, some of which cannot be decoded.
fn fill(feed: &Feed, random: &mut StdRng) {
    for split in ["left", "right", "third"] {
        for number in 0..400 {
            if random.random_range(0..20) == 0 {
                feed.push(split, format!("bad {number}"));
            }
            let key = format!("key-{}", random.random_range(0..4_u32));
            push(feed, split, &[reading(&key, number, number / 2, random.random_range(0..100))]);
        }
    }
    feed.close();
}

#[test]
fn a_replay_that_cuts_epochs_elsewhere_repeats_every_id() {
    let mut moved = [0; 4];
    for seed in SEED..SEED + CASES {
        let mut random = StdRng::seed_from_u64(seed);
        let feed = Feed::new();
        fill(&feed, &mut random);
        let (outputs, state) = (Outputs::default(), tempdir().unwrap());
        for start in 1.. {
            assert!(start < 1_000, "seed {seed}: the job never comes to its end");
            // What this start had prepared is written, and not committed.
            outputs.breaks.breaks(Place::Flush, How::Fail, random.random_range(1..6));
            // Nothing is read before the first epoch is committed: what the start before this one wrote in its last epoch, which has
            // the same number, comes again in a later one.
            let (pace, each) = (Pace::stopped(), random.random_range(1..6));
            let from = Paced { feed: feed.clone(), pace: Arc::clone(&pace) };
            let to = outputs.clone();
            let build = move |flow: &Flow<'_>| program(flow, from.clone(), to.clone());
            let job = job("ids", state.path(), random.random_range(1..4));
            match start_watched(job, move |_commits| pace.grant(each), build).end() {
                Ok(summary) => {
                    assert!(summary.input_ended, "seed {seed}");
                    break;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Sink, "seed {seed}: {error}"),
            }
        }
        let Outputs { passed, rejected, totals, counts, bills, .. } = &outputs;
        for (moved, (sink, what)) in
            moved.iter_mut().zip([(passed, "passed"), (rejected, "rejected"), (totals, "totals"), (counts, "counts")])
        {
            let ids = sink.checked(&format!("seed {seed}, {what}"));
            *moved += ids.values().filter(|(_, epochs)| epochs.len() > 1).count();
        }
        assert_eq!(passed.checked("passed").len(), 1_200, "seed {seed}");
        assert_eq!(bills.checked("bills").len(), 4, "seed {seed}");
    }
    assert!(moved.iter().all(|moved| *moved > 0), "{moved:?} came again in another epoch: that proves nothing");
}

/// What the job of this name makes of a source.
fn through<S: Source + Clone>(name: &str, source: &S) -> Outputs {
    let (outputs, state) = (Outputs::default(), tempdir().unwrap());
    let (from, to) = (source.clone(), outputs.clone());
    run(job(name, state.path(), 2), move |flow| program(flow, from.clone(), to.clone())).unwrap();
    outputs
}

#[test]
fn two_jobs_steps_keys_windows_inputs_or_splits_never_share_an_id() {
    let feed = Feed::new();
    for split in ["left", "right"] {
        push(&feed, split, &["a", "b"].map(|key| reading(key, 1, 5, 1)));
        push(&feed, split, &["a", "b"].map(|key| reading(key, 2, 15, 1)));
        feed.push(split, "bad");
    }
    feed.close();
    let source = Paced { feed: feed.clone(), pace: Pace::unlimited() };
    let ids = |sink: &AtOnce| sink.checked("once").into_keys().collect::<BTreeSet<_>>();
    let (eu, us) = (through("eu", &source), through("us", &source));
    // Two keys in two windows, by two steps of two jobs; and their running sums.
    let results = [&eu, &us].map(|job| [&job.totals, &job.counts, &job.bills].map(ids)).concat();
    assert_eq!(results.iter().map(BTreeSet::len).collect::<Vec<_>>(), [4, 4, 2, 4, 4, 2]);
    assert_eq!(results.iter().flatten().collect::<BTreeSet<_>>().len(), 20);
    // A record is the same, whichever job passes it on.
    assert_eq!((ids(&eu.passed), ids(&eu.rejected)), (ids(&us.passed), ids(&us.rejected)));
    // The same splits and positions, of another input.
    let other = through("eu", &feed);
    let read = [&eu.passed, &eu.rejected, &other.passed, &other.rejected].map(ids);
    assert_eq!(read.iter().map(BTreeSet::len).collect::<Vec<_>>(), [8, 2, 8, 2]);
    assert_eq!(read.iter().flatten().collect::<BTreeSet<_>>().len(), 20);
    assert_eq!(
        ids(&eu.totals),
        ids(&other.totals),
        "a result is the same when it is computed again from the beginning"
    );
}

/// bincode cannot write a struct whose number of fields it does not know.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct FlattenedKey {
    #[serde(flatten)]
    inner: InnerKey,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct InnerKey {
    key: String,
}

#[test]
fn a_key_that_cannot_be_serialized_stops_the_job_before_it_has_results() {
    let (feed, results, state) = (Feed::new(), Collected::new(), tempdir().unwrap());
    push(&feed, "s", &["a", "b"].map(|key| reading(key, 1, 5, 1)));
    feed.close();
    let to = results.clone();
    let build = move |flow: &Flow<'_>| {
        let (readings, rejected) = flow.source("readings", feed.clone()).decode(json::<Reading>());
        rejected.sink("rejected", Collected::new());
        readings
            .event_time(Reading::time, lag(0))
            .key_by(|reading| FlattenedKey { inner: InnerKey { key: reading.key.clone() } })
            .window(tumbling(millis(10)).grace(millis(0)))
            .discard_late()
            .count("counts")
            .map(|result| (result.id(), result.value))
            .sink("results", to.clone());
    };
    let error = run(job("keys", state.path(), 2), build).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "a restart cannot mend it");
    assert!(error.to_string().contains("FlattenedKey"), "{error}");
    assert_eq!(results.values(), Vec::<(RecordId, u64)>::new());
}
