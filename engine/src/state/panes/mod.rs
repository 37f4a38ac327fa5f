//! The accumulators of windows that overlap: one per pane and key, so that a record is added once and a window is merged
//! when it fires; or, where accumulators cannot be merged, one per window and key.
//!
//! A pane ([`Pane`]) is the set of windows that a record counts in. When one of these windows fires, all the others are
//! still open, and a record that comes after that is late for it: it counts in the rest of the windows, which is another
//! pane. So nothing is added any more to the accumulators that a fired window was made of, and no window counts a record
//! that came too late for it, even where the window is still waiting for a slower split.
//!
//! A key's accumulators lie together with the key, so that a record is one look-up, also where it is added to a dozen
//! windows, and a window that fires needs none.

mod cells;
mod firing;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use cells::{Cell, Cells};

use stored::Form;

use super::deleted::Deleted;
use super::slots::Slots;
use crate::vocabulary::{EventTime, Key, KeyGroup, State};
use crate::window::{Pane, WindowSpec};

/// The accumulators of all open panes of a step, or of all open windows that overlap, each by itself.
///
/// *In:* a pane and a key a record, by [`upsert`](Self::upsert) or [`add_each`](Self::add_each). *Out:* closed windows from [`fire_through`](Self::fire_through), the earliest end
/// first; changes from [`drain_changes`](Self::drain_changes), once an epoch. *After a crash:* empty, until
/// [`restore`](Self::restore) was called with every live entry; windows that had fired before fire again, unless
/// [`skip_through`](Self::skip_through) or `wanted` says otherwise.
///
/// # Examples
/// ```
/// use shardflow::state::PaneState;
/// use shardflow::vocabulary::{EventTime, KeyGroup, seconds};
/// use shardflow::window::sliding;
/// let at = EventTime::from_millis;
/// let spec = sliding(seconds(10), seconds(5)).grace(seconds(0));
/// let mut state = PaneState::<String, u64>::new(spec);
/// let key = "acct".to_owned();
/// *state.upsert(spec.pane(at(7_000)), 17, KeyGroup::new(1), &key, || 0) += 3;
/// *state.upsert(spec.pane(at(11_000)), 17, KeyGroup::new(1), &key, || 0) += 4;
/// let fired = state.fire_through(Some(at(15_000)), |_, _| true, |sum, other| *sum += other);
/// let fired: Vec<_> = fired.into_iter().map(|(window, totals)| (window.start().as_millis(), totals)).collect();
/// assert_eq!(fired, [(0, vec![(key.clone(), 3)]), (5_000, vec![(key, 7)])]);
/// ```
#[derive(Debug)]
pub struct PaneState<K, A> {
    spec: WindowSpec,
    form: Form,
    keys: Slots<K, Cells<A>>,
    // Where in `panes` an open pane is. The order is that in which they leave.
    open: BTreeMap<Pane, u32>,
    panes: Vec<OpenPane>,
    free: Vec<u32>,
    // Consecutive records mostly hit the same pane. Its place, or those of its windows.
    recent: Option<Pane>,
    places: Vec<u32>,
    // When the next window begins that may fire, and when the next one does that has something in it.
    next: EventTime,
    due: Option<EventTime>,
    accumulators: usize,
    deleted: Deleted,
}

/// A pane with the places of the keys that have an accumulator in it.
#[derive(Debug)]
struct OpenPane {
    pane: Pane,
    keys: Vec<u32>,
    // Those whose accumulator changed since the last drain.
    dirty: Vec<u32>,
}

impl<K: Key, A: State> PaneState<K, A> {
    /// No open pane of these windows.
    #[must_use]
    pub fn new(spec: WindowSpec) -> Self {
        Self::of(spec, Form::Panes)
    }

    /// None of these windows open, each of which is kept by itself, and stored as by
    /// [`WindowState`](super::WindowState).
    #[must_use]
    pub fn of_windows(spec: WindowSpec) -> Self {
        Self::of(spec, Form::Windows)
    }

    fn of(spec: WindowSpec, form: Form) -> Self {
        Self {
            spec,
            form,
            keys: Slots::default(),
            open: BTreeMap::new(),
            panes: Vec::new(),
            free: Vec::new(),
            recent: None,
            places: Vec::new(),
            next: EventTime::MIN,
            due: None,
            accumulators: 0,
            deleted: Deleted::default(),
        }
    }

    /// The accumulator of `key` in `pane`, made by `default` where there is none. It counts as changed in this epoch.
    ///
    /// The pane is of windows that have not fired: a window that has does not fire again.
    #[inline]
    pub fn upsert(&mut self, pane: Pane, hash: u64, group: KeyGroup, key: &K, default: impl FnOnce() -> A) -> &mut A {
        if self.recent != Some(pane) {
            self.look_up(pane, std::iter::once(pane));
        }
        let place = self.places.first().copied().expect("a pane has a place");
        let (key, entry) = self.keys.place_or_insert(hash, group, key, Cells::new);
        let new = || Cell { value: default(), pane: place, dirty: false, persisted: false };
        let (at, is_new) = cell_of(&mut entry.value, &mut self.panes, pane, place, key, new);
        self.accumulators += usize::from(is_new);
        let cell = entry.value.at_mut(at).expect("it was found, or just put there");
        if !std::mem::replace(&mut cell.dirty, true) {
            open_at(&mut self.panes, place).dirty.push(key);
        }
        &mut cell.value
    }

    /// Gives the accumulator of `key` in each window of `pane` to `add`, the earliest first, made by `default` where there
    /// is none. They count as changed in this epoch. For windows that are kept each by itself.
    #[inline]
    pub fn add_each(
        &mut self,
        pane: Pane,
        hash: u64,
        group: KeyGroup,
        key: &K,
        default: impl Fn() -> A,
        mut add: impl FnMut(&mut A),
    ) {
        if self.recent != Some(pane) {
            let windows = pane.windows(&self.spec);
            self.look_up(pane, windows);
        }
        let (key, entry) = self.keys.place_or_insert(hash, group, key, Cells::new);
        // Where the next window's accumulator is, if the key has one: after that of the window before.
        let mut next = usize::MAX;
        for &place in &self.places {
            let at = match entry.value.at_mut(next) {
                Some(cell) if cell.pane == place => next,
                _ => {
                    let window = pane_at(&self.panes, place);
                    let new = || Cell { value: default(), pane: place, dirty: false, persisted: false };
                    let (at, is_new) = cell_of(&mut entry.value, &mut self.panes, window, place, key, new);
                    self.accumulators += usize::from(is_new);
                    at
                }
            };
            let cell = entry.value.at_mut(at).expect("it was found, or just put there");
            if !std::mem::replace(&mut cell.dirty, true) {
                open_at(&mut self.panes, place).dirty.push(key);
            }
            add(&mut cell.value);
            next = at.saturating_add(1);
        }
    }

    /// Finds the places of a pane, or of its windows.
    fn look_up(&mut self, pane: Pane, parts: impl Iterator<Item = Pane>) {
        self.places.clear();
        for part in parts {
            let place = self.open_pane(part);
            self.places.push(place);
        }
        self.recent = Some(pane);
    }

    fn open_pane(&mut self, pane: Pane) -> u32 {
        let Self { open, panes, free, .. } = self;
        let place = *open.entry(pane).or_insert_with(|| match free.pop() {
            Some(place) => {
                open_at(panes, place).pane = pane;
                place
            }
            None => {
                panes.push(OpenPane { pane, keys: Vec::new(), dirty: Vec::new() });
                (panes.len() - 1) as u32
            }
        });
        let first = pane.first().max(self.next);
        self.due = Some(self.due.map_or(first, |due| due.min(first)));
        place
    }

    /// All accumulators with their panes and keys, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Pane, &K, &A)> {
        let cells = self.keys.iter().flat_map(|entry| entry.value.iter().map(|cell| (&entry.key, cell)));
        cells.map(|(key, cell)| (pane_at(&self.panes, cell.pane), key, &cell.value))
    }

    /// Number of accumulators in all panes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.accumulators
    }

    /// Whether no pane is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.accumulators == 0
    }

    /// About how many bytes all panes take in memory, without what keys and accumulators own on the heap.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let lists = self.panes.iter().map(|open| open.keys.capacity().saturating_add(open.dirty.capacity()));
        let lists = lists.sum::<usize>().saturating_mul(size_of::<u32>());
        // Of each key, one lies in its slot.
        let older = self.accumulators.saturating_sub(self.keys.len()).saturating_mul(size_of::<Cell<A>>());
        self.keys.bytes().saturating_add(older).saturating_add(lists)
    }
}

/// Where the accumulator of a key in a pane is, and whether it is new. The key and the pane are named by their places too.
#[inline]
fn cell_of<A>(
    cells: &mut Cells<A>,
    panes: &mut [OpenPane],
    pane: Pane,
    place: u32,
    key: u32,
    new: impl FnOnce() -> Cell<A>,
) -> (usize, bool) {
    let found = cells.find(place, pane, |place| pane_at(panes, place));
    if let Err(at) = found {
        open_at(panes, place).keys.push(key);
        cells.insert(at, new());
    }
    let (Ok(at) | Err(at)) = found;
    (at, found.is_err())
}

fn open_at(panes: &mut [OpenPane], place: u32) -> &mut OpenPane {
    panes.get_mut(place as usize).expect("an open pane has a place")
}

fn pane_at(panes: &[OpenPane], place: u32) -> Pane {
    panes.get(place as usize).expect("an accumulator's pane is open").pane
}
