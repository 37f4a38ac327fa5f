//! The map against a model, over changelogs, other workers, and a base that holds what memory does not.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::state::changelog::ChangelogReader;
use crate::state::test_store::{Stored, store};

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

fn drain(state: &mut KeyedState<String, u64>, stored: &mut Stored) {
    store(stored, |changes| state.drain_changes(Table(0), changes));
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

/// What a job does around a map: commits changelogs, folds them into a base, starts again.
#[derive(Default)]
struct Disk {
    base: std::cell::RefCell<Stored>,
    chain: Vec<(Epoch, Vec<u8>)>,
    folded: Epoch,
}

impl Disk {
    fn commit(&mut self, state: &mut KeyedState<String, u64>, epoch: Epoch) {
        let mut changes = ChangelogWriter::new();
        state.drain_changes(Table(0), &mut changes).unwrap();
        state.closed(epoch);
        if let Some(sealed) = changes.finish() {
            self.chain.push((epoch, sealed));
        }
    }

    fn fold(&mut self, epochs: usize) {
        for (epoch, sealed) in self.chain.drain(..epochs.min(self.chain.len())) {
            self.folded = epoch;
            let mut base = self.base.borrow_mut();
            for change in ChangelogReader::open(&sealed).unwrap() {
                let change = change.unwrap();
                let key = (change.group, change.key.to_vec());
                match change.value {
                    Some(value) => _ = base.insert(key, value.to_vec()),
                    None => _ = base.remove(&key),
                }
            }
        }
    }

    fn start(&self, committed: Epoch) -> KeyedState<String, u64> {
        let mut state = KeyedState::<String, u64>::new();
        state.restore_over_base(committed);
        let mut newest = BTreeMap::new();
        for (_, sealed) in &self.chain {
            for change in ChangelogReader::open(sealed).unwrap() {
                let change = change.unwrap();
                newest.insert((change.group, change.key.to_vec()), change.value.map(<[u8]>::to_vec));
            }
        }
        for ((group, key), value) in newest {
            match value {
                Some(value) => state.restore(group, |key| hash(key), &key, &value).unwrap(),
                None => state.restore_removed(&key).unwrap(),
            }
        }
        if !self.base.borrow().is_empty() {
            state.rest_in_base();
        }
        state
    }
}

impl Base for Disk {
    fn read(&self, wanted: &Wanted, found: &mut Found<'_>) -> Result<()> {
        let base = self.base.borrow();
        for (index, (group, key)) in wanted.iter().enumerate() {
            if let Some(value) = base.get(&(group, key.to_vec())) {
                found(index, key, value)?;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum Step {
    Add(String, u32),
    Remove(String),
    Look(String),
    Commit,
    Fold(usize),
    Evict,
    /// The whole base at once, as if the walk behind a start came to its end here.
    Warm,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => ("[ab]{0,3}", any::<u32>()).prop_map(|(key, by)| Step::Add(key, by)),
        4 => "[ab]{0,3}".prop_map(Step::Remove),
        4 => "[ab]{0,3}".prop_map(Step::Look),
        4 => Just(Step::Commit),
        3 => (0..4_usize).prop_map(Step::Fold),
        3 => Just(Step::Evict),
        1 => Just(Step::Warm),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 0..120)
}

proptest! {
    #[test]
    fn what_left_memory_is_found_in_the_base_and_what_was_removed_is_not(steps in steps()) {
        let (mut disk, mut model, mut committed) = (Disk::default(), BTreeMap::new(), BTreeMap::new());
        let (mut state, mut epoch, mut wanted) = (disk.start(Epoch::default()), Epoch::default(), Wanted::default());
        let mut evicted = false;
        for step in steps {
            match step {
                Step::Add(key, by) => {
                    state.fetch([(hash(&key), group(&key), &key)].into_iter(), &disk, &mut wanted).unwrap();
                    let value = state.upsert(hash(&key), group(&key), &key, || 0_u64);
                    *value = value.wrapping_add(u64::from(by));
                    let value = model.entry(key).or_insert(0_u64);
                    *value = value.wrapping_add(u64::from(by));
                }
                Step::Remove(key) => {
                    state.fetch([(hash(&key), group(&key), &key)].into_iter(), &disk, &mut wanted).unwrap();
                    prop_assert_eq!(state.remove(hash(&key), &key), model.remove(&key));
                }
                Step::Look(key) => {
                    // Twice in one batch: two records of one key.
                    let asked = [(hash(&key), group(&key), &key), (hash(&key), group(&key), &key)];
                    state.fetch(asked.into_iter(), &disk, &mut wanted).unwrap();
                    prop_assert_eq!(state.get(hash(&key), &key), model.get(&key));
                }
                Step::Commit => {
                    epoch = epoch.next();
                    disk.commit(&mut state, epoch);
                    committed = model.clone();
                }
                Step::Fold(epochs) => disk.fold(epochs),
                Step::Evict => {
                    state.folded_through(disk.folded);
                    evicted |= state.evict(0) > 0;
                    prop_assert!(state.resident_bytes() <= state.bound_bytes(), "more stayed than was said to be bound");
                }
                Step::Warm => {
                    // Evicted entries are never warmed: memory is full then.
                    if !evicted {
                        for ((group, key), value) in disk.base.borrow().iter() {
                            state.warm(*group, |key| hash(key), key, value).unwrap();
                        }
                        state.all_warm();
                        prop_assert_eq!(&contents(&state), &model);
                    }
                }
                Step::Restart => {
                    model = committed.clone();
                    state = disk.start(epoch);
                    evicted = false;
                }
            }
        }
        for key in ["", "a", "b", "aa", "ab", "ba", "bb", "aaa", "aab", "aba", "abb", "baa", "bab", "bba", "bbb"] {
            let key = key.to_owned();
            state.fetch([(hash(&key), group(&key), &key)].into_iter(), &disk, &mut wanted).unwrap();
            prop_assert_eq!(state.get(hash(&key), &key), model.get(&key));
        }
    }
}

#[test]
fn what_the_base_does_not_have_stays_and_what_is_used_stays_longer() {
    let (mut disk, mut state, mut wanted) = (Disk::default(), KeyedState::<String, u64>::new(), Wanted::default());
    state.restore_over_base(Epoch::default());
    let keys: Vec<String> = (0..100).map(|number| format!("key-{number}")).collect();
    for key in &keys {
        state.upsert(hash(key), group(key), key, || 1);
    }
    disk.commit(&mut state, Epoch::new(1));
    state.folded_through(disk.folded);
    assert_eq!(state.evict(0), 0, "nothing is in the base");
    assert_eq!((state.bound_bytes(), state.changed_bytes()), (state.resident_bytes(), 0));
    disk.fold(1);
    state.folded_through(disk.folded);
    state.upsert(hash(&keys[7]), group(&keys[7]), &keys[7], || 0);
    assert_eq!((state.bound_bytes(), state.changed_bytes()), (state.entry_bytes(), state.entry_bytes()));
    assert_eq!(state.evict(0), 99, "all but the one that changed");
    assert!(state.is_partial() && state.len() == 1 && state.bytes() >= state.resident_bytes());
    state.fetch(keys.iter().map(|key| (hash(key), group(key), key)), &disk, &mut wanted).unwrap();
    assert_eq!(state.len(), 100);
}

#[test]
fn many_keys_are_found_together_as_they_are_one_by_one() {
    let mut state = KeyedState::<u64, u64>::new();
    for key in 0..10_000_u64 {
        // All keys share their hash's low bits, as those of one key group do, and some share all of it.
        *state.upsert(key / 3 * 256, KeyGroup::new(0), &key, || 0) = key;
    }
    let asked: Vec<u64> = (0..12_000).step_by(7).collect();
    let mut places = Vec::new();
    state.find_all(asked.iter().map(|key| (key / 3 * 256, key)), &mut places);
    for (key, place) in asked.iter().zip(places) {
        assert_eq!(place.is_some(), *key < 10_000);
        assert_eq!(*state.upsert_at(place, key / 3 * 256, KeyGroup::new(0), key, || *key), *key);
    }
}
