use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::state::changelog::{ChangelogWriter, Table};
use crate::state::test_store::{Stored, store};
use crate::vocabulary::{Window, millis};
use crate::window::sliding;

const GROUPS: u8 = 4;

fn at(millis: u64) -> EventTime {
    EventTime::from_millis(millis)
}

fn group(key: u8) -> KeyGroup {
    KeyGroup::new(u16::from(key % GROUPS))
}

// Few different hashes, so that collisions are the rule.
fn hash(key: u8) -> u64 {
    u64::from(key / 2)
}

#[derive(Debug, Clone)]
enum Op {
    /// At a time, late for so many of its windows.
    Add(u64, usize, u8, u32),
    Fire(u64),
    Drain,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let late = prop_oneof![3 => Just(0), 1 => 0..6_usize];
    let op = prop_oneof![
        8 => (0..150_u64, late, 0..8_u8, any::<u32>()).prop_map(|(at, late, key, by)| Op::Add(at, late, key, by)),
        1 => (0..200_u64).prop_map(Op::Fire),
        1 => Just(Op::Drain),
    ];
    proptest::collection::vec(op, 0..120)
}

type Model = BTreeMap<Window, BTreeMap<u8, u64>>;
fn drain(state: &mut PaneState<u8, u64>, stored: &mut Stored) {
    store(stored, |changes| state.drain_changes(Table(0), changes));
}

fn add(sum: &mut u64, other: u64) {
    *sum += other;
}

fn sorted(fired: Vec<(Window, Vec<(u8, u64)>)>) -> Vec<(Window, BTreeMap<u8, u64>)> {
    let rows = |entries: Vec<(u8, u64)>| {
        let count = entries.len();
        let rows: BTreeMap<_, _> = entries.into_iter().collect();
        assert_eq!(rows.len(), count, "a key came twice");
        rows
    };
    fired.into_iter().map(|(window, entries)| (window, rows(entries))).collect()
}

proptest! {
    #[test]
    fn windows_are_those_of_the_records_and_changelogs_rebuild_what_is_open(
        size in 1..40_u64, slide in 1..40_u64, grace in 0..20_u64, ops in ops(), cut in 0..=u16::from(GROUPS),
    ) {
        let spec = sliding(millis(size), millis(slide.min(size))).grace(millis(grace));
        let (mut state, mut model, mut stored) = (PaneState::new(spec), Model::new(), Stored::new());
        let (mut time, mut fired) = (0, at(0));
        for op in ops {
            match op {
                Op::Add(ahead, late, key, by) => {
                    let (record, passed) = (at(time + ahead), at(time));
                    // The records of this one's split are ahead of time, so it is late for windows that have not fired.
                    let open = spec.assign(record).skip(late).find(|window| !spec.is_late(*window, passed));
                    let Some(first) = open else { continue };
                    let pane = spec.pane_of(first.start(), spec.pane(record).last()).unwrap();
                    *state.upsert(pane, hash(key), group(key), &key, || 0_u64) += u64::from(by);
                    for window in spec.assign(record).filter(|window| window.start() >= first.start()) {
                        *model.entry(window).or_default().entry(key).or_default() += u64::from(by);
                    }
                }
                Op::Fire(to) => {
                    time = time.max(to);
                    let open = model.keys().find(|window| !spec.is_late(**window, at(time))).copied();
                    let rest = open.map(|open| model.split_off(&open)).unwrap_or_default();
                    let due: Vec<_> = std::mem::replace(&mut model, rest).into_iter().collect();
                    fired = due.last().map_or(fired, |(window, _)| window.end());
                    prop_assert_eq!(sorted(state.fire_through(Some(at(time)), |_, _| true, add)), due);
                }
                Op::Drain => drain(&mut state, &mut stored),
            }
            prop_assert_eq!(state.len(), state.iter().count());
            prop_assert_eq!(state.is_empty(), model.is_empty());
        }
        drain(&mut state, &mut stored);
        let accumulators: BTreeSet<_> = state.iter().map(|(pane, key, value)| (pane, *key, *value)).collect();
        let mut workers = [PaneState::<u8, u64>::new(spec), PaneState::new(spec)];
        for ((group, key), value) in &stored {
            let worker = usize::from(group.number() >= cut);
            workers[worker].restore(*group, |key| hash(*key), key, value).unwrap();
        }
        let restored = workers.iter().flat_map(PaneState::iter).map(|(pane, key, value)| (pane, *key, *value));
        prop_assert_eq!(restored.collect::<BTreeSet<_>>(), accumulators);
        let mut rest = Model::new();
        // One is told what has fired for all of it, the other is asked.
        workers[0].skip_through(fired);
        for worker in &mut workers {
            for (window, entries) in sorted(worker.fire_through(None, |window, _| window.end() > fired, add)) {
                rest.entry(window).or_default().extend(entries);
            }
            prop_assert!(worker.is_empty() && worker.keys.len() == 0);
            drain(worker, &mut stored);
        }
        prop_assert_eq!(rest, model);
        // The deletes of what fired leave nothing behind.
        prop_assert!(stored.is_empty());
    }
}

fn spec() -> WindowSpec {
    sliding(millis(20), millis(10)).grace(millis(0))
}

fn log(state: &mut PaneState<u8, Vec<u64>>, time: u64) {
    state.upsert(spec().pane(at(time)), 0, group(0), &0, Vec::new).push(time);
}

#[test]
fn panes_are_merged_in_the_order_of_time_however_they_came() {
    let mut state = PaneState::new(spec());
    [25, 41, 12, 31, 5, 27, 3].iter().for_each(|time| log(&mut state, *time));
    let fired = state.fire_through(None, |_, _| true, |log, mut other| log.append(&mut other));
    let logs: Vec<_> = fired.into_iter().map(|(_, mut entries)| entries.remove(0).1).collect();
    let expected: [&[u64]; 5] = [&[5, 3, 12], &[12, 25, 27], &[25, 27, 31], &[31, 41], &[41]];
    assert_eq!(logs, expected);
}

#[test]
fn a_pane_made_and_left_within_an_epoch_is_not_written_and_an_unchanged_one_only_once() {
    let (mut state, mut stored) = (PaneState::<u8, u64>::new(spec()), Stored::new());
    let pane = spec().pane(at(5));
    state.upsert(pane, 0, group(0), &0, || 1);
    assert_eq!(state.fire_through(None, |_, _| true, add).len(), 1, "no window begins before 1970");
    drain(&mut state, &mut stored);
    assert!(stored.is_empty());

    let (pane, mut state) = (spec().pane(at(15)), PaneState::<u8, u64>::new(spec()));
    state.upsert(pane, 0, group(0), &0, || 1);
    drain(&mut state, &mut stored);
    assert_eq!(stored.len(), 1);
    assert_eq!(state.fire_through(Some(at(20)), |_, _| true, add).len(), 1);
    let mut changes = ChangelogWriter::new();
    state.drain_changes(Table(0), &mut changes).unwrap();
    assert!(changes.is_empty(), "a window that others follow changes no pane");
}

#[test]
fn memory_of_keys_that_are_gone_is_given_back() {
    let mut state = PaneState::<u32, u64>::new(spec());
    let add_to = |state: &mut PaneState<u32, u64>, time: u64, key: u32| {
        *state.upsert(spec().pane(at(time)), u64::from(key / 2), group(0), &key, || 0) += 1;
    };
    (0..5_000).for_each(|key| add_to(&mut state, 5, key));
    [4_000, 17, 4_001].iter().for_each(|key| add_to(&mut state, 15, *key));
    let full = state.bytes();
    assert_eq!(state.fire_through(Some(at(20)), |_, _| true, add)[0].1.len(), 5_000);
    assert!(state.bytes() * 10 < full, "{} of {full} bytes", state.bytes());
    // The keys that are left are where they are looked for: by their hash, as changed, and as those of a pane.
    [17, 4_001, 9_000].iter().for_each(|key| add_to(&mut state, 25, *key));
    add_to(&mut state, 15, 4_000);
    let mut changes = ChangelogWriter::new();
    state.drain_changes(Table(0), &mut changes).unwrap();
    assert_eq!(changes.len(), 6);
    let mut fired = state.fire_through(None, |_, _| true, add);
    fired.iter_mut().for_each(|(_, entries)| entries.sort_unstable());
    let rows: Vec<_> = fired.into_iter().map(|(_, entries)| entries).collect();
    assert_eq!(rows, [vec![(17, 2), (4_000, 2), (4_001, 2), (9_000, 1)], vec![(17, 1), (4_001, 1), (9_000, 1)]]);
    assert!(state.is_empty());
}

#[test]
fn windows_at_the_end_of_time_fire_each() {
    let mut state = PaneState::<u8, u64>::new(spec());
    state.upsert(spec().pane(EventTime::MAX), 0, group(0), &0, || 7);
    assert!(state.fire_through(Some(at(u64::MAX / 8)), |_, _| true, add).is_empty());
    let fired = state.fire_through(Some(EventTime::MAX), |_, _| true, add);
    let windows: Vec<_> = fired.iter().map(|(window, _)| *window).collect();
    assert_eq!(windows, spec().assign(EventTime::MAX).collect::<Vec<_>>());
    assert!(state.is_empty());
}

#[test]
fn the_key_of_a_pane_that_cannot_be_is_refused() {
    let mut state = PaneState::<u8, u64>::new(spec());
    let mut restore = |key: &[u8]| state.restore(group(0), |_| 0, key, &[0]).unwrap_err().to_string();
    assert!(restore(&[0; 15]).contains("15 bytes"));
    assert!(restore(&[255; 17]).contains("no windows of 20 ms every 10 ms"));
    let mut unaligned = [0; 17];
    unaligned[7] = 5;
    assert!(restore(&unaligned).contains("from 0 to 5"));
}
