//! The window operator: folds each key's records by window, and emits a window when time has passed its end plus grace.
//!
//! *Enters*: keyed records. *Leaves*: one result a key and window; late records, as they came. *Survives a crash*: the
//! accumulators of open windows, and up to where windows have been closed.

use std::sync::Arc;

use super::Flowing;
use super::context::JobContext;
use super::control::Control;
use super::key_by::{Keyed, Routing, stateful_by_key};
use super::share::Share;
use super::stateful::{EpochLogic, Made, Outputs};
use crate::error::Result;
use crate::exchange::stable_hash;
use crate::metrics as counters;
use crate::state::WindowState;
use crate::state::changelog::{ChangelogWriter, Table};
use crate::state::codec;
use crate::vocabulary::{Epoch, Event, EventTime, Key, KeyGroup, Record, State, StepName, Window};
use crate::window::WindowSpec;
use crate::window::aggregate::Aggregate;

/// Open windows.
const WINDOWS: Table = Table(0);
/// The greatest end of a closed window of a key group. An end, and not a time with the grace in it: the next start may
/// have another grace, and must not open again what was emitted.
const CLOSED: Table = Table(1);

/// A window's result for one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowResult<K, V> {
    /// The key.
    pub key: K,
    /// The window.
    pub window: Window,
    /// What its records were folded into.
    pub value: V,
}

/// Makes an accumulator.
pub(crate) type Empty<A> = Box<dyn Fn() -> A + Send + Sync>;
/// Adds a record to an accumulator.
pub(crate) type Add<A, T> = Box<dyn Fn(&mut A, &T) + Send + Sync>;
/// Makes the result of an accumulator.
pub(crate) type Finish<A, V> = Box<dyn Fn(A) -> V + Send + Sync>;

/// How records become a result.
pub(crate) struct Fold<A, T, V> {
    pub(crate) empty: Empty<A>,
    pub(crate) add: Add<A, T>,
    pub(crate) finish: Finish<A, V>,
}

impl<A: State, T: 'static, V> Fold<A, T, V> {
    /// A fold whose accumulator is its result.
    pub(crate) fn plain(
        empty: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&mut A, &T) + Send + Sync + 'static,
    ) -> Fold<A, T, A> {
        Fold { empty: Box::new(empty), add: Box::new(add), finish: Box::new(|accumulator| accumulator) }
    }

    /// The fold of an aggregate.
    pub(crate) fn of<G: Aggregate<T, Acc = A, Out = V>>(aggregate: G) -> Self {
        let aggregate = Arc::new(aggregate);
        let (empty, add, finish) = (Arc::clone(&aggregate), Arc::clone(&aggregate), aggregate);
        Self {
            empty: Box::new(move || empty.empty()),
            add: Box::new(move |accumulator, record: &T| add.add(accumulator, record)),
            finish: Box::new(move |accumulator| finish.finish(accumulator)),
        }
    }
}

/// Results, late records and control parts.
type WindowOutputs<'scope, K, T, V> = Outputs<'scope, Event<WindowResult<K, V>>, Event<T>>;

/// What a window step is made of.
pub(crate) struct WindowStep<A, T, V> {
    pub(crate) name: StepName,
    pub(crate) spec: WindowSpec,
    pub(crate) fold: Fold<A, T, V>,
    pub(crate) routing: Routing,
}

/// Builds the window operator. Gives results, late records and control parts.
///
/// # Errors
/// State that cannot be restored.
pub(crate) fn window<'scope, K: Key, T: Record, A: State, V: Clone + 'static>(
    context: &Arc<JobContext>,
    worker: usize,
    stream: Flowing<'scope, Keyed<K, T>>,
    step: WindowStep<A, T, V>,
) -> Result<WindowOutputs<'scope, K, T, V>> {
    let WindowStep { name, spec, fold, routing } = step;
    let logic: WindowLogic<K, T, A, V> = WindowLogic::restore(context, worker, &name, spec, fold)?;
    Ok(stateful_by_key(context, &name, stream, &routing, logic))
}

struct WindowLogic<K, T, A, V> {
    share: Share,
    spec: WindowSpec,
    fold: Fold<A, T, V>,
    state: WindowState<K, A>,
    /// Windows that end at or before this have been emitted.
    closed: EventTime,
    /// Whether `closed` moved past a window in the open epoch.
    closed_changed: bool,
    /// The same as the last committed epoch knew it, by key group: an idle split may have let time run ahead of its
    /// records, and a replay must not open those windows again. Empty where nothing was restored.
    restored_closed: Vec<EventTime>,
    late: metrics::Counter,
}

impl<K: Key, T: Record, A: State, V: Clone + 'static> WindowLogic<K, T, A, V> {
    fn restore(
        context: &Arc<JobContext>,
        worker: usize,
        name: &StepName,
        spec: WindowSpec,
        fold: Fold<A, T, V>,
    ) -> Result<Self> {
        let share = Share::new(context, name, worker);
        let (mut state, mut restored_closed, mut scratch) = (WindowState::new(), Vec::new(), Vec::new());
        share.restore(&mut |group, table, key, value| {
            if table == WINDOWS {
                return state.restore(group, |key| stable_hash(key, &mut scratch), key, value);
            }
            let closed: EventTime = codec::decode(value)?;
            restored_closed.resize(usize::from(context.groups.count()), EventTime::MIN);
            if let Some(entry) = restored_closed.get_mut(usize::from(group.number())) {
                *entry = closed;
            }
            Ok(())
        })?;
        Ok(Self {
            share,
            spec,
            fold,
            state,
            closed: EventTime::MIN,
            closed_changed: false,
            restored_closed,
            late: counters::late(name),
        })
    }

    /// Whether a window takes no records any more, for a record that came when its split was at `watermark`.
    fn is_closed(&self, window: Window, group: KeyGroup, watermark: EventTime) -> bool {
        self.spec.is_late(window, watermark) || window.end() <= self.restored(group)
    }

    /// Up to which end the last committed epoch had closed the windows of a key group.
    fn restored(&self, group: KeyGroup) -> EventTime {
        self.restored_closed.get(usize::from(group.number())).copied().unwrap_or(EventTime::MIN)
    }

    fn results(&self, window: Window, entries: Vec<(K, A)>) -> Vec<Event<WindowResult<K, V>>> {
        let at = window.last();
        let result = |(key, accumulator)| {
            let value = WindowResult { key, window, value: (self.fold.finish)(accumulator) };
            Event { at, watermark: at, value }
        };
        entries.into_iter().map(result).collect()
    }
}

impl<K: Key, T: Record, A: State, V: Clone + 'static> EpochLogic for WindowLogic<K, T, A, V> {
    type In = Keyed<K, T>;
    type Out = Event<WindowResult<K, V>>;
    type Side = Event<T>;

    fn batch(&mut self, records: Vec<Keyed<K, T>>, made: &mut Made<Self::Out, Self::Side>) -> Result<()> {
        for Keyed { hash, key, event } in records {
            let group = self.share.group_of(hash);
            let mut taken = false;
            for window in self.spec.assign(event.at) {
                if !self.is_closed(window, group, event.watermark) {
                    let accumulator = self.state.upsert(window, hash, group, &key, || (self.fold.empty)());
                    (self.fold.add)(accumulator, &event.value);
                    taken = true;
                }
            }
            if !taken {
                made.side.push(event);
            }
        }
        self.late.increment(made.side.len() as u64);
        Ok(())
    }

    fn advance(&mut self, watermark: Option<EventTime>, fired: &mut Vec<(EventTime, Vec<Self::Out>)>) -> Result<()> {
        let due = match watermark {
            Some(watermark) => self.state.fire_through(watermark, self.spec.grace()),
            None => self.state.fire_all(),
        };
        for (window, entries) in due {
            self.closed = self.closed.max(window.end());
            self.closed_changed = true;
            fired.push((window.last(), self.results(window, entries)));
        }
        Ok(())
    }

    fn close(&mut self, _epoch: Epoch, parts: &mut Vec<Control>) -> Result<()> {
        let mut changes = ChangelogWriter::default();
        self.state.drain_changes(WINDOWS, &mut changes)?;
        if std::mem::take(&mut self.closed_changed) {
            for group in self.share.groups().map(KeyGroup::new) {
                // Groups that came from different workers had been closed to different ends: none goes back.
                changes.put_encoded(group, CLOSED, &[], &self.closed.max(self.restored(group)))?;
            }
        }
        self.share.hand_over(changes, self.state.len(), self.state.bytes(), parts);
        Ok(())
    }

    fn hold(&self, watermark: EventTime) -> Option<EventTime> {
        // A window that is open, or may yet be opened, ends after `watermark - grace`. Its result is stamped with the last
        // millisecond inside, which is then no earlier than this.
        Some(watermark.minus(self.spec.grace()))
    }
}
