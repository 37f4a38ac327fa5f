//! The process operator: a user's own logic over each key's records, with state and timers.
//!
//! *Enters*: keyed records. *Leaves*: what the logic emits. *Survives a crash*: each key's state and timers.

use std::sync::Arc;

use super::context::JobContext;
use super::control::Control;
use super::key_by::{Keyed, KeyedFlow, stateful_by_key};
use super::share::Share;
use super::stateful::{EpochLogic, Made, Outputs};
use super::tier::TieredState;
use crate::error::Result;
use crate::exchange::stable_hash;
use crate::state::changelog::{ChangelogWriter, Table};
use crate::state::{KeyedState, Timers};
use crate::vocabulary::{Epoch, Event, EventTime, Key, KeyGroup, Record, State, StepName, millis};

/// Each key's state.
const STATE: Table = Table(0);
/// Each key's timers.
const TIMERS: Table = Table(1);

/// Of so many keys at a time the state is brought into memory when their timers are due.
const FETCHED: usize = 1024;

/// A step that windows and dedupe do not cover: what to do with each record of a key, and when a timer of it is due.
///
/// The state of a key begins empty, and is stored with each epoch that changed it. Whatever else the logic holds is not
/// stored, so it must not change (`&self`).
///
/// # Examples
/// Alerts when a meter has been silent for a minute of event time:
/// ```
/// use shardflow::{EventTime, KeyContext, KeyedLogic, minutes};
///
/// struct Silence;
///
/// impl KeyedLogic<String, u64> for Silence {
///     type State = EventTime;
///     type Out = String;
///
///     fn on_record(&self, _reading: u64, meter: &mut KeyContext<'_, String, EventTime, String>) {
///         let before = meter.remove();
///         if let Some(before) = before {
///             meter.clear_timer(before);
///             if before <= meter.at() {
///                 // Time has not come so far for all splits, but for this meter it has.
///                 meter.emit(format!("{} was silent", meter.key()));
///             }
///         }
///         // Not back, where a reading comes out of order.
///         let due = meter.at().plus(minutes(1)).max(before.unwrap_or(EventTime::MIN));
///         if let Some(due) = meter.set_timer(due) {
///             meter.set(due);
///         }
///     }
///
///     fn on_timer(&self, meter: &mut KeyContext<'_, String, EventTime, String>) {
///         meter.remove();
///         meter.emit(format!("{} is silent", meter.key()));
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no logic for records `{T}` keyed by `{K}`",
    label = "not a `KeyedLogic<{K}, {T}>`"
)]
pub trait KeyedLogic<K, T>: Send + Sync + 'static {
    /// What is kept for a key.
    type State: State;
    /// What the step emits.
    type Out: Clone + 'static;

    /// Takes a record. Records of a key come in the order in which their split delivered them. One may be ahead of timers
    /// that are due before it: those wait until every split has come so far.
    fn on_record(&self, record: T, key: &mut KeyContext<'_, K, Self::State, Self::Out>);

    /// Takes in that a timer of the key is due: event time has come to [`KeyContext::at`], and every record before it that
    /// is not late has been taken.
    fn on_timer(&self, key: &mut KeyContext<'_, K, Self::State, Self::Out>) {
        let _ = key;
    }
}

/// One key as [`KeyedLogic`] sees it: its state, its timers, and where results go.
pub struct KeyContext<'a, K, S, O> {
    key: &'a K,
    hash: u64,
    group: KeyGroup,
    at: EventTime,
    watermark: EventTime,
    /// The least time that a timer may have.
    floor: EventTime,
    state: &'a mut KeyedState<K, S>,
    timers: &'a mut Timers<K>,
    out: &'a mut Vec<Event<O>>,
}

impl<K: Key, S: State, O> KeyContext<'_, K, S, O> {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &K {
        self.key
    }

    /// The event time of the record, or of the timer.
    #[must_use]
    pub fn at(&self) -> EventTime {
        self.at
    }

    /// How far event time had come in the record's split before the record; in a timer, the timer's time.
    #[must_use]
    pub fn watermark(&self) -> EventTime {
        self.watermark
    }

    /// What is kept for the key; `None` before anything was.
    #[must_use]
    pub fn get(&self) -> Option<&S> {
        self.state.get(self.hash, self.key)
    }

    /// What is kept for the key, to be changed; made by `first` where there is nothing.
    pub fn get_or_insert_with(&mut self, first: impl FnOnce() -> S) -> &mut S {
        self.state.upsert(self.hash, self.group, self.key, first)
    }

    /// Keeps `state` for the key. Gives what was kept before.
    pub fn set(&mut self, state: S) -> Option<S> {
        let mut state = Some(state);
        let kept = self.state.upsert(self.hash, self.group, self.key, || state.take().expect("it was just put there"));
        state.map(|state| std::mem::replace(kept, state))
    }

    /// Keeps nothing for the key any more: the snapshot does not grow by keys that are over.
    pub fn remove(&mut self) -> Option<S> {
        self.state.remove(self.hash, self.key)
    }

    /// Asks for [`KeyedLogic::on_timer`] when event time has come to `at`; once, however often it is set. A time that has
    /// passed already ([`KeyContext::watermark`]) becomes the earliest one that has not. Gives the time it is set to;
    /// `None` where that would be the end of time, which never comes.
    ///
    /// When a bounded input ends, all timers that are set then are due, in order. So are those that their `on_timer` sets, up
    /// to the last of the same key's; later ones are dropped, so that a timer that sets itself again comes to an end. How far
    /// time had come before the end is left to chance, and so is how often such a timer is called after its last record.
    pub fn set_timer(&mut self, at: EventTime) -> Option<EventTime> {
        let at = at.max(self.floor);
        if at >= EventTime::MAX {
            return None;
        }
        self.timers.set(at, self.hash, self.group, self.key);
        Some(at)
    }

    /// Takes a timer back. Says whether there was one.
    pub fn clear_timer(&mut self, at: EventTime) -> bool {
        self.timers.clear(at, self.hash, self.key)
    }

    /// Sends a result on, at the event time of the record or the timer.
    pub fn emit(&mut self, result: O) {
        self.out.push(Event { at: self.at, watermark: self.watermark, value: result });
    }
}

/// What a process step is made of.
pub(crate) struct ProcessStep<L> {
    pub(crate) name: StepName,
    pub(crate) logic: L,
}

/// Builds the process operator. Gives results, nothing, and control parts.
///
/// # Errors
/// State that cannot be restored.
pub(crate) fn process<'scope, K: Key, T: Record, L: KeyedLogic<K, T>>(
    context: &Arc<JobContext>,
    worker: usize,
    flow: KeyedFlow<'scope, K, T>,
    step: ProcessStep<L>,
) -> Result<Outputs<'scope, Event<L::Out>, ()>> {
    let ProcessStep { name, logic } = step;
    let share = Share::new(context, &name, worker);
    let (mut timers, mut scratch) = (Timers::new(), Vec::new());
    let state = TieredState::restore(context, &share, STATE, &mut |group, _table, key, value| {
        timers.restore(group, |key: &K| stable_hash(key, &mut scratch), key, value)
    })?;
    let logic = ProcessLogic { share, logic, state, timers, scratch, marker: std::marker::PhantomData };
    Ok(stateful_by_key(context, &name, flow, logic))
}

struct ProcessLogic<K, T, L: KeyedLogic<K, T>> {
    share: Share,
    logic: L,
    state: TieredState<K, L::State>,
    timers: Timers<K>,
    scratch: Vec<u8>,
    marker: std::marker::PhantomData<fn(T)>,
}

impl<K: Key, T: Record, L: KeyedLogic<K, T>> ProcessLogic<K, T, L> {
    /// Calls the logic for every timer through `limit` that is `wanted`, also for those that it sets meanwhile.
    fn fire(
        &mut self,
        limit: EventTime,
        wanted: impl Fn(&K, EventTime) -> bool,
        fired: &mut Vec<(EventTime, Vec<Event<L::Out>>)>,
    ) -> Result<()> {
        // One moment at a time: a timer that is set meanwhile may lie before those that are due already.
        while let Some(next) = self.timers.earliest().filter(|next| *next <= limit) {
            for (at, keys) in self.timers.fire_through(next) {
                let mut out = Vec::new();
                let keys = keys.into_iter().filter(|key| wanted(key, at));
                let keys: Vec<_> = keys.map(|key| (stable_hash(&key, &mut self.scratch), key)).collect();
                let share = &self.share;
                for (number, (hash, key)) in keys.iter().enumerate() {
                    // A part at a time: all keys of a moment may be more than memory holds.
                    if number % FETCHED == 0 {
                        let part = keys.iter().skip(number).take(FETCHED);
                        self.state.fetch(part.map(|(hash, key)| (*hash, share.group_of(*hash), key)))?;
                    }
                    self.logic.on_timer(&mut KeyContext {
                        group: self.share.group_of(*hash),
                        key,
                        hash: *hash,
                        at,
                        watermark: at,
                        floor: at.plus(millis(1)),
                        state: &mut self.state.state,
                        timers: &mut self.timers,
                        out: &mut out,
                    });
                }
                if !out.is_empty() {
                    fired.push((at, out));
                }
            }
        }
        Ok(())
    }
}

impl<K: Key, T: Record, L: KeyedLogic<K, T>> EpochLogic for ProcessLogic<K, T, L> {
    type In = Keyed<K, T>;
    type Out = Event<L::Out>;
    type Side = ();

    fn batch(&mut self, records: Vec<Keyed<K, T>>, made: &mut Made<Event<L::Out>, ()>) -> Result<()> {
        let share = &self.share;
        self.state.fetch(records.iter().map(|keyed| (keyed.hash, share.group_of(keyed.hash), &keyed.key)))?;
        for Keyed { hash, key, event: Event { at, watermark, value } } in records {
            self.logic.on_record(
                value,
                &mut KeyContext {
                    group: self.share.group_of(hash),
                    key: &key,
                    hash,
                    at,
                    watermark,
                    floor: watermark,
                    state: &mut self.state.state,
                    timers: &mut self.timers,
                    out: &mut made.out,
                },
            );
        }
        Ok(())
    }

    fn advance(
        &mut self,
        watermark: Option<EventTime>,
        fired: &mut Vec<(EventTime, Vec<Event<L::Out>>)>,
    ) -> Result<()> {
        match watermark {
            Some(watermark) => self.fire(watermark, |_, _| true, fired)?,
            None => {
                let last = self.timers.last_of_each();
                self.fire(EventTime::MAX, |key, at| last.get(key).is_some_and(|last| at <= *last), fired)?;
            }
        }
        Ok(())
    }

    fn close(&mut self, epoch: Epoch, parts: &mut Vec<Control>) -> Result<()> {
        let mut changes = ChangelogWriter::default();
        self.state.close(epoch, &mut changes)?;
        self.timers.drain_changes(TIMERS, &mut changes)?;
        let bytes = self.state.state.bytes().saturating_add(self.timers.bytes());
        self.share.hand_over(changes, self.state.state.len(), bytes, parts);
        Ok(())
    }

    fn hold(&self, watermark: EventTime) -> Option<EventTime> {
        // Every timer before the watermark has been called, and a record cannot set one before its split's watermark,
        // which is not before this one.
        Some(watermark)
    }
}
