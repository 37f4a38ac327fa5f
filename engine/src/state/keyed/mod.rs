//! One value a key: in memory, as far as there is room for it, and in the snapshot's base beyond.
//!
//! An entry may leave memory once the base has it as it is: nothing has changed it since, and the changelog that wrote it
//! last has been folded. It comes back when a record of its key does ([`KeyedState::fetch`]). While any entry may lie in
//! the base alone, a key that is not here may be there, and one that was removed here may still be there.

mod base;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

pub use base::{Base, Found, Wanted};
pub use table::Place;

use self::table::{Entry, Table as Entries};
use super::changelog::{ChangelogWriter, Table};
use super::codec;
use crate::error::Result;
use crate::vocabulary::{Epoch, Key, KeyGroup, State};

/// A map from keys to values that writes down only what changed, and may leave in the base what nobody asks for.
///
/// *In:* a key with its stable hash and key group. *Out:* [`drain_changes`](Self::drain_changes), once an epoch.
/// *After a crash:* empty, until [`restore`](Self::restore) was called with every live entry, or with those that the base
/// does not have, and [`rest_in_base`](Self::rest_in_base) for the others.
///
/// # Examples
/// ```
/// use shardflow::state::{ChangelogWriter, KeyedState, Table};
/// use shardflow::vocabulary::KeyGroup;
/// let mut state = KeyedState::<String, u64>::new();
/// *state.upsert(17, KeyGroup::new(1), &"acct".to_owned(), || 0) += 5;
/// let mut changes = ChangelogWriter::new();
/// state.drain_changes(Table(0), &mut changes).unwrap();
/// assert_eq!((state.get(17, &"acct".to_owned()), changes.len()), (Some(&5), 1));
/// ```
#[derive(Debug)]
pub struct KeyedState<K, V> {
    entries: Entries<K, V>,
    // Keys that the snapshot holds and the map no longer does.
    deleted: Vec<(KeyGroup, K)>,
    /// Drains so far; entries know the number of the one that wrote them.
    drains: u32,
    /// Whether the last drain wrote anything.
    written: bool,
    /// How many entries it wrote.
    put: usize,
    /// The drains whose changes the base does not have yet.
    unfolded: VecDeque<Unfolded>,
    /// The last drain whose changes the base has.
    folded: u32,
    /// Whether entries may ever be left in the base.
    based: bool,
    /// Whether the base may have entries that are not here.
    partial: bool,
    /// Removed keys that the base may still have, with the number of the drain that wrote their removal. Kept also while
    /// everything is in memory: the next eviction may come before the fold.
    gone: HashMap<K, u32>,
    /// Encoded bytes of so many entries: how much they own on the heap.
    sampled: (u64, u64),
}

/// A drain, the epoch that it was for, and how many entries it wrote.
#[derive(Debug)]
struct Unfolded {
    epoch: Epoch,
    drain: u32,
    entries: usize,
}

impl<K: Key, V: State> Default for KeyedState<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Key, V: State> KeyedState<K, V> {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        Self {
            entries: Entries::default(),
            deleted: Vec::new(),
            drains: 0,
            written: false,
            put: 0,
            unfolded: VecDeque::new(),
            folded: 0,
            based: false,
            partial: false,
            gone: HashMap::new(),
            sampled: (0, 0),
        }
    }

    /// The value of `key`. `hash` must be the same for equal keys in this start of the process; its quality is no matter.
    #[must_use]
    pub fn get(&self, hash: u64, key: &K) -> Option<&V> {
        self.entries.get(hash, key)
    }

    /// The value of `key`, made by `default` where there is none. It counts as changed in this epoch.
    pub fn upsert(&mut self, hash: u64, group: KeyGroup, key: &K, default: impl FnOnce() -> V) -> &mut V {
        let place = match self.entries.find(hash, key) {
            Some(place) => place,
            None => self.insert(hash, group, key, default()),
        };
        self.entries.change(place)
    }

    /// As [`upsert`](Self::upsert), where [`find_all`](Self::find_all) has found the key, or nothing, since when no key was
    /// removed.
    ///
    /// # Panics
    /// Where a key has been removed since and nothing lies in its place.
    pub fn upsert_at(
        &mut self,
        found: Option<Place>,
        hash: u64,
        group: KeyGroup,
        key: &K,
        default: impl FnOnce() -> V,
    ) -> &mut V {
        match found {
            Some(place) => self.entries.change(place),
            None => self.upsert(hash, group, key, default),
        }
    }

    /// Where each of these keys lies, in their order: with millions of keys every look-up waits for main memory, and these
    /// wait together.
    pub fn find_all<'a>(&self, keys: impl Iterator<Item = (u64, &'a K)> + Clone, places: &mut Vec<Option<Place>>)
    where
        K: 'a,
    {
        self.entries.find_all(keys, places);
    }

    fn insert(&mut self, hash: u64, group: KeyGroup, key: &K, value: V) -> Place {
        let mut entry = Entry::new(group, key.clone(), value, false);
        entry.shadows = !self.gone.is_empty() && self.gone.remove(key).is_some();
        self.entries.insert(hash, entry)
    }

    /// Removes `key` and gives back its value.
    pub fn remove(&mut self, hash: u64, key: &K) -> Option<V> {
        let entry = self.entries.remove(hash, key)?;
        // What came and went within the epoch is in no base, unless an earlier one of the same key is.
        if self.based && (entry.persisted || entry.shadows) {
            self.gone.insert(entry.key.clone(), self.drains.saturating_add(1));
        }
        if entry.persisted {
            self.deleted.push((entry.group, entry.key));
        }
        Some(entry.value)
    }

    /// All entries that are in memory, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|entry| (&entry.key, &entry.value))
    }

    /// Number of entries in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no entry in memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the map takes in memory. What keys and values own on the heap is estimated from their encoded size.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.entries.bytes().saturating_add(self.len().saturating_mul(self.heap_bytes()))
    }

    /// Bytes that an entry owns on the heap, about.
    fn heap_bytes(&self) -> usize {
        let (bytes, entries) = self.sampled;
        if std::mem::needs_drop::<(K, V)>() && entries > 0 { (bytes / entries) as usize } else { 0 }
    }

    fn sample(&mut self, bytes: u64, entries: u64) {
        self.sampled = (self.sampled.0.saturating_add(bytes), self.sampled.1.saturating_add(entries));
    }

    /// Appends what changed since the last call, and forgets that it changed.
    ///
    /// # Errors
    /// A key or value cannot be encoded. The job must stop: part of the changes is lost to this map.
    pub fn drain_changes(&mut self, table: Table, changes: &mut ChangelogWriter) -> Result<()> {
        self.drains = self.drains.saturating_add(1);
        let before = (changes.bytes(), changes.len());
        let (mut key, mut value) = std::mem::take(&mut changes.scratch);
        // Deletes first: a key that was removed and came back in the same epoch must end as a put.
        for (group, gone) in self.deleted.drain(..) {
            key.clear();
            codec::encode_into(&gone, &mut key)?;
            changes.delete(group, table, &key);
        }
        let mut put = 0_usize;
        let (folded, unfolded) = (self.folded, &mut self.unfolded);
        self.entries.drain_dirty(self.drains, |entry| {
            put = put.saturating_add(1);
            if entry.drained > folded {
                // It waits for another fold from now on.
                let place = unfolded.binary_search_by_key(&entry.drained, |earlier| earlier.drain);
                if let Some(earlier) = place.ok().and_then(|place| unfolded.get_mut(place)) {
                    earlier.entries = earlier.entries.saturating_sub(1);
                }
            }
            key.clear();
            value.clear();
            codec::encode_into(&entry.key, &mut key)?;
            codec::encode_into(&entry.value, &mut value)?;
            changes.put(entry.group, table, &key, &value);
            Ok(())
        })?;
        changes.scratch = (key, value);
        let bytes = changes.bytes().saturating_sub(before.0) as u64;
        if put > 0 {
            self.sample(bytes, put as u64);
        }
        self.put = put;
        self.written = changes.len() > before.1;
        Ok(())
    }

    /// Notes that the last drain was that of `epoch`, so that [`evict`](Self::evict) knows what the base has.
    pub fn closed(&mut self, epoch: Epoch) {
        // An idle job closes epochs for ever.
        if self.based && self.written {
            self.unfolded.push_back(Unfolded { epoch, drain: self.drains, entries: self.put });
        }
    }

    /// Puts back one entry of the snapshot. `hash_of` computes the hash that the other calls will use.
    ///
    /// # Errors
    /// The bytes are not those of a `K` and a `V`.
    pub fn restore(
        &mut self,
        group: KeyGroup,
        hash_of: impl FnOnce(&K) -> u64,
        key: &[u8],
        value: &[u8],
    ) -> Result<()> {
        self.sample((key.len() as u64).saturating_add(value.len() as u64), 1);
        let (decoded, value) = (codec::decode::<K>(key)?, codec::decode::<V>(value)?);
        let hash = hash_of(&decoded);
        self.entries.remove(hash, &decoded);
        let mut entry = Entry::new(group, decoded, value, true);
        entry.drained = self.drains;
        self.entries.insert(hash, entry);
        if let Some(restoring) = self.unfolded.back_mut() {
            restoring.entries = restoring.entries.saturating_add(1);
        }
        Ok(())
    }

    /// Notes that a key of the base has been removed by a changelog that is not folded.
    ///
    /// # Errors
    /// The bytes are not those of a `K`.
    pub fn restore_removed(&mut self, key: &[u8]) -> Result<()> {
        self.gone.insert(codec::decode(key)?, self.drains);
        Ok(())
    }

    /// Makes it a map that may leave entries in the base. Those that are restored from here on lie in changelogs that are
    /// folded once the base has `epoch`.
    pub fn restore_over_base(&mut self, epoch: Epoch) {
        self.based = true;
        self.drains = 1;
        self.written = true;
        self.closed(epoch);
    }

    /// Says that the base has entries that were not restored. From here on keys must be fetched before they are asked for.
    pub fn rest_in_base(&mut self) {
        self.partial = true;
    }

    /// Whether the base may have entries that are not here.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.partial
    }

    /// Brings the entries of these keys into memory, where they are not. Until the next [`evict`](Self::evict) they stay.
    ///
    /// # Errors
    /// The base cannot be read, or holds something else.
    pub fn fetch<'a>(
        &mut self,
        keys: impl Iterator<Item = (u64, KeyGroup, &'a K)>,
        base: &dyn Base,
        wanted: &mut Wanted,
    ) -> Result<()>
    where
        K: 'a,
    {
        if !self.partial {
            return Ok(());
        }
        wanted.clear();
        let mut missing = Vec::new();
        for (hash, group, key) in keys {
            match self.entries.find(hash, key) {
                Some(place) => self.entries.touch(place),
                None if self.gone.contains_key(key) => {}
                None => {
                    wanted.push(group, key)?;
                    missing.push((hash, group, key));
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let (mut bytes, mut found) = (0_u64, 0_u64);
        base.read(wanted, &mut |index, key, value| {
            let Some((hash, group, owner)) = missing.get(index) else { return Ok(()) };
            // Asked for twice: two records of one key.
            if self.entries.find(*hash, owner).is_none() {
                found = found.saturating_add(1);
                bytes = bytes.saturating_add((key.len() as u64).saturating_add(value.len() as u64));
                self.entries.insert(*hash, Entry::new(*group, (*owner).clone(), codec::decode(value)?, true));
            }
            Ok(())
        })?;
        if found > 0 {
            self.sample(bytes, found);
        }
        Ok(())
    }

    /// Takes in an entry of the base that was not asked for, unless memory knows better.
    ///
    /// # Errors
    /// The bytes are not those of a `K` and a `V`.
    pub fn warm(&mut self, group: KeyGroup, hash_of: impl FnOnce(&K) -> u64, key: &[u8], value: &[u8]) -> Result<()> {
        let decoded = codec::decode::<K>(key)?;
        let hash = hash_of(&decoded);
        if self.entries.find(hash, &decoded).is_none() && !self.gone.contains_key(&decoded) {
            self.entries.insert(hash, Entry::new(group, decoded, codec::decode(value)?, true));
            self.sample((key.len() as u64).saturating_add(value.len() as u64), 1);
        }
        Ok(())
    }

    /// Says that every entry of the base is here.
    pub fn all_warm(&mut self) {
        // What was removed stays known until that is folded: entries may leave again before.
        self.partial = false;
    }

    /// Takes in that the base has all changes through the epoch `folded`.
    pub fn folded_through(&mut self, folded: Epoch) {
        let before = self.folded;
        while let Some(oldest) = self.unfolded.pop_front_if(|oldest| oldest.epoch <= folded) {
            self.folded = oldest.drain;
        }
        if self.folded > before && !self.gone.is_empty() {
            let folded = self.folded;
            self.gone.retain(|_, drain| *drain > folded);
        }
    }

    /// Lets entries go that the base has, those that were not used for longest first, about, until at most `bytes` of them
    /// are left or none more may go. Says how many went.
    pub fn evict(&mut self, bytes: usize) -> usize {
        let surplus = self.len().saturating_sub(bytes / self.entry_bytes().max(1));
        if surplus == 0 || !self.based {
            return 0;
        }
        let gone = self.entries.evict(surplus, self.folded);
        self.partial |= gone > 0;
        gone
    }

    /// Bytes of the entries in memory, about: what [`evict`](Self::evict) counts. Less than [`bytes`](Self::bytes) where the
    /// map has had more entries than now.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        self.len().saturating_mul(self.entry_bytes())
    }

    /// Bytes of those that changed since the last drain, about.
    #[must_use]
    pub fn changed_bytes(&self) -> usize {
        self.entries.changed().saturating_mul(self.entry_bytes())
    }

    /// Bytes of those that [`evict`](Self::evict) cannot let go, at most: they have changed and the base does not have them
    /// as they are.
    #[must_use]
    pub fn bound_bytes(&self) -> usize {
        let unfolded = self.unfolded.iter().fold(0_usize, |sum, drain| sum.saturating_add(drain.entries));
        let entries = unfolded.saturating_add(self.entries.changed()).min(self.len());
        entries.saturating_mul(self.entry_bytes())
    }

    /// Bytes of an entry in memory, about.
    #[must_use]
    pub fn entry_bytes(&self) -> usize {
        Entries::<K, V>::entry_bytes().saturating_add(self.heap_bytes())
    }
}
