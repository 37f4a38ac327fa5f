//! The map under keyed state: found by a hash that is known already, in blocks that never move, with a place to each entry.
//!
//! The index holds 32 bits of each key's hash beside the entry's place, so that looking a key up touches an entry only
//! where it is almost certainly the right one. Entries lie in blocks of a fixed size: growing copies none of them, so that
//! a map of gigabytes needs no second copy of itself.

use hashbrown::HashTable;

use crate::vocabulary::KeyGroup;

/// Entries a block has room for, as a power of two.
const BLOCK_BITS: u32 = 12;
const BLOCK: usize = 1 << BLOCK_BITS;

/// An entry, and what changelog and eviction must know of it.
#[derive(Debug)]
pub(super) struct Entry<K, V> {
    pub(super) key: K,
    pub(super) value: V,
    /// The number of the last drain that wrote it; 0 where the base has it.
    pub(super) drained: u32,
    tag: u32,
    pub(super) group: KeyGroup,
    /// In a changelog or the base: its removal must be written too.
    pub(super) persisted: bool,
    /// An earlier one of the same key may still be in the base: its removal must be known even where it was never written.
    pub(super) shadows: bool,
    /// Used since the last look at what may go.
    pub(super) used: bool,
}

impl<K, V> Entry<K, V> {
    /// An entry that no drain has written; `persisted` where the snapshot has it all the same.
    pub(super) fn new(group: KeyGroup, key: K, value: V, persisted: bool) -> Self {
        Self { key, value, drained: 0, tag: 0, group, persisted, shadows: false, used: true }
    }
}

/// Where an entry lies. Valid until it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(u32);

#[derive(Debug, Clone, Copy)]
struct Link {
    tag: u32,
    place: Place,
}

#[derive(Debug)]
pub(super) struct Table<K, V> {
    index: HashTable<Link>,
    blocks: Vec<Vec<Option<Entry<K, V>>>>,
    free: Vec<Place>,
    /// A bit a place: whether its entry changed since the last drain. A drain goes through memory in order, where a list of
    /// places would send it back and forth.
    dirty: Vec<u64>,
    /// How many bits of it are set.
    changed: usize,
    /// Where the search for entries that may go continues.
    hand: usize,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { index: HashTable::new(), blocks: Vec::new(), free: Vec::new(), dirty: Vec::new(), changed: 0, hand: 0 }
    }
}

/// Spreads the caller's hash anew: all keys of a worker share what decided their key group. 32 bits are enough: keys that
/// share them are told apart by themselves.
fn tag(hash: u64) -> u32 {
    let product = u128::from(hash ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xd6e8_feb8_6659_fd93_a076_1d64_78bd_642f);
    ((product as u64) ^ ((product >> 64) as u64)) as u32
}

/// The hash by which the index is ordered: its low bits choose the bucket, its top bits are compared first.
fn spread(tag: u32) -> u64 {
    u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The place's bit in its word of `dirty`.
fn bit(Place(place): Place) -> u64 {
    1 << (place % 64)
}

impl<K: Eq, V> Table<K, V> {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    fn entry(&self, Place(place): Place) -> Option<&Entry<K, V>> {
        self.blocks.get((place >> BLOCK_BITS) as usize)?.get(place as usize % BLOCK)?.as_ref()
    }

    fn slot(&mut self, Place(place): Place) -> Option<&mut Option<Entry<K, V>>> {
        self.blocks.get_mut((place >> BLOCK_BITS) as usize)?.get_mut(place as usize % BLOCK)
    }

    pub(super) fn find(&self, hash: u64, key: &K) -> Option<Place> {
        let tag = tag(hash);
        let holds = |link: &Link| link.tag == tag && self.entry(link.place).is_some_and(|entry| entry.key == *key);
        self.index.find(spread(tag), holds).map(|link| link.place)
    }

    /// Finds several keys, in their order. The look-ups wait for main memory together instead of one after the other.
    pub(super) fn find_all<'a>(&self, keys: impl Iterator<Item = (u64, &'a K)> + Clone, places: &mut Vec<Option<Place>>)
    where
        K: 'a,
    {
        places.clear();
        // Two passes, in neither of which one look-up waits for another: through the index, then to the entries.
        places.extend(keys.clone().map(|(hash, _)| {
            let tag = tag(hash);
            self.index.find(spread(tag), |link| link.tag == tag).map(|link| link.place)
        }));
        for ((hash, key), found) in keys.zip(places) {
            // Another key with the same 32 bits was found first: about once in 2^32.
            if found.is_some_and(|place| self.entry(place).is_none_or(|entry| entry.key != *key)) {
                *found = self.find(hash, key);
            }
        }
    }

    pub(super) fn get(&self, hash: u64, key: &K) -> Option<&V> {
        Some(&self.entry(self.find(hash, key)?)?.value)
    }

    /// The value at `place`, marked as changed.
    pub(super) fn change(&mut self, place: Place) -> &mut V {
        let Self { blocks, dirty, changed, .. } = self;
        let block = blocks.get_mut((place.0 >> BLOCK_BITS) as usize);
        let entry = block.and_then(|block| block.get_mut(place.0 as usize % BLOCK)).and_then(Option::as_mut);
        let entry = entry.expect("a place that was found holds an entry");
        entry.used = true;
        let word = (place.0 >> 6) as usize;
        if word >= dirty.len() {
            dirty.resize(word + 1, 0);
        }
        if let Some(word) = dirty.get_mut(word) {
            *changed += usize::from(*word & bit(place) == 0);
            *word |= bit(place);
        }
        &mut entry.value
    }

    /// Notes that the entry is wanted.
    pub(super) fn touch(&mut self, place: Place) {
        if let Some(Some(entry)) = self.slot(place) {
            entry.used = true;
        }
    }

    /// Adds an entry whose key is not there.
    pub(super) fn insert(&mut self, hash: u64, mut entry: Entry<K, V>) -> Place {
        let tag = tag(hash);
        entry.tag = tag;
        let place = match self.free.pop() {
            Some(place) => {
                *self.slot(place).expect("a free place lies in a block") = Some(entry);
                place
            }
            None => self.push(entry),
        };
        self.index.insert_unique(spread(tag), Link { tag, place }, |link| spread(link.tag));
        place
    }

    fn push(&mut self, entry: Entry<K, V>) -> Place {
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            // The first block grows with what is in it: most jobs have steps of a few keys.
            let room = if self.blocks.is_empty() { 0 } else { BLOCK };
            self.blocks.push(Vec::with_capacity(room));
        }
        let before = (self.blocks.len() - 1) * BLOCK;
        let block = self.blocks.last_mut().expect("one was just pushed");
        block.push(Some(entry));
        Place(u32::try_from(before + block.len() - 1).expect("2^32 entries of 24 bytes or more do not fit into memory"))
    }

    pub(super) fn remove(&mut self, hash: u64, key: &K) -> Option<Entry<K, V>> {
        let place = self.find(hash, key)?;
        self.remove_at(tag(hash), place)
    }

    fn remove_at(&mut self, tag: u32, place: Place) -> Option<Entry<K, V>> {
        self.index.find_entry(spread(tag), |link| link.place == place).ok()?.remove();
        self.free.push(place);
        if let Some(word) = self.dirty.get_mut((place.0 >> 6) as usize) {
            self.changed -= usize::from(*word & bit(place) != 0);
            *word &= !bit(place);
        }
        self.slot(place)?.take()
    }

    /// How many entries changed since the last drain.
    pub(super) fn changed(&self) -> usize {
        self.changed
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry<K, V>> {
        self.blocks.iter().flatten().flatten()
    }

    /// Calls `visit` with each entry that changed since the last drain and is still there, and notes that drain `number`
    /// wrote it. Stops at the first error.
    pub(super) fn drain_dirty<E>(
        &mut self,
        number: u32,
        mut visit: impl FnMut(&Entry<K, V>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut dirty = std::mem::take(&mut self.dirty);
        for (first, word) in (0_u32..).step_by(64).zip(&mut dirty) {
            while *word != 0 {
                let place = Place(first + word.trailing_zeros());
                *word &= *word - 1;
                if let Some(Some(entry)) = self.slot(place) {
                    visit(entry)?;
                    entry.persisted = true;
                    entry.drained = number;
                }
            }
        }
        self.dirty = dirty;
        self.changed = 0;
        Ok(())
    }

    /// Removes up to `count` entries that the base has as they are: written by drain `through` or before, and not used since
    /// the last look; where these are not enough, the others too. Says how many went.
    pub(super) fn evict(&mut self, count: usize, through: u32) -> usize {
        let places = self.blocks.len().saturating_mul(BLOCK);
        let mut gone = 0;
        // The first round takes the marks of use where it finds them.
        for _ in 0..places.saturating_mul(2) {
            if gone == count {
                break;
            }
            let place = Place(self.hand as u32);
            self.hand = if self.hand + 1 >= places { 0 } else { self.hand + 1 };
            let changed = self.dirty.get((place.0 >> 6) as usize).is_some_and(|word| word & bit(place) != 0);
            let Some(Some(entry)) = self.slot(place) else { continue };
            let wanted = std::mem::take(&mut entry.used);
            if !wanted && !changed && entry.persisted && entry.drained <= through {
                let tag = entry.tag;
                self.remove_at(tag, place);
                gone += 1;
            }
        }
        gone
    }

    /// Bytes that one entry takes here, its share of the index included.
    pub(super) fn entry_bytes() -> usize {
        // The index is between 7/16 and 7/8 full.
        size_of::<Option<Entry<K, V>>>() + (size_of::<Link>() + 1) * 3 / 2
    }

    /// Bytes that the map itself takes; what keys and values own on the heap is not counted.
    pub(super) fn bytes(&self) -> usize {
        let places = self.free.capacity().saturating_mul(size_of::<Place>());
        let places = places.saturating_add(self.dirty.capacity().saturating_mul(size_of::<u64>()));
        let slots: usize = self.blocks.iter().map(Vec::capacity).sum();
        let slots = slots.saturating_mul(size_of::<Option<Entry<K, V>>>());
        slots.saturating_add(places).saturating_add(self.index.allocation_size())
    }
}
