//! The index equals the reference exactly: after crashes, after replays with other epoch cuts, and while processes that were
//! thought dead still write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use serde_json::{Value, json};
use shardflow::sink::{Flush, Prepared, Sink, SinkContext, SinkWriter};
use shardflow::testing::sink::permit;
use shardflow::vocabulary::Incarnation;
use shardflow::{Epoch, EventTime};
use shardflow_sinks::{OpenSearch, opensearch};

use crate::place::{Place, rejection};
use shardflow_stand_ins::fault_proxy::{self, FaultProxy, Plan};
use shardflow_stand_ins::search::{Fault, Refusal};

/// A key's total after some of its records; or the word that the key is gone.
#[derive(Debug, Clone, Serialize)]
struct Total {
    key: u64,
    records: u64,
    units: u64,
    #[serde(skip)]
    is_gone: bool,
}

/// What a job makes of its input, in order: each key's totals, one a record. A few keys come to their end.
fn totals(rng: &mut StdRng, keys: u64, count: usize) -> Vec<Total> {
    let mut sums: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut totals: Vec<Total> = Vec::new();
    for _ in 0..count {
        let key = rng.random_range(0..keys);
        let (records, units) = sums.entry(key).or_default();
        *records += 1;
        *units += rng.random_range(1..100);
        totals.push(Total { key, records: *records, units: *units, is_gone: rng.random_bool(0.1) });
    }
    totals
}

/// What the index holds in the end.
fn reference(totals: &[Total]) -> BTreeMap<String, (i64, Value)> {
    let mut index = BTreeMap::new();
    for Total { key, records, units, is_gone } in totals {
        match is_gone {
            true => drop(index.remove(&id(*key))),
            false => {
                let doc = json!({"key": key, "records": records, "units": units});
                index.insert(id(*key), (i64::try_from(*records).unwrap(), doc));
            }
        }
    }
    index
}

fn id(key: u64) -> String {
    format!("key {key}")
}

fn sink(endpoint: &str) -> OpenSearch<Total> {
    let sink = opensearch([endpoint], |total: &Total| id(total.key)).index("totals").may_create_index();
    sink.bulk_documents(8).concurrency(3)
}

/// With versions of its own, or with the engine's.
fn versioned(endpoint: &str, own: bool) -> OpenSearch<Total> {
    let sink = sink(endpoint).delete_if(|total| total.is_gone);
    if own { sink.version(|total| total.records) } else { sink }
}

/// One start of a job: it writes from `next` on.
struct Attempt {
    writers: Vec<Box<dyn SinkWriter<Total>>>,
    flushes: Vec<Flush>,
    next: usize,
    epoch: u64,
}

impl Attempt {
    fn start(sink: &OpenSearch<Total>, context: &SinkContext, next: usize, epoch: u64) -> Self {
        let mut committer = Sink::<Total>::committer(sink, context).unwrap();
        committer.recover(context.committed.map(permit).as_ref(), &[]).unwrap();
        let writers = (0..context.workers).map(|worker| sink.writer(context, worker).unwrap()).collect();
        Self { writers, flushes: Vec::new(), next, epoch }
    }

    /// Writes so many totals, each key by its own worker, as an exchange has it.
    fn stage(&mut self, totals: &[Total], count: usize) {
        self.try_stage(totals, count).unwrap();
    }

    fn try_stage(&mut self, totals: &[Total], count: usize) -> shardflow::Result<()> {
        let workers = self.writers.len();
        for total in totals.iter().skip(self.next).take(count) {
            self.writers[total.key as usize % workers].stage(total)?;
        }
        self.next = (self.next + count).min(totals.len());
        Ok(())
    }

    /// Ends an epoch. What it has under way is waited for by [`settle`](Self::settle).
    fn prepare(&mut self) {
        self.epoch += 1;
        for writer in &mut self.writers {
            match writer.prepare(Epoch::new(self.epoch)).unwrap() {
                Some(Prepared::Flush(flush)) => self.flushes.push(flush),
                other => panic!("{other:?}"),
            }
        }
    }

    fn settle(&mut self) {
        self.try_settle().unwrap();
    }

    fn try_settle(&mut self) -> shardflow::Result<()> {
        self.flushes.drain(..).try_for_each(|flush| flush().map(|handle| assert_eq!(handle, None)))
    }

    /// What a process does that was taken for dead. With the engine's versions it may find out that it is.
    fn haunt(&mut self, totals: &[Total], count: usize, own: bool, ends: bool) {
        let staged = self.try_stage(totals, count);
        self.prepare();
        let settled = if ends { self.try_settle() } else { Ok(()) };
        if let Err(error) = staged.and(settled) {
            assert!(!own && error.to_string().contains("a later start than this one"), "{error}");
        }
    }
}

/// Runs a job to its end, through crashes. Gives how many there were, and how many writes came from the dead.
fn run(place: &Place, endpoint: &str, totals: &[Total], own: bool, rng: &mut StdRng) -> (usize, usize) {
    let sink = versioned(endpoint, own);
    let (mut committed, mut epoch, mut incarnation) = (0, 0, 0);
    let (mut crashes, mut late) = (0, 0);
    let mut zombies: Vec<Attempt> = Vec::new();
    while committed < totals.len() {
        incarnation += 1;
        let context = SinkContext {
            incarnation: Incarnation::new(incarnation),
            committed: (epoch > 0).then(|| Epoch::new(epoch)),
            workers: rng.random_range(1..=3),
            ..place.context()
        };
        let mut attempt = Attempt::start(&sink, &context, committed, epoch);
        let lives = loop {
            attempt.stage(totals, rng.random_range(1..40));
            if rng.random_bool(0.1) {
                break false;
            }
            attempt.prepare();
            if rng.random_bool(0.1) {
                break false;
            }
            attempt.settle();
            if rng.random_bool(0.1) {
                // All is written and nothing of it is committed.
                break false;
            }
            (committed, epoch) = (attempt.next, attempt.epoch);
            if committed == totals.len() {
                break true;
            }
            if let Some(zombie) = zombies.last_mut().filter(|_| rng.random_bool(0.3)) {
                late += 1;
                zombie.haunt(totals, rng.random_range(1..20), own, false);
            }
        };
        if !lives {
            crashes += 1;
            // The process is dead, or is only thought to be.
            if rng.random_bool(0.7) {
                zombies.push(attempt);
            }
        }
    }
    // The last words of the dead come when all is done.
    for mut zombie in zombies {
        late += 1;
        zombie.haunt(totals, rng.random_range(0..30), own, true);
    }
    (crashes, late)
}

#[test]
fn the_index_is_exact_after_crashes_replays_and_zombies() {
    let first = Plan::seed();
    let (mut crashes, mut late) = (0, 0);
    for (seed, own) in (0..16).map(|n| (first.wrapping_add(n / 2), n % 2 == 0)) {
        eprintln!("repeat with SHARDFLOW_FAULT_SEED={seed}");
        let (place, mut rng) = (Place::new(), StdRng::seed_from_u64(seed));
        let totals = totals(&mut rng, 25, 400);
        let (more_crashes, more_late) = run(&place, place.stub.endpoint(), &totals, own, &mut rng);
        (crashes, late) = (crashes + more_crashes, late + more_late);
        assert_exact(&place, &totals, own, seed);
    }
    eprintln!("{crashes} crashes, {late} times a zombie wrote");
    assert!(crashes > 0 && late > 0);
}

/// The index holds the reference: each document, and nothing else; its version too, where it is the record's own.
fn assert_exact(place: &Place, totals: &[Total], own: bool, seed: u64) {
    let mut documents = place.stub.cluster().documents("totals");
    let mut reference = reference(totals);
    if !own {
        documents.values_mut().chain(reference.values_mut()).for_each(|(version, _)| *version = 0);
    }
    assert_eq!(documents, reference, "SHARDFLOW_FAULT_SEED={seed}, own versions: {own}");
}

#[test]
fn the_index_is_exact_while_calls_fail_in_every_way() {
    let first = Plan::seed();
    for (seed, own) in [(first, true), (first.wrapping_add(1), false)] {
        let (place, mut rng) = (Place::new(), StdRng::seed_from_u64(seed));
        let proxy = place.io.block_on(FaultProxy::start(place.stub.endpoint()));
        let faults = [
            (fault_proxy::Fault::Error503, 0.04),
            (fault_proxy::Fault::ResetBefore, 0.04),
            (fault_proxy::Fault::ResetAfter, 0.04),
            (fault_proxy::Fault::ResetMidBody, 0.04),
            (fault_proxy::Fault::Truncated, 0.04),
            (fault_proxy::Fault::SlowBytes, 0.02),
            (fault_proxy::Fault::Delay(Duration::from_millis(50)), 0.05),
        ];
        proxy.inject(Plan::random(seed, &faults).only(&["POST"]).rule());
        place.stub.inject(|call| match call.nth % 9 {
            3 => Fault::Refuse(rejection(), None),
            5 => Fault::Items(Arc::new(|id| id.ends_with(['0', '2', '4']).then(rejection))),
            7 => Fault::RefuseAfter(Refusal::new(504, "", "gateway timeout")),
            _ => Fault::Pass,
        });
        let totals = totals(&mut rng, 25, 300);
        let (crashes, late) = run(&place, proxy.endpoint(), &totals, own, &mut rng);
        eprintln!("{crashes} crashes, {late} times a zombie wrote; faults:\n{}", proxy.seen());
        assert!(proxy.seen().faults() > 0);
        assert_exact(&place, &totals, own, seed);
    }
}

fn start_number(place: &Place, number: u64) -> SinkContext {
    SinkContext { incarnation: Incarnation::new(number), ..place.context() }
}

/// The newer total is written, then a process that was taken for dead writes the older one. Gives what it is told, and
/// what the index holds.
fn newer_then_older(own: bool) -> (shardflow::Result<()>, Value) {
    let place = Place::new();
    let sink = versioned(place.stub.endpoint(), own);
    let totals = [1, 2].map(|records| Total { key: 1, records, units: records, is_gone: false });
    let mut zombie = Attempt::start(&sink, &start_number(&place, 1), 0, 0);
    let mut attempt = Attempt::start(&sink, &start_number(&place, 2), 0, 0);
    attempt.stage(&totals, 2);
    attempt.prepare();
    attempt.settle();
    zombie.stage(&totals, 1);
    zombie.prepare();
    let told = zombie.try_settle();
    let documents = place.stub.cluster().documents("totals");
    (told, documents[&id(1)].1["records"].clone())
}

#[test]
fn an_older_document_does_not_replace_a_newer_one_and_a_process_that_lost_its_place_stops() {
    let (told, left) = newer_then_older(true);
    assert_eq!((told.is_ok(), left), (true, json!(2)));
    let (told, left) = newer_then_older(false);
    let error = told.unwrap_err().to_string();
    assert!(error.contains("this one, which is number 1") && error.contains("lost its place"), "{error}");
    assert_eq!(left, json!(2));
}

#[test]
fn a_job_with_an_empty_state_does_not_lose_its_documents_to_those_of_the_old_one_in_silence() {
    let place = Place::new();
    let totals = [1, 2].map(|records| Total { key: 1, records, units: records, is_gone: false });
    for (number, goes_on) in [(3, true), (4, true), (1, false)] {
        let mut attempt = Attempt::start(&versioned(place.stub.endpoint(), false), &start_number(&place, number), 0, 0);
        attempt.stage(&totals, 2);
        attempt.prepare();
        match attempt.try_settle() {
            Ok(()) => assert!(goes_on),
            Err(error) => assert!(!goes_on && error.to_string().contains("before the state was emptied"), "{error}"),
        }
    }
}

#[test]
fn a_job_whose_state_is_new_begins_only_where_there_are_no_documents() {
    let place = Place::new();
    let totals = [1, 2].map(|records| Total { key: 1, records, units: records, is_gone: false });
    let begin = |sink: &OpenSearch<Total>, folder: &std::path::Path, number| {
        let context = SinkContext { folder: folder.join("totals"), ..start_number(&place, number) };
        sink.committer(&context)?;
        let mut attempt = Attempt::start(sink, &context, 0, 0);
        attempt.stage(&totals, 2);
        attempt.prepare();
        attempt.try_settle()
    };
    let by_year = |sink: OpenSearch<Total>| sink.index_by_time("totals-{yyyy}", |_| EventTime::MIN);
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for sink in [versioned(place.stub.endpoint(), false), by_year(versioned(place.stub.endpoint(), false))] {
        begin(&sink, old.path(), 1).unwrap();
        // Also where it has committed nothing, it has begun.
        begin(&sink, old.path(), 2).unwrap();
        // The state is gone, and its starts with it.
        for number in [1, 2] {
            let error = begin(&sink, new.path(), number).unwrap_err();
            assert_eq!(error.kind(), shardflow::ErrorKind::Config);
            assert!(error.to_string().contains("holds 1 documents already"), "{error}");
        }
        begin(&sink.clone().version(|total| total.records), new.path(), 1).unwrap();
        begin(&sink.may_have_documents(), new.path(), 3).unwrap();
    }
}

#[test]
fn a_batch_that_was_done_and_is_made_again_meets_itself_and_is_done() {
    let place = Place::new();
    place.stub.inject(|call| match call.nth {
        1 => Fault::RefuseAfter(Refusal::new(504, "", "gateway timeout")),
        _ => Fault::Pass,
    });
    let totals: Vec<Total> = (0..5).map(|key| Total { key, records: 1, units: key, is_gone: false }).collect();
    let mut attempt = Attempt::start(&versioned(place.stub.endpoint(), false), &start_number(&place, 1), 0, 0);
    attempt.stage(&totals, 5);
    attempt.prepare();
    attempt.settle();
    assert_eq!((place.stub.seen().len(), place.stub.cluster().documents("totals").len()), (2, 5));
}

#[test]
fn an_equal_version_replaces_the_document_only_where_it_is_asked_to() {
    for (or_equal, left) in [(false, 1), (true, 2)] {
        let place = Place::new();
        let sink = sink(place.stub.endpoint());
        let sink = if or_equal { sink.version_or_equal(|_| 7) } else { sink.version(|_| 7) };
        let mut attempt = Attempt::start(&sink, &place.context(), 0, 0);
        let totals = [1, 2].map(|units| Total { key: 1, records: 7, units, is_gone: false });
        for _ in &totals {
            attempt.stage(&totals, 1);
            attempt.prepare();
            attempt.settle();
        }
        assert_eq!(place.stub.cluster().documents("totals")[&id(1)].1["units"], json!(left));
    }
}

/// What the door says it does not promise: the server forgets deletions.
#[test]
fn a_deletion_holds_as_long_as_the_server_remembers_it() {
    for forgets in [false, true] {
        let place = Place::new();
        let sink = versioned(place.stub.endpoint(), true);
        let totals = [(1, false), (2, true)].map(|(records, is_gone)| Total { key: 1, records, units: 0, is_gone });
        let mut zombie = Attempt::start(&sink, &place.context(), 0, 0);
        let mut attempt = Attempt::start(&sink, &place.context(), 0, 0);
        attempt.stage(&totals, 2);
        attempt.prepare();
        attempt.settle();
        assert!(place.stub.cluster().documents("totals").is_empty());
        if forgets {
            place.stub.cluster().index_mut("totals").unwrap().forget_deletions();
        }
        zombie.stage(&totals, 1);
        zombie.prepare();
        zombie.settle();
        assert_eq!(place.stub.cluster().documents("totals").len(), usize::from(forgets));
    }
}

#[test]
fn each_record_lies_in_the_index_of_its_day_once() {
    const DAY: u64 = 86_400_000;
    let place = Place::new();
    let by_day = opensearch([place.stub.endpoint()], |total: &Total| id(total.key))
        .index_by_time("usage-{yyyy.MM.dd}", |total| EventTime::from_millis(total.records * DAY));
    let sink = by_day;
    let totals: Vec<Total> = (0..90).map(|n| Total { key: n, records: n / 30, units: n, is_gone: false }).collect();
    for _ in 0..2 {
        let mut attempt = Attempt::start(&sink, &place.context(), 0, 0);
        attempt.stage(&totals, 90);
        attempt.prepare();
        attempt.settle();
    }
    let cluster = place.stub.cluster();
    for day in ["usage-1970.01.01", "usage-1970.01.02", "usage-1970.01.03"] {
        assert_eq!(cluster.documents(day).len(), 30, "{day}");
    }
    assert_eq!(cluster.names().len(), 4, "{:?}", cluster.names());
}
