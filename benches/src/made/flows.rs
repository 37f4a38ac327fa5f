//! The engine's side: the same jobs as the limits do, written as a user would.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use shardflow::window::aggregate::{count, sum};
use shardflow::{
    EventTime, Flow, Job, JobArgs, KeyContext, KeyedLogic, KeyedStream, Lag, RunningResult, Stream, WindowResult,
    millis, minutes, seconds, sliding, tumbling,
};

use super::clock::Clock;
use super::records::{LAG, MadeKey, Maker, Records, Use};
use super::run::Work;
use super::sink::{Adding, Tallied, Tally};
use super::source::{Made, Making};

/// Runs the job of `work` to the end of its records. Gives what it committed.
///
/// # Errors
/// What the engine says.
pub(crate) fn run(work: Work, records: &Arc<Records>, args: JobArgs, clock: &Clock) -> Result<Tally> {
    match work {
        Work::Strings => job(records, args, clock, |used: KeyedStream<'_, CompactString, _>| minutely(used)),
        Work::Ints => job(records, args, clock, |used: KeyedStream<'_, u64, _>| minutely(used)),
        Work::Sliding => job(records, args, clock, |used: KeyedStream<'_, CompactString, _>| overlapping(used)),
        Work::Running => job(records, args, clock, |used: KeyedStream<'_, u64, _>| running(used)),
        Work::Padded => job(records, args, clock, |used: KeyedStream<'_, u64, _>| used.process("counts", Padding)),
    }
}

type Totals<'scope, K> = Stream<'scope, WindowResult<K, (u64, u128)>>;

fn minutely<K: MadeKey>(used: KeyedStream<'_, K, Use<K>>) -> Totals<'_, K> {
    let windows = used.window(tumbling(minutes(1)).grace(millis(0))).discard_late();
    windows.aggregate("totals", (count(), sum(|used: &Use<K>| used.qty)))
}

fn overlapping<K: MadeKey>(used: KeyedStream<'_, K, Use<K>>) -> Totals<'_, K> {
    let windows = used.window(sliding(minutes(1), seconds(5)).grace(millis(0))).discard_late();
    windows.aggregate("totals", (count(), sum(|used: &Use<K>| used.qty)))
}

/// How often a key has been met, after each of its records.
fn running(used: KeyedStream<'_, u64, Use<u64>>) -> Stream<'_, RunningResult<u64, u64>> {
    used.running().count("counts")
}

impl Tallied for RunningResult<u64, u64> {
    #[inline]
    fn add_to(&self, tally: &mut Tally) {
        tally.running(self.key, self.value);
    }
}

/// A key's running count.
#[derive(Debug, Clone)]
pub(crate) struct Counted {
    key: u64,
    count: u64,
}

impl Tallied for Counted {
    #[inline]
    fn add_to(&self, tally: &mut Tally) {
        tally.running(self.key, self.count);
    }
}

/// Words of padding: with its key and its count an entry has 208 bytes.
const PADDING: usize = 24;
/// Bytes of an entry of [`Work::Padded`], key included.
pub(crate) const PADDED_BYTES: u64 = 8 * (2 + PADDING as u64);

/// A count that takes as much room as a user's state would.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Padded {
    count: u64,
    padding: [u64; PADDING],
}

struct Padding;

impl KeyedLogic<u64, Use<u64>> for Padding {
    type State = Padded;
    type Out = Counted;

    fn on_record(&self, used: Use<u64>, key: &mut KeyContext<'_, u64, Padded, Counted>) {
        let kept = key.get_or_insert_with(Padded::default);
        kept.count += 1;
        kept.padding.fill(used.qty);
        let count = kept.count;
        key.emit(Counted { key: *key.key(), count });
    }
}

fn job<K, T, B>(records: &Arc<Records>, args: JobArgs, clock: &Clock, build: B) -> Result<Tally>
where
    K: MadeKey,
    T: Tallied + Clone,
    B: for<'scope> Fn(KeyedStream<'scope, K, Use<K>>) -> Stream<'scope, T> + Send + Sync + 'static,
{
    let committed = Arc::new(Mutex::new(Tally::default()));
    let (records, results, lap) = (Arc::clone(records), Arc::clone(&committed), clock.clone());
    let source = Made::new(Arc::clone(&records), clock.clone());
    let program = move |flow: &Flow<'_>| {
        let making = Making::<K>(Maker::new(Arc::clone(&records)));
        let (used, _rejected) = flow.source("used", source.clone()).decode(making);
        let keyed = used
            .event_time(|used| EventTime::from_millis(used.at), Lag::of(millis(LAG)))
            .key_by(|used: &Use<K>| used.account.clone());
        build(keyed).sink("results", Adding::to(&results));
    };
    Job::named("made").args(args).on_commit(move |_| lap.lap()).run(program)?;
    let tally = *committed.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(tally)
}
