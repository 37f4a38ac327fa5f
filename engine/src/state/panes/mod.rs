//! One accumulator per pane and key, for windows that overlap: a record is added once, and a window is merged when it
//! fires.
//!
//! A pane ([`Pane`]) is the set of windows that a record counts in. When one of these windows fires, all the others are
//! still open, and a record that comes after that is late for it: it counts in the rest of the windows, which is another
//! pane. So nothing is added any more to the accumulators that a fired window was made of, and no window counts a record
//! that came too late for it, even where the window is still waiting for a slower split.
//!
//! A key's accumulators lie together with the key, so that a record is one look-up and a window needs none.

mod cells;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use cells::{Cell, Cells};

use super::changelog::{ChangelogWriter, Table};
use super::codec;
use super::deleted::Deleted;
use super::slots::Slots;
use crate::error::{Error, Result};
use crate::vocabulary::{EventTime, Key, KeyGroup, State, Window};
use crate::window::{Pane, WindowSpec};

/// The accumulators of all open panes of a step.
///
/// *In:* a pane and a key a record. *Out:* closed windows from [`fire_through`](Self::fire_through), the earliest end
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
    keys: Slots<K, Cells<A>>,
    // Where in `panes` an open pane is. The order is that in which they leave.
    open: BTreeMap<Pane, u32>,
    panes: Vec<OpenPane>,
    free: Vec<u32>,
    // Consecutive records mostly hit the same pane.
    recent: Option<(Pane, u32)>,
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
        Self {
            spec,
            keys: Slots::default(),
            open: BTreeMap::new(),
            panes: Vec::new(),
            free: Vec::new(),
            recent: None,
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
        let place = match self.recent {
            Some((recent, place)) if recent == pane => place,
            _ => self.open_pane(pane),
        };
        let (key, entry) = self.keys.place_or_insert(hash, group, key, Cells::new);
        let new = || Cell { value: default(), pane: place, dirty: false, persisted: false };
        let (cell, is_new) = cell_of(&mut entry.value, &mut self.panes, pane, place, key, new);
        self.accumulators += usize::from(is_new);
        if !std::mem::replace(&mut cell.dirty, true) {
            open_at(&mut self.panes, place).dirty.push(key);
        }
        &mut cell.value
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
        self.recent = Some((pane, place));
        place
    }

    /// Merges the windows that have closed at `watermark`, and gives them back by their end; `None`: all of them, as when a
    /// bounded source has ended. The accumulators of a key are merged in the order of their panes. The keys within a
    /// window come in no particular order, and only those whose group is `wanted` in it.
    pub fn fire_through(
        &mut self,
        watermark: Option<EventTime>,
        wanted: impl Fn(Window, KeyGroup) -> bool,
        merge: impl Fn(&mut A, A),
    ) -> Vec<(Window, Vec<(K, A)>)> {
        let mut fired = Vec::new();
        while let Some(start) = self.due {
            let window = self.spec.window_from(start);
            if watermark.is_some_and(|watermark| !self.spec.is_late(window, watermark)) {
                break;
            }
            let entries = self.fire(start, &|group| wanted(window, group), &merge);
            if !entries.is_empty() {
                fired.push((window, entries));
            }
        }
        fired
    }

    /// Merges the window that begins at `start`, and lets go of the panes that count in no window after it.
    fn fire(
        &mut self,
        start: EventTime,
        wanted: &impl Fn(KeyGroup) -> bool,
        merge: &impl Fn(&mut A, A),
    ) -> Vec<(K, A)> {
        let end = self.spec.window_from(start).end();
        // A pane whose last window begins at the end of this one, or later, begins later itself.
        let panes =
            self.open.iter().take_while(|(pane, _)| pane.last() < end).filter(|(pane, _)| pane.first() <= start);
        let inside: Vec<u32> = panes.map(|(_, place)| *place).collect();
        let keys_of = |place: &u32| self.panes.get(*place as usize).map_or(0, |open| open.keys.len());
        let listed: usize = inside.iter().map(keys_of).sum();
        let mut results = Vec::with_capacity(listed.min(self.keys.len()));
        if listed >= self.keys.places() as usize {
            results.extend((0..self.keys.places()).filter_map(|key| self.fire_key(key, start, wanted, merge)));
        } else {
            for place in inside {
                let keys = std::mem::take(&mut open_at(&mut self.panes, place).keys);
                results.extend(keys.iter().filter_map(|key| self.fire_key(*key, start, wanted, merge)));
                open_at(&mut self.panes, place).keys = keys;
            }
        }
        self.let_go(start);
        results
    }

    /// Merges one key's accumulators of the window that begins at `start`, and removes those that count in no window after
    /// it.
    fn fire_key(
        &mut self,
        place: u32,
        start: EventTime,
        wanted: &impl Fn(KeyGroup) -> bool,
        merge: &impl Fn(&mut A, A),
    ) -> Option<(K, A)> {
        let Self { keys, panes, .. } = self;
        let entry = keys.at_mut(place)?;
        if !entry.value.fire(start) {
            return None;
        }
        let pane_at = |place: u32| pane_at(panes, place);
        let (wanted, mut total) = (wanted(entry.group), None);
        let mut add = |value: A| match &mut total {
            Some(total) => merge(total, value),
            None => total = Some(value),
        };
        while let Some(cell) = entry.value.pop_if(|place| pane_at(place).last() <= start) {
            self.accumulators -= 1;
            let pane = pane_at(cell.pane);
            if cell.persisted {
                self.deleted.push(entry.group, &pane_bytes(pane), &entry.key);
            }
            if wanted && pane.counts_in(start) {
                add(cell.value);
            }
        }
        if wanted {
            let end = self.spec.window_from(start).end();
            let cells = entry.value.iter().map(|cell| (pane_at(cell.pane), cell));
            let inside = cells.take_while(|(pane, _)| pane.last() < end).filter(|(pane, _)| pane.counts_in(start));
            inside.for_each(|(_, cell)| add(cell.value.clone()));
        }
        if entry.value.is_empty() {
            let entry = keys.remove_at(place)?;
            return total.map(|total| (entry.key, total));
        }
        total.map(|total| (entry.key.clone(), total))
    }

    /// Lets go of the panes that count in no window after the one that begins at `start`. No key has anything in them.
    fn let_go(&mut self, start: EventTime) {
        self.recent = None;
        while let Some(first) = self.open.first_entry().filter(|first| first.key().last() <= start) {
            let place = first.remove();
            // One keeps its memory for the next pane; more would hold on to the peak.
            let keeps = self.free.is_empty();
            self.free.push(place);
            let open = open_at(&mut self.panes, place);
            for list in [&mut open.keys, &mut open.dirty] {
                if keeps { list.clear() } else { *list = Vec::new() }
            }
        }
        if self.keys.is_sparse() {
            self.compact();
        }
        self.next = self.spec.start_after(start);
        self.find_due();
    }

    /// Gives back the memory of keys that are gone: nothing else would, as keys come and go one by one.
    fn compact(&mut self) {
        let places = self.keys.compact();
        for open in &mut self.panes {
            // A key that is listed has an accumulator in the pane, so it has a place.
            for place in open.keys.iter_mut().chain(&mut open.dirty) {
                *place = places.get(*place as usize).copied().unwrap_or(u32::MAX);
            }
        }
    }

    fn find_due(&mut self) {
        self.due = self.open.keys().map(|pane| pane.first().max(self.next)).min();
    }

    /// Takes in that the windows that end at or before `end` have fired, before the crash.
    pub fn skip_through(&mut self, end: EventTime) {
        self.next = self.next.max(self.spec.start_of_next_end(end));
        self.find_due();
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

    /// Appends what changed since the last call, and forgets that it changed.
    ///
    /// # Errors
    /// A key or accumulator cannot be encoded. The job must stop: part of the changes is lost to this map.
    pub fn drain_changes(&mut self, table: Table, changes: &mut ChangelogWriter) -> Result<()> {
        self.deleted.drain(table, changes)?;
        let Self { keys, panes, open, .. } = self;
        let (mut key, mut value) = std::mem::take(&mut changes.scratch);
        for (pane, place) in open {
            let span = pane_bytes(*pane);
            let mut list = std::mem::take(&mut open_at(panes, *place).dirty);
            for dirty in list.drain(..) {
                let Some(entry) = keys.at_mut(dirty) else { continue };
                let Ok(at) = entry.value.find(*place, *pane, |place| pane_at(panes, place)) else { continue };
                let Some(cell) = entry.value.at_mut(at).filter(|cell| cell.dirty) else { continue };
                key.clear();
                key.extend_from_slice(&span);
                codec::encode_into(&entry.key, &mut key)?;
                value.clear();
                codec::encode_into(&cell.value, &mut value)?;
                changes.put(entry.group, table, &key, &value);
                (cell.dirty, cell.persisted) = (false, true);
            }
            open_at(panes, *place).dirty = list;
        }
        changes.scratch = (key, value);
        Ok(())
    }

    /// Puts back one entry of the snapshot. `hash_of` computes the hash that `upsert` will use.
    ///
    /// # Errors
    /// The bytes are not those of a pane of these windows, a `K` and an `A`.
    pub fn restore(
        &mut self,
        group: KeyGroup,
        hash_of: impl FnOnce(&K) -> u64,
        key: &[u8],
        value: &[u8],
    ) -> Result<()> {
        let (pane, key) = read_pane(&self.spec, key)?;
        let (key, value) = (codec::decode::<K>(key)?, codec::decode::<A>(value)?);
        let place = self.open_pane(pane);
        let (key, entry) = self.keys.place_or_insert(hash_of(&key), group, &key, Cells::new);
        let mut value = Some(value);
        let new =
            || Cell { value: value.take().expect("it is put in once"), pane: place, dirty: false, persisted: true };
        let (cell, is_new) = cell_of(&mut entry.value, &mut self.panes, pane, place, key, new);
        self.accumulators += usize::from(is_new);
        if let Some(value) = value {
            cell.value = value;
        }
        Ok(())
    }
}

/// The accumulator of a key in a pane, and whether it is new. The key and the pane are named by their places too.
#[inline]
fn cell_of<'a, A>(
    cells: &'a mut Cells<A>,
    panes: &mut [OpenPane],
    pane: Pane,
    place: u32,
    key: u32,
    new: impl FnOnce() -> Cell<A>,
) -> (&'a mut Cell<A>, bool) {
    let found = cells.find(place, pane, |place| pane_at(panes, place));
    if let Err(at) = found {
        open_at(panes, place).keys.push(key);
        cells.insert(at, new());
    }
    let (Ok(at) | Err(at)) = found;
    (cells.at_mut(at).expect("it was found, or just put there"), found.is_err())
}

fn open_at(panes: &mut [OpenPane], place: u32) -> &mut OpenPane {
    panes.get_mut(place as usize).expect("an open pane has a place")
}

fn pane_at(panes: &[OpenPane], place: u32) -> Pane {
    panes.get(place as usize).expect("an accumulator's pane is open").pane
}

/// The last window and the first, by when they begin, in big endian: the base keeps panes in the order in which they leave.
fn pane_bytes(pane: Pane) -> [u8; 16] {
    let both = (u128::from(pane.last().as_millis()) << 64) | u128::from(pane.first().as_millis());
    both.to_be_bytes()
}

fn read_pane<'a>(spec: &WindowSpec, bytes: &'a [u8]) -> Result<(Pane, &'a [u8])> {
    let (span, key) = bytes.split_first_chunk::<16>().ok_or_else(|| {
        Error::state(format!("could not read a pane: {} bytes where its windows alone take 16", bytes.len()))
    })?;
    let both = u128::from_be_bytes(*span);
    let (first, last) = (EventTime::from_millis(both as u64), EventTime::from_millis((both >> 64) as u64));
    let pane = spec.pane_of(first, last).filter(|pane| pane_bytes(*pane) == *span);
    let pane =
        pane.ok_or_else(|| Error::state(format!("could not read a pane: from {first} to {last} are no {spec}")))?;
    Ok((pane, key))
}
