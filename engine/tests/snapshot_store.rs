//! The store as the runtime sees it: commit, kill, restore, fold, refuse.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail as tests do")]

mod snapshot_support;

use std::fs;
use std::sync::Arc;

use proptest::prelude::*;
use shardflow::snapshot::{EpochBatch, Identity, StepChange, StepInfo, Store, StoreStats, Tuning};
use shardflow::state::{ChangelogWriter, KeyedState, Table};
use shardflow::vocabulary::{KeyGroup, StepName};
use shardflow::{Epoch, ErrorKind};
use snapshot_support::{Contents, GROUPS, Job, apply, contents, files, handle, identity, open, steps};
use tempfile::tempdir;

fn empty(epoch: u64) -> EpochBatch {
    EpochBatch { epoch: Epoch::new(epoch), changes: Vec::new(), handles: Vec::new() }
}

fn put(step: &str, epoch: u64, key: &[u8], value: &[u8]) -> EpochBatch {
    let mut writer = ChangelogWriter::new();
    writer.put(KeyGroup::new(1), Table(0), key, value);
    let changelog = writer.finish().unwrap();
    EpochBatch { changes: vec![StepChange { step: step.into(), worker: 0, changelog }], ..empty(epoch) }
}

#[test]
fn a_first_start_has_nothing_and_keeps_what_it_fixed() {
    let dir = tempdir().unwrap();
    let place = dir.path().join("made/by/the/store");
    let (store, first) = Store::open(&place, &identity()).unwrap();
    assert_eq!((first.committed, first.incarnation.number(), first.key_groups), (None, 1, GROUPS));
    assert!(first.steps.is_empty() && first.handles.is_empty());
    assert_eq!(store.stats(), StoreStats::default());
    drop(store);
    let (_store, second) = Store::open(&place, &Identity { key_groups: 99, ..identity() }).unwrap();
    assert_eq!((second.incarnation.number(), second.key_groups), (2, GROUPS));
    assert_eq!(second.secret, first.secret);
    assert_ne!(second.secret, [0; 16]);
}

#[test]
fn a_second_process_is_turned_away_and_changes_nothing() {
    let dir = tempdir().unwrap();
    let (store, _) = open(dir.path()).unwrap();
    let before = files(dir.path());
    let error = open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    let expected = format!("could not open the state folder \"{}\": another process uses it", dir.path().display());
    assert_eq!(error.to_string(), expected);
    assert_eq!(files(dir.path()), before);
    drop(store);
    assert!(open(dir.path()).is_ok());
}

#[test]
fn the_folder_of_another_job_or_a_newer_version_stays_as_it_is() {
    let dir = tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let before = files(dir.path());
    let other = Identity { job: "billing".into(), ..identity() };
    let error = Store::open(dir.path(), &other).unwrap_err().to_string();
    assert!(error.ends_with("it belongs to the job \"metering\", not to \"billing\""), "{error}");
    assert_eq!(files(dir.path()), before);

    let mut job = before["job"].clone();
    job[5] = 2;
    fs::write(dir.path().join("job"), job).unwrap();
    let before = files(dir.path());
    let error = open(dir.path()).unwrap_err().to_string();
    assert!(error.ends_with("its format version 2 is newer than this program's 1"), "{error}");
    assert_eq!(files(dir.path()), before);

    fs::remove_file(dir.path().join("job")).unwrap();
    assert!(open(dir.path()).unwrap_err().to_string().contains("its file \"job\" is missing"));
}

#[test]
fn a_start_that_was_killed_while_making_the_folder_is_made_again() {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("db-unfinished")).unwrap();
    fs::write(dir.path().join("db-unfinished/CURRENT"), "half").unwrap();
    drop(open(dir.path()).unwrap());
    // The database is whole, the marker was not written yet.
    fs::remove_file(dir.path().join("committed")).unwrap();
    assert!(open(dir.path()).is_ok());
}

#[test]
fn a_place_that_cannot_be_a_folder_is_named() {
    let dir = tempdir().unwrap();
    let place = dir.path().join("file");
    fs::write(&place, "").unwrap();
    let error = open(&place).unwrap_err().to_string();
    assert!(error.contains("file\": it cannot be created"), "{error}");
    assert!(Store::open(&dir.path().join("x"), &Identity { key_groups: 0, ..identity() }).is_err());
}

#[test]
fn every_epoch_survives_with_and_without_folding() {
    let dir = tempdir().unwrap();
    let mut job = Job::new(1, 200);
    let mut epoch = 0;
    for start in 1..=4 {
        let (store, recovered) = open(dir.path()).unwrap();
        assert_eq!(recovered.incarnation.number(), start);
        assert_eq!(recovered.committed, (epoch > 0).then(|| Epoch::new(epoch)));
        store.register_steps(&steps(), false).unwrap();
        if let Some(committed) = recovered.committed {
            assert_eq!(contents(&store, &steps()).unwrap(), job.states[&committed]);
            assert_eq!(recovered.steps, steps());
        }
        for _ in 0..15 {
            epoch += 1;
            let permit = store.commit(job.epoch(epoch)).unwrap();
            assert_eq!(permit.epoch(), Epoch::new(epoch));
            store.fold_if_due().unwrap();
        }
        assert!(store.stats().unfolded_epochs < 15, "{:?}", store.stats());
        assert_eq!(contents(&store, &steps()).unwrap(), job.states[&Epoch::new(epoch)]);
        store.fold_all().unwrap();
        assert_eq!(store.stats().unfolded_epochs, 1);
        assert_eq!(contents(&store, &steps()).unwrap(), job.states[&Epoch::new(epoch)]);
    }
}

#[test]
fn other_numbers_of_workers_restore_the_same_entries() {
    let dir = tempdir().unwrap();
    let (store, _) = open(dir.path()).unwrap();
    store.register_steps(&steps(), false).unwrap();
    let mut job = Job::new(2, 300);
    for epoch in 1..=6 {
        store.commit(job.epoch(epoch)).unwrap();
        if epoch == 4 {
            store.fold_all().unwrap();
        }
    }
    let whole = contents(&store, &steps()).unwrap();
    for workers in [1, 2, 3, 5, 16_u16] {
        let bounds: Vec<u16> = (0..=workers).map(|worker| worker * GROUPS / workers).collect();
        let parts = std::thread::scope(|scope| {
            let restore = |part: &[u16]| {
                let (store, range) = (&store, part[0]..part[1]);
                scope.spawn(move || {
                    let mut entries = Contents::new();
                    for step in steps() {
                        let restored = store.restore(&step.name, range.clone(), &mut |group, table, key, value| {
                            assert!(range.contains(&group.number()));
                            entries
                                .insert((step.name.to_string(), group.number(), table.0, key.to_vec()), value.to_vec());
                            Ok(())
                        });
                        restored.unwrap();
                    }
                    entries
                })
            };
            let threads: Vec<_> = bounds.windows(2).map(restore).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(parts.iter().map(Contents::len).sum::<usize>(), whole.len());
        assert_eq!(parts.into_iter().flatten().collect::<Contents>(), whole);
    }
}

#[test]
fn typed_state_comes_back_through_the_store() {
    let dir = tempdir().unwrap();
    let (store, _) = open(dir.path()).unwrap();
    store.register_steps(&steps(), false).unwrap();
    let mut state = KeyedState::<String, Vec<u64>>::new();
    state.upsert(7, KeyGroup::new(3), &"shard-1".to_owned(), Vec::new).extend([1, 2, 3]);
    let mut changes = ChangelogWriter::new();
    state.drain_changes(Table(0), &mut changes).unwrap();
    let change = StepChange { step: "positions".into(), worker: 0, changelog: changes.finish().unwrap() };
    store.commit(EpochBatch { changes: vec![change], ..empty(1) }).unwrap();
    let mut restored = KeyedState::<String, Vec<u64>>::new();
    let visited = store.restore(&"positions".into(), 0..GROUPS, &mut |group, _, key, value| {
        restored.restore(group, |_| 7, key, value)
    });
    visited.unwrap();
    assert_eq!(restored.get(7, &"shard-1".to_owned()), Some(&vec![1, 2, 3]));
}

#[test]
fn handles_come_back_until_they_are_acknowledged() {
    let dir = tempdir().unwrap();
    let (store, _) = open(dir.path()).unwrap();
    for epoch in 1..=3 {
        store.commit(EpochBatch { handles: vec![handle(epoch)], ..empty(epoch) }).unwrap();
    }
    store.acknowledge(Epoch::new(1)).unwrap();
    drop(store);
    let (store, recovered) = open(dir.path()).unwrap();
    let charges = StepName::new("charges");
    assert_eq!(recovered.handles[&charges], [handle(2).1, handle(3).1]);
    store.acknowledge(Epoch::new(3)).unwrap();
    drop(store);
    let (store, recovered) = open(dir.path()).unwrap();
    assert!(recovered.handles.is_empty());
    assert_eq!(recovered.committed, Some(Epoch::new(3)));
    // An epoch that names nothing keeps what is pending.
    store.commit(EpochBatch { handles: vec![handle(4)], ..empty(4) }).unwrap();
    store.commit(empty(5)).unwrap();
    store.fold_all().unwrap();
    drop(store);
    let (_store, recovered) = open(dir.path()).unwrap();
    assert_eq!(recovered.handles[&charges], [handle(4).1]);
}

#[test]
fn a_batch_that_makes_no_sense_is_refused_and_the_next_one_goes_on() {
    let dir = tempdir().unwrap();
    let (store, _) = open(dir.path()).unwrap();
    store.register_steps(&steps(), false).unwrap();
    store.commit(empty(5)).unwrap();
    let refused = |batch| {
        let error = store.commit(batch).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
        error.to_string()
    };
    assert_eq!(refused(empty(5)), "could not commit epoch 5: epoch 5 is committed already");
    assert!(refused(empty(4)).contains("epoch 5 is committed already"));
    assert!(refused(put("nobody", 6, b"k", b"v")).ends_with("step \"nobody\" is unknown"));
    store.commit(put("positions", 6, b"k", b"v")).unwrap();
    assert_eq!(contents(&store, &steps()).unwrap().len(), 1);
}

#[test]
fn later_changes_of_one_batch_win() {
    let dir = tempdir().unwrap();
    let (store, _) = open(dir.path()).unwrap();
    store.register_steps(&steps(), false).unwrap();
    let mut both = put("positions", 1, b"k", b"old");
    both.changes.extend(put("positions", 1, b"k", b"new").changes);
    store.commit(both).unwrap();
    assert_eq!(contents(&store, &steps()).unwrap().into_values().collect::<Vec<_>>(), [b"new"]);
    store.commit(empty(2)).unwrap();
    store.fold_all().unwrap();
    assert_eq!(contents(&store, &steps()).unwrap().into_values().collect::<Vec<_>>(), [b"new"]);
}

#[test]
fn the_state_of_a_dropped_step_is_gone_for_good() {
    let dir = tempdir().unwrap();
    let (store, _) = open(dir.path()).unwrap();
    store.register_steps(&steps(), false).unwrap();
    store.commit(put("positions", 1, b"base", b"v")).unwrap();
    store.commit(empty(2)).unwrap();
    store.fold_all().unwrap();
    store.commit(put("positions", 3, b"changelog", b"v")).unwrap();
    assert_eq!(contents(&store, &steps()).unwrap().len(), 2);
    let without: Vec<StepInfo> = steps().into_iter().skip(1).collect();
    let error = store.register_steps(&without, false).unwrap_err().to_string();
    assert!(error.starts_with("the snapshot holds state of step \"positions\""), "{error}");
    store.register_steps(&without, true).unwrap();
    drop(store);
    let (store, recovered) = open(dir.path()).unwrap();
    assert_eq!(recovered.steps, without);
    store.register_steps(&steps(), false).unwrap();
    assert!(contents(&store, &steps()).unwrap().is_empty());
    store.commit(put("positions", 4, b"fresh", b"v")).unwrap();
    store.fold_all().unwrap();
    assert_eq!(contents(&store, &steps()).unwrap().len(), 1);
}

#[test]
fn an_older_database_is_refused_until_its_epoch_is_accepted() {
    let (dir, older) = (tempdir().unwrap(), tempdir().unwrap());
    let (store, _) = open(dir.path()).unwrap();
    store.commit(empty(7)).unwrap();
    drop(store);
    snapshot_support::copy(&dir.path().join("db"), &older.path().join("db"));
    let (store, _) = open(dir.path()).unwrap();
    store.commit(empty(8)).unwrap();
    store.commit(empty(9)).unwrap();
    drop(store);
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    snapshot_support::copy(&older.path().join("db"), &dir.path().join("db"));
    let before = files(dir.path());
    let error = open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("it lost epochs 8 to 9, whose results may be visible"), "{error}");
    let mut after = files(dir.path());
    after.retain(|name, _| !name.contains("/LOG"));
    assert!(after.iter().all(|(name, bytes)| before.get(name) == Some(bytes)), "nothing was changed");

    fs::write(dir.path().join("accept-epoch-7"), "").unwrap();
    let (store, recovered) = open(dir.path()).unwrap();
    assert_eq!(recovered.committed, Some(Epoch::new(7)));
    assert_eq!(recovered.incarnation.number(), 3, "the number of a start is not given out twice");
    drop(store);
    assert!(!dir.path().join("accept-epoch-7").exists());
    assert!(open(dir.path()).is_ok());

    fs::remove_file(dir.path().join("committed")).unwrap();
    assert!(open(dir.path()).unwrap_err().to_string().contains("\"committed\" is missing"));
    fs::remove_dir_all(dir.path().join("db")).unwrap();
    fs::write(dir.path().join("committed"), &before["committed"]).unwrap();
    assert!(open(dir.path()).unwrap_err().to_string().contains("it lost all epochs up to 9"));
}

/// A crash in the midst of giving a file to the database leaves its old name, of the file that is now the database's.
#[test]
fn the_other_name_of_a_file_that_the_base_has_is_not_written_over() {
    let dir = tempdir().unwrap();
    let tuning = Tuning { fold_file: 1, ..snapshot_support::tiny() };
    let start = || {
        let (store, _) = Store::open_with(dir.path(), &identity(), &tuning).unwrap();
        store.register_steps(&steps(), false).unwrap();
        store
    };
    let (store, mut job) = (start(), Job::new(8, 300));
    for epoch in 1..=4 {
        store.commit(job.epoch(epoch)).unwrap();
    }
    store.fold_all().unwrap();
    let db = dir.path().join("db");
    let live = std::fs::read_dir(&db).unwrap().map(|entry| entry.unwrap().path());
    let live: Vec<_> = live.filter(|path| path.extension().is_some_and(|kind| kind == "sst")).collect();
    assert!(!live.is_empty());
    for (epoch, path) in (5..).zip(live) {
        std::fs::hard_link(path, db.join("fold.sst")).unwrap();
        store.commit(job.epoch(epoch)).unwrap();
        store.fold_all().unwrap();
    }
    let last = job.states.values().next_back().unwrap();
    assert!(contents(&store, &steps()).unwrap() == *last);
    drop(store);
    assert!(contents(&start(), &steps()).unwrap() == *last);
}

#[test]
fn commits_go_on_while_another_thread_folds() {
    let dir = tempdir().unwrap();
    let (store, _) = open(dir.path()).unwrap();
    store.register_steps(&steps(), false).unwrap();
    let (store, mut job) = (Arc::new(store), Job::new(3, 100));
    std::thread::scope(|scope| {
        let (done, stop) = std::sync::mpsc::channel::<()>();
        let folder = Arc::clone(&store);
        scope.spawn(move || {
            while stop.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                folder.fold_all().unwrap();
            }
        });
        for epoch in 1..=120 {
            store.commit(job.epoch(epoch)).unwrap();
        }
        drop(done);
    });
    assert_eq!(contents(&store, &steps()).unwrap(), job.states[&Epoch::new(120)]);
    drop(store);
    let (store, _) = open(dir.path()).unwrap();
    assert_eq!(contents(&store, &steps()).unwrap(), job.states[&Epoch::new(120)]);
}

#[derive(Debug, Clone)]
enum Op {
    Commit(Vec<(u8, u8, u8, Option<u8>)>),
    Fold,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let changes = proptest::collection::vec((0..3_u8, 0..4_u8, 0..6_u8, any::<Option<u8>>()), 0..12);
    prop_oneof![6 => changes.prop_map(Op::Commit), 2 => Just(Op::Fold), 1 => Just(Op::Reopen)]
}

fn batch(epoch: u64, entries: &[(u8, u8, u8, Option<u8>)]) -> EpochBatch {
    let changes = entries.iter().map(|(step, group, key, value)| {
        let (mut writer, group) = (ChangelogWriter::new(), KeyGroup::new(u16::from(*group)));
        match value {
            Some(value) => writer.put(group, Table(0), &[*key], &[*value]),
            None => writer.delete(group, Table(0), &[*key]),
        }
        let step = steps()[usize::from(*step)].name.clone();
        StepChange { step, worker: 0, changelog: writer.finish().unwrap() }
    });
    EpochBatch { changes: changes.collect(), ..empty(epoch) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn it_holds_what_was_committed_through_folds_and_starts(ops in proptest::collection::vec(op(), 1..25)) {
        let dir = tempdir().unwrap();
        // Slices of a few bytes, so that a fold takes several.
        let tuning = Tuning { fold_slice: 200, fold_file: 150, ..snapshot_support::tiny() };
        let start = || {
            let (store, _) = Store::open_with(dir.path(), &identity(), &tuning).unwrap();
            store.register_steps(&steps(), false).unwrap();
            store
        };
        let (mut store, mut model) = (start(), Contents::new());
        for (op, epoch) in ops.iter().zip(1..) {
            match op {
                Op::Commit(entries) => {
                    let batch = batch(epoch, entries);
                    apply(&mut model, &batch);
                    store.commit(batch).unwrap();
                }
                Op::Fold => _ = store.fold_all().unwrap(),
                Op::Reopen => {
                    drop(store);
                    store = start();
                }
            }
            prop_assert_eq!(&contents(&store, &steps()).unwrap(), &model);
        }
    }
}

/// Run with `cargo test --release --workspace --test snapshot_store what_a_commit_takes -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn what_a_commit_takes() {
    let dir = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    let (store, _) = Store::open(dir.path(), &identity()).unwrap();
    store.register_steps(&steps(), false).unwrap();
    let mut epoch = 0;
    for bytes in [0_usize, 1 << 20, 4 << 20] {
        let mut took = Vec::new();
        for _ in 0..30 {
            epoch += 1;
            let batch = if bytes > 0 { put("positions", epoch, &[1], &vec![7; bytes]) } else { empty(epoch) };
            let start = std::time::Instant::now();
            store.commit(batch).unwrap();
            took.push(start.elapsed());
        }
        took.sort();
        println!("commit of {bytes} bytes: median {:?}, worst {:?}", took[15], took[29]);
    }
    let start = std::time::Instant::now();
    let report = store.fold_all().unwrap();
    println!("fold: {report:?} in {:?}", start.elapsed());
    drop(store);
    let start = std::time::Instant::now();
    let (store, _) = Store::open(dir.path(), &identity()).unwrap();
    println!("open: {:?}", start.elapsed());
    drop(store);
}

/// A dedupe step at 0.8 M ids/s for 20 s: 4 MB of new entries an epoch, folded as it goes. Run with
/// `cargo test --release --workspace --test snapshot_store what_a_heavy_job_takes -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn what_a_heavy_job_takes() {
    let dir = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    let (store, _) = Store::open(dir.path(), &identity()).unwrap();
    store.register_steps(&steps(), false).unwrap();
    let (mut took, mut folds) = (Vec::new(), Vec::new());
    let start = std::time::Instant::now();
    for epoch in 1..=100_u64 {
        let mut writer = ChangelogWriter::new();
        for group in 0..256_u16 {
            let value: Vec<u8> = (0..2000).flat_map(|n| rand::random::<u64>().wrapping_add(n).to_le_bytes()).collect();
            writer.put(KeyGroup::new(group), Table(0), &epoch.to_be_bytes(), &value);
        }
        let change = StepChange { step: "seen-ids".into(), worker: 0, changelog: writer.finish().unwrap() };
        let begun = std::time::Instant::now();
        store.commit(EpochBatch { changes: vec![change], ..empty(epoch) }).unwrap();
        took.push(begun.elapsed());
        let begun = std::time::Instant::now();
        if store.fold_if_due().unwrap().epochs > 0 {
            folds.push(begun.elapsed());
        }
    }
    took.sort();
    println!("{:?} in all, commits: median {:?}, worst {:?}, folds: {folds:?}", start.elapsed(), took[50], took[99]);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!("{:?}, {:?}", store.stats(), status.lines().find(|line| line.starts_with("VmHWM")));
    drop(store);
    let start = std::time::Instant::now();
    let (store, _) = Store::open(dir.path(), &identity()).unwrap();
    let opened = start.elapsed();
    let mut bytes = 0;
    let sum = &mut |_, _, _: &[u8], value: &[u8]| {
        bytes += value.len();
        Ok(())
    };
    store.restore(&"seen-ids".into(), 0..256, sum).unwrap();
    println!("open in {opened:?}, {bytes} bytes restored after {:?}", start.elapsed());
}
