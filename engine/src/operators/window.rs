//! The window operator: folds each key's records by window, and emits a window when time has passed its end plus grace.
//!
//! *Enters*: keyed records. *Leaves*: one result a key and window; late records, as they came. *Survives a crash*: the
//! accumulators of open windows, and up to where windows have been closed.
//!
//! A record is added to each of its windows, or, where windows overlap and their accumulators can be merged, to one pane
//! ([`Pane`]). Both give the same results.

use std::sync::Arc;

use super::context::JobContext;
use super::control::Control;
use super::key_by::{Keyed, KeyedFlow, stateful_by_key};
use super::open_windows::OpenWindows;
use super::share::{Share, Visit};
use super::stateful::{EpochLogic, Made, Outputs};
use crate::error::Result;
use crate::exchange::stable_hash;
use crate::metrics as counters;
use crate::state::changelog::{ChangelogWriter, Table};
use crate::state::codec;
use crate::vocabulary::{
    Epoch, Event, EventTime, IdNamespace, Key, KeyGroup, Record, RecordId, State, StepName, Window,
};
use crate::window::aggregate::Aggregate;
use crate::window::{Pane, WindowSpec};

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
    /// What its step's ids are made in.
    pub ids: IdNamespace,
}

impl<K: Key, V> WindowResult<K, V> {
    /// The result's id, which a replay repeats: of job, step, key and window. Another job's result for the same key and window
    /// has another.
    ///
    /// There is no revision in it, since a key has one result a window: it comes when the window's grace is over, and a record
    /// that comes later goes to the late output and changes nothing.
    ///
    /// # Panics
    /// The key cannot be serialized. A step's own results have no such keys: `key_by` refuses them.
    #[must_use]
    pub fn id(&self) -> RecordId {
        let id = self.ids.id(&(&self.key, self.window.start(), self.window.end()));
        id.expect("key_by takes no key that cannot be serialized")
    }
}

/// Makes an accumulator.
pub(crate) type Empty<A> = Box<dyn Fn() -> A + Send + Sync>;
/// Adds a record to an accumulator.
pub(crate) type Add<A, T> = Box<dyn Fn(&mut A, &T) + Send + Sync>;
/// Adds all that one accumulator has taken to another.
pub(crate) type Merge<A> = Box<dyn Fn(&mut A, A) + Send + Sync>;
/// Makes the result of an accumulator.
pub(crate) type Finish<A, V> = Box<dyn Fn(A) -> V + Send + Sync>;

/// How records become a result.
pub(crate) struct Fold<A, T, V> {
    pub(crate) empty: Empty<A>,
    pub(crate) add: Add<A, T>,
    /// `None` where only records can be added.
    pub(crate) merge: Option<Merge<A>>,
    pub(crate) finish: Finish<A, V>,
}

impl<A: State, T: 'static> Fold<A, T, A> {
    /// A fold whose accumulator is its result.
    pub(crate) fn plain(
        empty: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&mut A, &T) + Send + Sync + 'static,
    ) -> Self {
        let finish = Box::new(|accumulator| accumulator);
        Self { empty: Box::new(empty), add: Box::new(add), merge: None, finish }
    }
}

impl<A: State, T: 'static, V> Fold<A, T, V> {
    /// The fold of an aggregate.
    pub(crate) fn of<G: Aggregate<T, Acc = A, Out = V>>(aggregate: G) -> Self {
        let aggregate = Arc::new(aggregate);
        let (empty, add) = (Arc::clone(&aggregate), Arc::clone(&aggregate));
        let (merge, finish) = (Arc::clone(&aggregate), aggregate);
        Self {
            empty: Box::new(move || empty.empty()),
            add: Box::new(move |accumulator, record: &T| add.add(accumulator, record)),
            merge: Some(Box::new(move |accumulator, other| merge.merge(accumulator, other))),
            finish: Box::new(move |accumulator| finish.finish(accumulator)),
        }
    }

    /// What the state of a step depends on that folds so in these windows.
    pub(crate) fn kind(&self, spec: &WindowSpec) -> String {
        if spec.overlap() && self.merge.is_some() { format!("{spec}, in panes") } else { spec.to_string() }
    }
}

/// Results, late records and control parts.
type WindowOutputs<'scope, K, T, V> = Outputs<'scope, Event<WindowResult<K, V>>, Event<T>>;

/// What a window step is made of.
pub(crate) struct WindowStep<A, T, V> {
    pub(crate) name: StepName,
    pub(crate) spec: WindowSpec,
    pub(crate) fold: Fold<A, T, V>,
}

/// Builds the window operator. Gives results, late records and control parts.
///
/// # Errors
/// State that cannot be restored.
pub(crate) fn window<'scope, K: Key, T: Record, A: State, V: Clone + 'static>(
    context: &Arc<JobContext>,
    worker: usize,
    flow: KeyedFlow<'scope, K, T>,
    step: WindowStep<A, T, V>,
) -> Result<WindowOutputs<'scope, K, T, V>> {
    let WindowStep { name, spec, mut fold } = step;
    let open = OpenWindows::new(spec, fold.merge.take());
    let share = Share::new(context, &name, worker);
    let logic: WindowLogic<K, T, A, V> = WindowLogic::restore(share, spec, fold, open, Share::restore)?;
    Ok(stateful_by_key(context, &name, flow, logic))
}

struct WindowLogic<K, T, A, V> {
    share: Share,
    ids: IdNamespace,
    fold: Fold<A, T, V>,
    open: OpenWindows<K, A>,
    closed: ClosedWindows,
    late: metrics::Counter,
}

/// Which windows take no records any more.
struct ClosedWindows {
    spec: WindowSpec,
    /// Windows that end at or before this have been emitted.
    end: EventTime,
    /// Whether `end` moved in the open epoch.
    moved: bool,
    /// The same as the last committed epoch knew it, by key group: an idle split may have let time run ahead of its
    /// records, and a replay must not open those windows again. Empty where nothing was restored.
    restored: Vec<EventTime>,
}

impl ClosedWindows {
    /// Whether a window takes no records any more, for a record that came when its split was at `watermark`.
    fn has(&self, window: Window, group: KeyGroup, watermark: EventTime) -> bool {
        self.spec.is_late(window, watermark) || window.end() <= self.restored(group)
    }

    /// The windows of a pane that still take such a record; `None` where there are none.
    fn open_part(&self, pane: Pane, group: KeyGroup, watermark: EventTime) -> Option<Pane> {
        self.spec.open_part(pane, watermark, self.restored(group))
    }

    /// Up to which end the last committed epoch had closed the windows of a key group.
    fn restored(&self, group: KeyGroup) -> EventTime {
        self.restored.get(usize::from(group.number())).copied().unwrap_or(EventTime::MIN)
    }

    fn restore(&mut self, group: KeyGroup, end: EventTime) {
        let place = usize::from(group.number());
        if self.restored.len() <= place {
            self.restored.resize(place.saturating_add(1), EventTime::MIN);
        }
        if let Some(restored) = self.restored.get_mut(place) {
            *restored = end;
        }
    }

    /// Takes in that a window was emitted.
    fn close(&mut self, window: Window) {
        self.end = self.end.max(window.end());
        self.moved = true;
    }

    fn drain_changes(&mut self, groups: std::ops::Range<u16>, changes: &mut ChangelogWriter) -> Result<()> {
        if std::mem::take(&mut self.moved) {
            for group in groups.map(KeyGroup::new) {
                // Groups that came from different workers had been closed to different ends: none goes back.
                changes.put_encoded(group, CLOSED, &[], &self.end.max(self.restored(group)))?;
            }
        }
        Ok(())
    }
}

impl<K: Key, T: Record, A: State, V: Clone + 'static> WindowLogic<K, T, A, V> {
    /// A logic that keeps `open` windows, whose stored entries `visit_all` visits.
    fn restore(
        share: Share,
        spec: WindowSpec,
        fold: Fold<A, T, V>,
        mut open: OpenWindows<K, A>,
        visit_all: impl FnOnce(&Share, &mut Visit<'_>) -> Result<()>,
    ) -> Result<Self> {
        let mut closed = ClosedWindows { spec, end: EventTime::MIN, moved: false, restored: Vec::new() };
        let mut scratch = Vec::new();
        visit_all(&share, &mut |group, table, key, value| {
            if table == WINDOWS {
                return open.restore(group, |key| stable_hash(key, &mut scratch), key, value);
            }
            closed.restore(group, codec::decode(value)?);
            Ok(())
        })?;
        // What no key group of this worker waits for any more.
        let ends = share.groups().map(|group| closed.restored(KeyGroup::new(group)));
        open.skip_through(ends.min().unwrap_or(EventTime::MIN));
        let late = counters::late(share.name());
        let ids = share.ids();
        Ok(Self { share, ids, fold, open, closed, late })
    }

    /// Adds a record to the windows that are open for it. Says whether there are any.
    #[inline]
    fn add(&mut self, hash: u64, key: &K, event: &Event<T>) -> bool {
        let Self { share, fold, open, closed, .. } = self;
        let group = share.group_of(hash);
        let empty = || (fold.empty)();
        match open {
            OpenWindows::Apart(state, spec) => {
                let mut taken = false;
                for window in spec.assign(event.at) {
                    if !closed.has(window, group, event.watermark) {
                        (fold.add)(state.upsert(window, hash, group, key, empty), &event.value);
                        taken = true;
                    }
                }
                taken
            }
            OpenWindows::Overlapping(state, finder) => {
                let Some(pane) = closed.open_part(finder.pane(event.at), group, event.watermark) else { return false };
                state.add_each(pane, hash, group, key, empty, |accumulator| (fold.add)(accumulator, &event.value));
                true
            }
            OpenWindows::Panes(state, finder, _) => {
                let Some(pane) = closed.open_part(finder.pane(event.at), group, event.watermark) else { return false };
                (fold.add)(state.upsert(pane, hash, group, key, empty), &event.value);
                true
            }
        }
    }

    fn results(&self, window: Window, entries: Vec<(K, A)>) -> Vec<Event<WindowResult<K, V>>> {
        let at = window.last();
        let result = |(key, accumulator)| {
            let value = WindowResult { key, window, value: (self.fold.finish)(accumulator), ids: self.ids };
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
        // Late ones are few: the others are not moved for their sake.
        let late = records.iter().enumerate().filter_map(|(index, Keyed { hash, key, event })| {
            let taken = self.add(*hash, key, event);
            (!taken).then_some(index)
        });
        let late: Vec<_> = late.collect();
        self.late.increment(late.len() as u64);
        if !late.is_empty() {
            let mut late = late.into_iter().peekable();
            let records = records.into_iter().enumerate();
            made.side.extend(records.filter_map(|(index, keyed)| late.next_if_eq(&index).map(|_| keyed.event)));
        }
        Ok(())
    }

    fn advance(&mut self, watermark: Option<EventTime>, fired: &mut Vec<(EventTime, Vec<Self::Out>)>) -> Result<()> {
        let Self { open, closed, .. } = self;
        let due = open.fire_through(watermark, |window, group| window.end() > closed.restored(group));
        for (window, entries) in due {
            self.closed.close(window);
            fired.push((window.last(), self.results(window, entries)));
        }
        Ok(())
    }

    fn close(&mut self, _epoch: Epoch, parts: &mut Vec<Control>) -> Result<()> {
        let mut changes = ChangelogWriter::default();
        self.open.drain_changes(WINDOWS, &mut changes)?;
        self.closed.drain_changes(self.share.groups(), &mut changes)?;
        self.share.hand_over(changes, self.open.len(), self.open.bytes(), parts);
        Ok(())
    }

    fn hold(&self, watermark: EventTime) -> Option<EventTime> {
        // A window that is open, or may yet be opened, ends after `watermark - grace`. Its result is stamped with the last
        // millisecond inside, which is then no earlier than this.
        Some(watermark.minus(self.closed.spec.grace()))
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
