//! How windows fire: each key's accumulators are merged, and those that no later window counts leave.

use super::{PaneState, open_at, pane_at};
use crate::vocabulary::{EventTime, Key, KeyGroup, State, Window};

impl<K: Key, A: State> PaneState<K, A> {
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
                self.deleted.push(entry.group, &self.form.bytes(pane, &self.spec), &entry.key);
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
}
