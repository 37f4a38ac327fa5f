//! The running operator: folds each key's records without end, and gives the new result with every record.
//!
//! *Enters*: keyed records. *Leaves*: a result a record. *Survives a crash*: the accumulators.

use std::sync::Arc;

use super::context::JobContext;
use super::control::Control;
use super::key_by::{Keyed, KeyedFlow, stateful_by_key};
use super::share::Share;
use super::stateful::{EpochLogic, Made, Outputs};
use super::tier::TieredState;
use super::window::Fold;
use crate::error::Result;
use crate::state::Place;
use crate::state::changelog::{ChangelogWriter, Table};
use crate::vocabulary::{Epoch, Event, EventTime, IdNamespace, Key, Record, RecordId, State, StepName};

/// Accumulators.
const TOTALS: Table = Table(0);

/// So many keys are looked up together, so that they wait for main memory together.
const LOOK_AHEAD: usize = 32;

/// What a key's records have come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningResult<K, V> {
    /// The key.
    pub key: K,
    /// What its records so far were folded into.
    pub value: V,
    /// What its step's ids are made in.
    pub ids: IdNamespace,
}

impl<K: Key, V> RunningResult<K, V> {
    /// The id of what the key's records come to, which a replay repeats: of job, step and key. All results of the key have it.
    ///
    /// One of them has no id of its own. A key's records may come from several splits, and a replay may read those in another
    /// order: then the results in between are others, though the last is the same. So a running result is written under
    /// this id (or the key) with a version, by a sink that keeps the latest (`newest_by`, `guarded_by`, `version`). The best
    /// version is how many records are in it: it follows from the data, and only grows.
    ///
    /// # Panics
    /// The key cannot be serialized. A step's own results have no such keys: `key_by` refuses them.
    #[must_use]
    pub fn key_id(&self) -> RecordId {
        self.ids.id(&self.key).expect("key_by takes no key that cannot be serialized")
    }
}

/// What a running step is made of.
pub(crate) struct RunningStep<A, T, V> {
    pub(crate) name: StepName,
    pub(crate) fold: Fold<A, T, V>,
}

/// Builds the running operator. Gives results, nothing, and control parts.
///
/// # Errors
/// State that cannot be restored.
pub(crate) fn running<'scope, K: Key, T: Record, A: State, V: Clone + 'static>(
    context: &Arc<JobContext>,
    worker: usize,
    flow: KeyedFlow<'scope, K, T>,
    step: RunningStep<A, T, V>,
) -> Result<Outputs<'scope, Event<RunningResult<K, V>>, ()>> {
    let RunningStep { name, fold } = step;
    let share = Share::new(context, &name, worker);
    let totals = TieredState::restore(context, &share, TOTALS, &mut |_, _, _, _| Ok(()))?;
    let ids = share.ids();
    let logic = RunningLogic { share, ids, fold, totals, places: Vec::new() };
    Ok(stateful_by_key(context, &name, flow, logic))
}

struct RunningLogic<K, T, A, V> {
    share: Share,
    ids: IdNamespace,
    fold: Fold<A, T, V>,
    totals: TieredState<K, A>,
    places: Vec<Option<Place>>,
}

impl<K: Key, T: Record, A: State, V: Clone + 'static> EpochLogic for RunningLogic<K, T, A, V> {
    type In = Keyed<K, T>;
    type Out = Event<RunningResult<K, V>>;
    type Side = ();

    fn batch(&mut self, records: Vec<Keyed<K, T>>, made: &mut Made<Self::Out, ()>) -> Result<()> {
        let share = &self.share;
        self.totals.fetch(records.iter().map(|keyed| (keyed.hash, share.group_of(keyed.hash), &keyed.key)))?;
        made.out.reserve(records.len());
        let mut records = records.into_iter();
        while records.len() > 0 {
            let ahead = records.as_slice().iter().take(LOOK_AHEAD);
            self.totals.state.find_all(ahead.map(|keyed| (keyed.hash, &keyed.key)), &mut self.places);
            for (place, Keyed { hash, key, event }) in self.places.iter().zip(records.by_ref()) {
                let group = share.group_of(hash);
                let accumulator = self.totals.state.upsert_at(*place, hash, group, &key, || (self.fold.empty)());
                (self.fold.add)(accumulator, &event.value);
                let value = (self.fold.finish)(accumulator.clone());
                let value = RunningResult { key, value, ids: self.ids };
                made.out.push(Event { at: event.at, watermark: event.watermark, value });
            }
        }
        Ok(())
    }

    fn advance(&mut self, _watermark: Option<EventTime>, _fired: &mut Vec<(EventTime, Vec<Self::Out>)>) -> Result<()> {
        Ok(())
    }

    fn close(&mut self, epoch: Epoch, parts: &mut Vec<Control>) -> Result<()> {
        let mut changes = ChangelogWriter::default();
        self.totals.close(epoch, &mut changes)?;
        self.share.hand_over(changes, self.totals.state.len(), self.totals.state.bytes(), parts);
        Ok(())
    }

    fn hold(&self, _watermark: EventTime) -> Option<EventTime> {
        None
    }
}
