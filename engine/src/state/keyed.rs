//! One value a key.

use super::changelog::{ChangelogWriter, Table};
use super::codec;
use super::slots::Slots;
use crate::error::Result;
use crate::vocabulary::{Key, KeyGroup, State};

/// A map from keys to values that writes down only what changed.
///
/// *In:* a key with its stable hash and key group. *Out:* [`drain_changes`](Self::drain_changes), once an epoch.
/// *After a crash:* empty, until [`restore`](Self::restore) was called with every live entry.
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
    slots: Slots<K, V>,
    // Keys that the snapshot holds and the map no longer does.
    deleted: Vec<(KeyGroup, K)>,
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
        Self { slots: Slots::default(), deleted: Vec::new() }
    }

    /// The value of `key`. `hash` must be the same for equal keys in this start of the process; its quality is no matter.
    #[must_use]
    pub fn get(&self, hash: u64, key: &K) -> Option<&V> {
        self.slots.get(hash, key)
    }

    /// The value of `key`, made by `default` where there is none. It counts as changed in this epoch.
    pub fn upsert(&mut self, hash: u64, group: KeyGroup, key: &K, default: impl FnOnce() -> V) -> &mut V {
        self.slots.upsert(hash, group, key, default)
    }

    /// Removes `key` and gives back its value.
    pub fn remove(&mut self, hash: u64, key: &K) -> Option<V> {
        let entry = self.slots.remove(hash, key)?;
        if entry.persisted {
            self.deleted.push((entry.group, entry.key));
        }
        Some(entry.value)
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.slots.iter().map(|entry| (&entry.key, &entry.value))
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether it has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the map takes in memory, without what keys and values own on the heap.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.slots.bytes()
    }

    /// Appends what changed since the last call, and forgets that it changed.
    ///
    /// # Errors
    /// A key or value cannot be encoded. The job must stop: part of the changes is lost to this map.
    pub fn drain_changes(&mut self, table: Table, changes: &mut ChangelogWriter) -> Result<()> {
        let (mut key, mut value) = std::mem::take(&mut changes.scratch);
        // Deletes first: a key that was removed and came back in the same epoch must end as a put.
        for (group, gone) in self.deleted.drain(..) {
            key.clear();
            codec::encode_into(&gone, &mut key)?;
            changes.delete(group, table, &key);
        }
        self.slots.drain_dirty(|entry| {
            key.clear();
            value.clear();
            codec::encode_into(&entry.key, &mut key)?;
            codec::encode_into(&entry.value, &mut value)?;
            changes.put(entry.group, table, &key, &value);
            Ok(())
        })?;
        changes.scratch = (key, value);
        Ok(())
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
        let (key, value) = (codec::decode::<K>(key)?, codec::decode::<V>(value)?);
        self.slots.restore(hash_of(&key), group, key, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::changelog::ChangelogReader;
    use super::*;

    const GROUPS: u64 = 4;

    // Few different hashes, so that collisions are the rule.
    fn hash(key: &str) -> u64 {
        key.len() as u64
    }

    fn group(key: &str) -> KeyGroup {
        KeyGroup::new((hash(key) % GROUPS) as u16)
    }

    #[derive(Debug, Clone)]
    enum Op {
        Add(String, u32),
        Remove(String),
        Drain,
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            4 => ("[ab]{0,3}", any::<u32>()).prop_map(|(key, by)| Op::Add(key, by)),
            2 => "[ab]{0,3}".prop_map(Op::Remove),
            1 => Just(Op::Drain),
        ];
        proptest::collection::vec(op, 0..60)
    }

    type Stored = BTreeMap<(KeyGroup, Vec<u8>), Vec<u8>>;

    fn apply(sealed: &[u8], stored: &mut Stored) {
        for change in ChangelogReader::open(sealed).unwrap() {
            let change = change.unwrap();
            let key = (change.group, change.key.to_vec());
            match change.value {
                Some(value) => _ = stored.insert(key, value.to_vec()),
                None => assert!(stored.remove(&key).is_some(), "a delete of what was never written"),
            }
        }
    }

    fn drain(state: &mut KeyedState<String, u64>, stored: &mut Stored) {
        let mut changes = ChangelogWriter::new();
        state.drain_changes(Table(0), &mut changes).unwrap();
        if let Some(sealed) = changes.finish() {
            apply(&sealed, stored);
        }
    }

    fn contents(state: &KeyedState<String, u64>) -> BTreeMap<String, u64> {
        state.iter().map(|(key, value)| (key.clone(), *value)).collect()
    }

    proptest! {
        #[test]
        fn it_is_a_map_and_its_changelogs_rebuild_it_on_other_workers(ops in ops(), cut in 0..=GROUPS as u16) {
            let (mut state, mut model, mut stored) = (KeyedState::new(), BTreeMap::new(), Stored::new());
            for op in ops {
                match op {
                    Op::Add(key, by) => {
                        let value = state.upsert(hash(&key), group(&key), &key, || 0_u64);
                        *value = value.wrapping_add(u64::from(by));
                        let value = model.entry(key).or_insert(0_u64);
                        *value = value.wrapping_add(u64::from(by));
                    }
                    Op::Remove(key) => prop_assert_eq!(state.remove(hash(&key), &key), model.remove(&key)),
                    Op::Drain => drain(&mut state, &mut stored),
                }
                prop_assert_eq!(state.len(), model.len());
                prop_assert!(model.iter().all(|(key, value)| state.get(hash(key), key) == Some(value)));
            }
            drain(&mut state, &mut stored);
            prop_assert_eq!(&contents(&state), &model);

            // Two workers, with the groups cut anywhere between them.
            let mut workers = [KeyedState::<String, u64>::new(), KeyedState::new()];
            for ((group, key), value) in &stored {
                let worker = usize::from(group.number() >= cut);
                workers[worker].restore(*group, |key| hash(key), key, value).unwrap();
            }
            let mut restored = contents(&workers[0]);
            restored.extend(contents(&workers[1]));
            prop_assert_eq!(restored, model);
            // What was restored has not changed.
            let before = stored.clone();
            workers.iter_mut().for_each(|worker| drain(worker, &mut stored));
            prop_assert_eq!(stored, before);
        }
    }

    #[test]
    fn what_comes_and_goes_within_an_epoch_is_not_written() {
        let mut state = KeyedState::<u8, u8>::new();
        state.upsert(1, KeyGroup::new(0), &1, || 1);
        state.remove(1, &1);
        let mut changes = ChangelogWriter::new();
        state.drain_changes(Table(0), &mut changes).unwrap();
        assert!(changes.is_empty());
    }

    #[test]
    fn bytes_of_another_type_are_not_restored() {
        let mut state = KeyedState::<u8, String>::new();
        assert!(state.restore(KeyGroup::new(0), |_| 0, &[1], &[9, 9]).is_err());
        assert!(state.is_empty());
    }
}
