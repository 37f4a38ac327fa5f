//! One accumulator per window and key, and the windows in the order in which they close.

use std::collections::BTreeMap;
use std::time::Duration;

use super::changelog::{ChangelogWriter, Table};
use super::codec;
use super::deleted::Deleted;
use super::slots::Slots;
use crate::error::{Error, Result};
use crate::vocabulary::{EventTime, Key, KeyGroup, State, Window};

/// The accumulators of all open windows of a step.
///
/// *In:* a window and a key a record. *Out:* closed windows from [`fire_through`](Self::fire_through), the earliest end
/// first; changes from [`drain_changes`](Self::drain_changes), once an epoch. What was made and fired within one epoch is
/// never written. *After a crash:* empty, until [`restore`](Self::restore) was called with every live entry.
///
/// # Examples
/// ```
/// use shardflow::state::WindowState;
/// use shardflow::vocabulary::{EventTime, KeyGroup, Window, seconds};
/// let minute = Window::new(EventTime::from_millis(0), EventTime::from_millis(60_000));
/// let mut state = WindowState::<String, u64>::new();
/// *state.upsert(minute, 17, KeyGroup::new(1), &"acct".to_owned(), || 0) += 5;
/// assert!(state.fire_through(EventTime::from_millis(60_000), seconds(1)).is_empty());
/// let fired = state.fire_through(EventTime::from_millis(61_000), seconds(1));
/// assert_eq!(fired, vec![(minute, vec![("acct".to_owned(), 5)])]);
/// ```
#[derive(Debug)]
pub struct WindowState<K, A> {
    // Where in `tables` a window's accumulators are. Windows sort by their end.
    open: BTreeMap<Window, usize>,
    tables: Vec<Slots<K, A>>,
    free: Vec<usize>,
    // Consecutive records mostly hit the same window.
    last: Option<(Window, usize)>,
    deleted: Deleted,
}

impl<K: Key, A: State> Default for WindowState<K, A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Key, A: State> WindowState<K, A> {
    /// No open window.
    #[must_use]
    pub fn new() -> Self {
        Self { open: BTreeMap::new(), tables: Vec::new(), free: Vec::new(), last: None, deleted: Deleted::default() }
    }

    /// The accumulator of `key` in `window`, made by `default` where there is none. It counts as changed in this epoch.
    #[inline]
    pub fn upsert(
        &mut self,
        window: Window,
        hash: u64,
        group: KeyGroup,
        key: &K,
        default: impl FnOnce() -> A,
    ) -> &mut A {
        self.table(window).upsert(hash, group, key, default)
    }

    fn table(&mut self, window: Window) -> &mut Slots<K, A> {
        let place = match self.last {
            Some((last, place)) if last == window => place,
            _ => self.find_table(window),
        };
        self.tables.get_mut(place).expect("an open window has a table")
    }

    fn find_table(&mut self, window: Window) -> usize {
        let Self { open, tables, free, .. } = self;
        let place = *open.entry(window).or_insert_with(|| {
            free.pop().unwrap_or_else(|| {
                tables.push(Slots::default());
                tables.len() - 1
            })
        });
        self.last = Some((window, place));
        place
    }

    /// Removes the accumulator of `key` in `window` and gives it back.
    pub fn remove(&mut self, window: Window, hash: u64, key: &K) -> Option<A> {
        let place = *self.open.get(&window)?;
        let entry = self.tables.get_mut(place)?.remove(hash, key)?;
        if entry.persisted {
            self.deleted.push(entry.group, &window_bytes(window), &entry.key);
        }
        if self.tables.get(place).is_some_and(|table| table.len() == 0) {
            self.open.remove(&window);
            self.take_table(window, place);
        }
        Some(entry.value)
    }

    /// Removes the windows whose end plus `grace` the watermark has reached, and gives them back by their end. The keys
    /// within a window come in no particular order.
    pub fn fire_through(&mut self, watermark: EventTime, grace: Duration) -> Vec<(Window, Vec<(K, A)>)> {
        let mut fired = Vec::new();
        while let Some(first) = self.open.first_entry() {
            if first.key().end().plus(grace) > watermark {
                break;
            }
            let (window, place) = first.remove_entry();
            fired.push((window, self.take_table(window, place)));
        }
        fired
    }

    /// Removes all windows, as when a bounded source has ended.
    pub fn fire_all(&mut self) -> Vec<(Window, Vec<(K, A)>)> {
        self.fire_through(EventTime::MAX, Duration::ZERO)
    }

    fn take_table(&mut self, window: Window, place: usize) -> Vec<(K, A)> {
        self.last = None;
        let deleted = &mut self.deleted;
        let table = self.tables.get_mut(place).expect("an open window has a table");
        let mut entries = Vec::with_capacity(table.len());
        entries.extend(table.drain_all().map(|entry| {
            if entry.persisted {
                deleted.push(entry.group, &window_bytes(window), &entry.key);
            }
            (entry.key, entry.value)
        }));
        // One empty table keeps its memory for the next window; more would hold on to the peak.
        if !self.free.is_empty() {
            *table = Slots::default();
        }
        self.free.push(place);
        entries
    }

    /// The end of the window that closes next.
    #[must_use]
    pub fn least_end(&self) -> Option<EventTime> {
        self.open.first_key_value().map(|(window, _)| window.end())
    }

    /// All accumulators with their windows and keys: the windows by their ends, the keys in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Window, &K, &A)> {
        let table = |place: &usize| self.tables.get(*place).into_iter().flat_map(Slots::iter);
        let all = self.open.iter().flat_map(move |(window, place)| table(place).map(move |entry| (*window, entry)));
        all.map(|(window, entry)| (window, &entry.key, &entry.value))
    }

    /// Number of accumulators in all windows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tables.iter().map(Slots::len).sum()
    }

    /// Whether no window is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Bytes that all windows take in memory, without what keys and accumulators own on the heap.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.tables.iter().map(Slots::bytes).sum()
    }

    /// Appends what changed since the last call, and forgets that it changed.
    ///
    /// # Errors
    /// A key or accumulator cannot be encoded. The job must stop: part of the changes is lost to this map.
    pub fn drain_changes(&mut self, table: Table, changes: &mut ChangelogWriter) -> Result<()> {
        self.deleted.drain(table, changes)?;
        let (mut key, mut value) = std::mem::take(&mut changes.scratch);
        for (window, place) in &self.open {
            let Some(slots) = self.tables.get_mut(*place).filter(|slots| slots.has_dirty()) else { continue };
            slots.drain_dirty(|entry| {
                value.clear();
                encode_key(*window, &entry.key, &mut key)?;
                codec::encode_into(&entry.value, &mut value)?;
                changes.put(entry.group, table, &key, &value);
                Ok::<(), Error>(())
            })?;
        }
        changes.scratch = (key, value);
        Ok(())
    }

    /// Puts back one entry of the snapshot. `hash_of` computes the hash that `upsert` will use.
    ///
    /// # Errors
    /// The bytes are not those of a window, a `K` and an `A`.
    pub fn restore(
        &mut self,
        group: KeyGroup,
        hash_of: impl FnOnce(&K) -> u64,
        key: &[u8],
        value: &[u8],
    ) -> Result<()> {
        let (window, key) = decode_key::<K>(key)?;
        let value = codec::decode::<A>(value)?;
        self.table(window).restore(hash_of(&key), group, key, value);
        Ok(())
    }
}

pub(super) fn window_bytes(window: Window) -> [u8; 16] {
    let both = (u128::from(window.end().as_millis()) << 64) | u128::from(window.start().as_millis());
    both.to_be_bytes()
}

/// End and start in big endian, so that the base keeps windows in the order in which they close, then the key.
fn encode_key<K: Key>(window: Window, key: &K, out: &mut Vec<u8>) -> Result<()> {
    out.clear();
    out.extend_from_slice(&window_bytes(window));
    codec::encode_into(key, out)
}

fn decode_key<K: Key>(bytes: &[u8]) -> Result<(Window, K)> {
    let (window, key) = split_window(bytes)?;
    Ok((window, codec::decode(key)?))
}

/// The window of a stored key, and the rest of it.
pub(super) fn split_window(bytes: &[u8]) -> Result<(Window, &[u8])> {
    let (span, key) = bytes.split_first_chunk::<16>().ok_or_else(|| {
        Error::state(format!("could not read a window: {} bytes where its bounds alone take 16", bytes.len()))
    })?;
    let both = u128::from_be_bytes(*span);
    let window = Window::new(EventTime::from_millis(both as u64), EventTime::from_millis((both >> 64) as u64));
    if window_bytes(window) != *span {
        return Err(Error::state("could not read a window: it ends before it starts, or after the end of time"));
    }
    Ok((window, key))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::test_store::{Stored, store};
    use super::*;
    use crate::vocabulary::millis;

    const GROUPS: u8 = 4;

    fn window(number: u8) -> Window {
        let start = u64::from(number) * 10;
        Window::new(EventTime::from_millis(start), EventTime::from_millis(start + 20))
    }

    fn group(key: u8) -> KeyGroup {
        KeyGroup::new(u16::from(key % GROUPS))
    }

    fn hash(key: u8) -> u64 {
        u64::from(key / 2)
    }

    #[derive(Debug, Clone)]
    enum Op {
        Add(u8, u8, u32),
        Remove(u8, u8),
        Fire(u64, u64),
        Drain,
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            6 => (0..12_u8, 0..8_u8, any::<u32>()).prop_map(|(window, key, by)| Op::Add(window, key, by)),
            2 => (0..12_u8, 0..8_u8).prop_map(|(window, key)| Op::Remove(window, key)),
            1 => (0..150_u64, 0..20_u64).prop_map(|(at, grace)| Op::Fire(at, grace)),
            1 => Just(Op::Drain),
        ];
        proptest::collection::vec(op, 0..80)
    }

    type Model = BTreeMap<Window, BTreeMap<u8, u64>>;
    fn drain(state: &mut WindowState<u8, u64>, stored: &mut Stored) {
        store(stored, |changes| state.drain_changes(Table(0), changes));
    }

    fn sorted(fired: Vec<(Window, Vec<(u8, u64)>)>) -> Vec<(Window, BTreeMap<u8, u64>)> {
        fired.into_iter().map(|(window, entries)| (window, entries.into_iter().collect())).collect()
    }

    proptest! {
        #[test]
        fn windows_close_in_order_and_changelogs_rebuild_what_is_open(ops in ops(), cut in 0..=u16::from(GROUPS)) {
            let (mut state, mut model, mut stored) = (WindowState::new(), Model::new(), Stored::new());
            for op in ops {
                match op {
                    Op::Add(at, key, by) => {
                        *state.upsert(window(at), hash(key), group(key), &key, || 0_u64) += u64::from(by);
                        *model.entry(window(at)).or_default().entry(key).or_default() += u64::from(by);
                    }
                    Op::Remove(at, key) => {
                        let entries = model.entry(window(at)).or_default();
                        prop_assert_eq!(state.remove(window(at), hash(key), &key), entries.remove(&key));
                        if entries.is_empty() {
                            model.remove(&window(at));
                        }
                    }
                    Op::Fire(at, grace) => {
                        let (watermark, grace) = (EventTime::from_millis(at), millis(grace));
                        let open = model.iter().find(|(window, _)| window.end().plus(grace) > watermark);
                        let open = open.map(|(window, _)| *window);
                        let rest = open.map(|open| model.split_off(&open)).unwrap_or_default();
                        let due = std::mem::replace(&mut model, rest).into_iter().collect::<Vec<_>>();
                        prop_assert_eq!(sorted(state.fire_through(watermark, grace)), due);
                    }
                    Op::Drain => drain(&mut state, &mut stored),
                }
                prop_assert_eq!(state.len(), model.values().map(BTreeMap::len).sum::<usize>());
                prop_assert_eq!(state.least_end(), model.keys().next().map(|window| window.end()));
                let all: BTreeSet<_> = state.iter().map(|(window, key, value)| (window, *key, *value)).collect();
                let expected = model.iter().flat_map(|(window, entries)| entries.iter().map(|(key, value)| (*window, *key, *value)));
                prop_assert_eq!(all, expected.collect());
            }
            drain(&mut state, &mut stored);
            let mut workers = [WindowState::<u8, u64>::new(), WindowState::new()];
            for ((group, key), value) in &stored {
                let worker = usize::from(group.number() >= cut);
                workers[worker].restore(*group, |key| hash(*key), key, value).unwrap();
            }
            let mut restored = Model::new();
            for worker in &mut workers {
                for (window, entries) in sorted(worker.fire_all()) {
                    restored.entry(window).or_default().extend(entries);
                }
                prop_assert!(worker.is_empty());
                drain(worker, &mut stored);
            }
            prop_assert_eq!(restored, model);
            // The deletes of what fired leave nothing behind.
            prop_assert!(stored.is_empty());
        }
    }

    #[test]
    fn a_window_made_and_fired_within_an_epoch_is_not_written() {
        let mut state = WindowState::<u8, u64>::new();
        state.upsert(window(0), 0, group(0), &0, || 0);
        assert_eq!(state.fire_all().len(), 1);
        let mut changes = ChangelogWriter::new();
        state.drain_changes(Table(0), &mut changes).unwrap();
        assert!(changes.is_empty());
    }

    #[test]
    fn the_key_of_a_window_that_cannot_be_is_refused() {
        let mut state = WindowState::<u8, u64>::new();
        let mut restore = |key: &[u8]| state.restore(group(0), |_| 0, key, &[0]).unwrap_err().to_string();
        assert!(restore(&[0; 15]).contains("15 bytes"));
        assert!(restore(&[255; 17]).contains("end of time"));
        let mut backwards = [0; 17];
        backwards[15] = 1;
        assert!(restore(&backwards).contains("ends before it starts"));
    }

    /// Run with `cargo test --release --workspace --lib window_records_a_second -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    fn window_records_a_second() {
        const COUNT: u64 = 20_000_000;
        let mut key = (String::new(), "requests".to_owned());
        let mut state = WindowState::<(String, String), [u64; 3]>::new();
        let (start, mut drained, mut fired) = (std::time::Instant::now(), Duration::ZERO, 0);
        let pick = |number: u64| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % 50_000;
        for number in 0..COUNT {
            // A record's key was just decoded: it is in the cache, the map's copy is not.
            let at = pick(number);
            key.0.clear();
            key.0.push_str("account-");
            (0..5).for_each(|place| key.0.push(char::from(b'0' + (at / 10_usize.pow(place) % 10) as u8)));
            let minute = EventTime::from_millis(number / 5_000_000 * 60_000);
            let window = Window::new(minute, minute.plus(Duration::from_secs(60)));
            let total = state.upsert(window, at as u64, group(at as u8), &key, || [0; 3]);
            *total = [total[0] + number % 7, total[1] + 1, total[2].max(number % 7)];
            if number % 400_000 == 0 {
                let begun = std::time::Instant::now();
                let mut changes = ChangelogWriter::new();
                fired += state.fire_through(minute, Duration::ZERO).len();
                state.drain_changes(Table(0), &mut changes).unwrap();
                assert!(changes.finish().is_some());
                drained += begun.elapsed();
            }
        }
        let rate = COUNT as f64 / start.elapsed().as_secs_f64() / 1e6;
        println!("{rate:.2} M records/s into {fired} + 1 windows, {} ms of it in drains", drained.as_millis());
    }
}
