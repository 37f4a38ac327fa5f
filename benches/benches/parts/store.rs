//! The snapshot: an epoch is made durable, folded into the base, and read back.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use shardflow::Epoch;
use shardflow::exchange::stable_hash;
use shardflow::snapshot::{EpochBatch, Identity, StepChange, StepInfo, Store};
use shardflow::state::{ChangelogWriter, KeyedState, Table};
use shardflow::vocabulary::StepName;

use super::keyed::{Keyed, keys};
use super::mixed;

const STEP: &str = "values";
const GROUPS: u16 = 256;
/// Changed keys of an epoch.
const CHANGED: u64 = 50_000;
/// Keys that are read back.
const KEPT: u64 = 500_000;
/// Epochs that are folded at a time.
const FOLDED: u64 = 8;
/// As large as a small accumulator.
type Value = [u64; 10];

/// A store in a folder of its own, where the build's files are: what lies in memory is never synced.
struct Kept {
    store: Store,
    epoch: Epoch,
    _dir: tempfile::TempDir,
}

impl Kept {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("the build's folder is there");
        let identity = Identity { job: "parts".to_owned(), key_groups: GROUPS };
        let (store, _recovered) =
            Store::open(&dir.path().join("state"), &identity).expect("a new folder can be opened");
        let step = StepInfo { name: StepName::new(STEP), kind: "process".to_owned(), version: 1 };
        store.register_steps(&[step], false).expect("a first step can be registered");
        Self { store, epoch: Epoch::new(0), _dir: dir }
    }

    /// Commits; gives how long that took.
    fn commit(&mut self, changelog: Vec<u8>) -> Duration {
        self.epoch = self.epoch.next();
        let changes = vec![StepChange { step: StepName::new(STEP), worker: 0, changelog }];
        let batch = EpochBatch { epoch: self.epoch, changes, handles: Vec::new() };
        let started = Instant::now();
        self.store.commit(batch).expect("the disk takes an epoch");
        started.elapsed()
    }
}

/// The changelog of an epoch that changed `keys`.
fn changelog(keys: &[Keyed]) -> Vec<u8> {
    let mut state = KeyedState::<u64, Value>::new();
    for (key, hash, group) in keys {
        state.upsert(*hash, *group, key, || std::array::from_fn(|index| mixed(*key ^ ((index as u64) << 50))));
    }
    let mut changes = ChangelogWriter::new();
    state.drain_changes(Table(0), &mut changes).expect("numbers can be encoded");
    changes.finish().expect("there are changes")
}

pub(super) fn bench(criterion: &mut Criterion) {
    let all = keys(KEPT);
    let changed = changelog(all.get(..CHANGED as usize).unwrap_or_default());
    let mut group = criterion.benchmark_group("snapshot");
    group.sample_size(10);
    group.throughput(Throughput::Elements(CHANGED));
    group.bench_function("commit 50,000 changed keys", |bencher| {
        let mut kept = Kept::new();
        bencher.iter_custom(|times| {
            (0..times)
                .map(|_| {
                    let took = kept.commit(changed.clone());
                    kept.store.fold_if_due().expect("the disk takes a fold");
                    took
                })
                .sum()
        });
    });
    group.throughput(Throughput::Elements(CHANGED * FOLDED));
    group.bench_function("fold 8 epochs of 50,000 keys", |bencher| {
        let mut kept = Kept::new();
        bencher.iter_custom(|times| {
            let mut took = Duration::ZERO;
            for _ in 0..times {
                // The newest is not folded.
                (0..=FOLDED).for_each(|_| _ = kept.commit(changed.clone()));
                let started = Instant::now();
                kept.store.fold_all().expect("the disk takes a fold");
                took += started.elapsed();
            }
            took
        });
    });
    group.throughput(Throughput::Elements(KEPT));
    let mut kept = Kept::new();
    all.chunks(CHANGED as usize).for_each(|some| _ = kept.commit(changelog(some)));
    kept.store.fold_all().expect("the disk takes a fold");
    group.bench_function("restore 500,000 keys", |bencher| bencher.iter(|| restore(&kept.store)));
    group.finish();
}

/// Reads everything back into a map, as a keyed step does.
fn restore(store: &Store) -> usize {
    let (mut state, mut scratch) = (KeyedState::<u64, Value>::new(), Vec::new());
    let mut visit = |group, _table, key: &[u8], value: &[u8]| {
        state.restore(group, |key| stable_hash(key, &mut scratch), key, value)
    };
    store.restore(&StepName::new(STEP), 0..GROUPS, &mut visit).expect("what was committed can be read");
    black_box(state).len()
}
