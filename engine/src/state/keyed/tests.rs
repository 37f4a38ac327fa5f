//! The map against a model, over changelogs, other workers, and a base that holds what memory does not.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::state::changelog::ChangelogReader;

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
