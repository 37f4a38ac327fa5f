//! The map under keyed and window state: finds an entry by a hash that is known already, and knows which entries changed.
//!
//! Entries lie in one vector and the hash table holds only their places, four bytes each: it stays in the cache, and a
//! list of changed entries can name places, so that marking one costs no clone of its key.

use std::hash::Hash;

use hashbrown::HashTable;

use crate::vocabulary::KeyGroup;

/// An entry of [`Slots`], and what the changelog must know of it.
#[derive(Debug)]
pub(super) struct Entry<K, V> {
    pub(super) group: KeyGroup,
    pub(super) key: K,
    pub(super) value: V,
    /// Changed since the last drain.
    dirty: bool,
    /// In a changelog or the base: its removal must be written too.
    pub(super) persisted: bool,
}

#[derive(Debug)]
struct Slot<K, V> {
    hash: u64,
    entry: Option<Entry<K, V>>,
}

#[derive(Debug)]
pub(super) struct Slots<K, V> {
    index: HashTable<u32>,
    slots: Vec<Slot<K, V>>,
    free: Vec<u32>,
    dirty: Vec<u32>,
}

impl<K, V> Default for Slots<K, V> {
    fn default() -> Self {
        Self { index: HashTable::new(), slots: Vec::new(), free: Vec::new(), dirty: Vec::new() }
    }
}

/// Spreads the caller's hash anew: all keys of a worker share what decided their key group.
fn remix(hash: u64) -> u64 {
    let product = u128::from(hash ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xd6e8_feb8_6659_fd93_a076_1d64_78bd_642f);
    (product as u64) ^ ((product >> 64) as u64)
}

impl<K: Eq + Hash, V> Slots<K, V> {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    fn place(&self, hash: u64, key: &K) -> Option<u32> {
        let slots = &self.slots;
        self.index.find(hash, |&place| holds(slots, place, hash, key)).copied()
    }

    /// The value of `key`, made by `default` where there is none, marked as changed.
    pub(super) fn upsert(&mut self, hash: u64, group: KeyGroup, key: &K, default: impl FnOnce() -> V) -> &mut V
    where
        K: Clone,
    {
        let place = self.find_or_insert(hash, group, key, default);
        let Self { slots, dirty, .. } = self;
        let entry = slots.get_mut(place as usize).and_then(|slot| slot.entry.as_mut());
        let entry = entry.expect("the index names only slots that hold an entry");
        if !std::mem::replace(&mut entry.dirty, true) {
            dirty.push(place);
        }
        &mut entry.value
    }

    /// Puts back what the snapshot holds. An entry that is there already is replaced.
    pub(super) fn restore(&mut self, hash: u64, group: KeyGroup, key: K, value: V) {
        let hash = remix(hash);
        match self.place(hash, &key) {
            Some(place) => {
                if let Some(entry) = self.slots.get_mut(place as usize).and_then(|slot| slot.entry.as_mut()) {
                    entry.value = value;
                }
            }
            None => _ = self.insert(hash, Entry { group, key, value, dirty: false, persisted: true }),
        }
    }

    /// The entry of `key` with its place, made by `default` where there is none. It is not marked as changed.
    pub(super) fn place_or_insert(
        &mut self,
        hash: u64,
        group: KeyGroup,
        key: &K,
        default: impl FnOnce() -> V,
    ) -> (u32, &mut Entry<K, V>)
    where
        K: Clone,
    {
        let place = self.find_or_insert(hash, group, key, default);
        (place, self.at_mut(place).expect("the index names only slots that hold an entry"))
    }

    fn find_or_insert(&mut self, hash: u64, group: KeyGroup, key: &K, default: impl FnOnce() -> V) -> u32
    where
        K: Clone,
    {
        let hash = remix(hash);
        match self.place(hash, key) {
            Some(place) => place,
            None => {
                self.insert(hash, Entry { group, key: key.clone(), value: default(), dirty: false, persisted: false })
            }
        }
    }

    /// The entry at a place.
    pub(super) fn at_mut(&mut self, place: u32) -> Option<&mut Entry<K, V>> {
        self.slots.get_mut(place as usize)?.entry.as_mut()
    }

    /// How many places there are, empty ones too.
    pub(super) fn places(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Removes the entry at a place.
    pub(super) fn remove_at(&mut self, place: u32) -> Option<Entry<K, V>> {
        let slot = self.slots.get_mut(place as usize)?;
        let entry = slot.entry.take()?;
        self.index.find_entry(slot.hash, |&other| other == place).ok()?.remove();
        self.free.push(place);
        Some(entry)
    }

    /// Whether most places are empty, and there are many.
    pub(super) fn is_sparse(&self) -> bool {
        self.slots.len() > 1_024 && self.slots.len() / 4 > self.len()
    }

    /// Moves the entries together and gives back the memory of empty places. Gives the new place of each old one; those of
    /// empty ones mean nothing.
    pub(super) fn compact(&mut self) -> Vec<u32> {
        let mut slots = Vec::with_capacity(self.len());
        let mut place = |slot: Slot<K, V>| {
            let place = slots.len() as u32;
            if slot.entry.is_some() {
                slots.push(slot);
            }
            place
        };
        let places: Vec<u32> = std::mem::take(&mut self.slots).into_iter().map(&mut place).collect();
        let dirty = self.dirty.iter().filter_map(|place| places.get(*place as usize)).copied();
        let mut compact = Self { dirty: dirty.collect(), ..Self::default() };
        compact.index.reserve(slots.len(), |_| 0);
        for (place, slot) in slots.iter().enumerate() {
            compact.index.insert_unique(slot.hash, place as u32, |_| 0);
        }
        compact.slots = slots;
        *self = compact;
        places
    }

    fn insert(&mut self, hash: u64, entry: Entry<K, V>) -> u32 {
        let slot = Slot { hash, entry: Some(entry) };
        let place = match self.free.pop() {
            Some(place) => {
                *self.slots.get_mut(place as usize).expect("a free place lies inside the slots") = slot;
                place
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).expect("2^32 entries of 40 bytes or more do not fit into memory")
            }
        };
        let slots = &self.slots;
        self.index.insert_unique(hash, place, |&place| slots.get(place as usize).map_or(0, |slot| slot.hash));
        place
    }

    pub(super) fn remove(&mut self, hash: u64, key: &K) -> Option<Entry<K, V>> {
        let hash = remix(hash);
        let slots = &self.slots;
        let (place, _) = self.index.find_entry(hash, |&place| holds(slots, place, hash, key)).ok()?.remove();
        self.free.push(place);
        self.slots.get_mut(place as usize)?.entry.take()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry<K, V>> {
        self.slots.iter().filter_map(|slot| slot.entry.as_ref())
    }

    /// Calls `visit` with each entry that changed since the last drain and is still there. Stops at the first error.
    pub(super) fn drain_dirty<E>(&mut self, mut visit: impl FnMut(&Entry<K, V>) -> Result<(), E>) -> Result<(), E> {
        for place in self.dirty.drain(..) {
            // A place may be listed twice, when its entry was removed and another took it: the mark tells.
            let entry = self.slots.get_mut(place as usize).and_then(|slot| slot.entry.as_mut());
            if let Some(entry) = entry.filter(|entry| entry.dirty) {
                visit(entry)?;
                entry.dirty = false;
                entry.persisted = true;
            }
        }
        Ok(())
    }

    /// Bytes that the map itself takes; what keys and values own on the heap is not counted.
    pub(super) fn bytes(&self) -> usize {
        let places = self.free.capacity().saturating_add(self.dirty.capacity()).saturating_mul(size_of::<u32>());
        let slots = self.slots.capacity().saturating_mul(size_of::<Slot<K, V>>());
        slots.saturating_add(places).saturating_add(self.index.allocation_size())
    }

    pub(super) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Takes all entries and keeps the memory for the next ones.
    pub(super) fn drain_all(&mut self) -> impl Iterator<Item = Entry<K, V>> {
        self.index.clear();
        self.free.clear();
        self.dirty.clear();
        self.slots.drain(..).filter_map(|slot| slot.entry)
    }
}

fn holds<K: Eq, V>(slots: &[Slot<K, V>], place: u32, hash: u64, key: &K) -> bool {
    slots
        .get(place as usize)
        .is_some_and(|slot| slot.hash == hash && slot.entry.as_ref().is_some_and(|e| e.key == *key))
}
