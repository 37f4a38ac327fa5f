//! One value a key: found, changed, and written down at the end of an epoch.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput};
use shardflow::exchange::{KeyGroups, stable_hash};
use shardflow::state::{ChangelogWriter, KeyedState, Table};
use shardflow::vocabulary::KeyGroup;

use super::shuffled;

/// More than the caches hold.
const KEYS: u64 = 1_000_000;
/// Look-ups at a time.
const BATCH: u64 = 4_096;
/// Changed keys of an epoch.
const CHANGED: u64 = 50_000;

/// A key with its hash and its group.
pub(super) type Keyed = (u64, u64, KeyGroup);

/// Keys below `count`.
pub(super) fn keys(count: u64) -> Vec<Keyed> {
    let groups = KeyGroups::new(256).expect("256 groups are valid");
    let mut scratch = Vec::new();
    let place = |key| {
        let hash = stable_hash(&key, &mut scratch);
        (key, hash, groups.group_of(hash))
    };
    (0..count).map(place).collect()
}

fn filled(keys: &[Keyed]) -> KeyedState<u64, u64> {
    let mut state = KeyedState::new();
    for (key, hash, group) in keys {
        state.upsert(*hash, *group, key, || 1);
    }
    state
}

pub(super) fn bench(criterion: &mut Criterion) {
    let all = keys(KEYS);
    let mut state = filled(&all);
    // Drained, so that what follows is the state of a job that has committed.
    state.drain_changes(Table(0), &mut ChangelogWriter::new()).expect("numbers can be encoded");
    let mut picked = shuffled(&all, BATCH as usize);

    let mut group = criterion.benchmark_group("keyed state");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("get, 1 M keys", |bencher| {
        let next = || picked.next().unwrap_or_default();
        let get = |keys: Vec<Keyed>| keys.iter().filter_map(|(key, hash, _)| state.get(*hash, key)).sum::<u64>();
        bencher.iter_batched(next, get, BatchSize::SmallInput);
    });
    group.bench_function("put, 1 M keys", |bencher| {
        let next = || picked.next().unwrap_or_default();
        let put = |keys: Vec<Keyed>| {
            for (key, hash, group) in &keys {
                let value = state.upsert(*hash, *group, key, || 0);
                *value = value.wrapping_add(1);
            }
        };
        bencher.iter_batched(next, put, BatchSize::SmallInput);
    });
    group.bench_function("put, new keys", |bencher| {
        let few = all.get(..BATCH as usize).unwrap_or_default();
        bencher.iter_batched(|| (), |()| filled(few), BatchSize::SmallInput);
    });
    group.finish();
    changelog(criterion, all.get(..CHANGED as usize).unwrap_or_default());
}

fn changelog(criterion: &mut Criterion, keys: &[Keyed]) {
    let mut state = filled(keys);
    let mut group = criterion.benchmark_group("changelog");
    group.throughput(Throughput::Elements(CHANGED));
    group.bench_function("encode 50,000 counts", |bencher| {
        bencher.iter_custom(|times| {
            let mut took = Duration::ZERO;
            for _ in 0..times {
                for (key, hash, group) in keys {
                    *state.upsert(*hash, *group, key, || 0) ^= 1 << 20;
                }
                let started = Instant::now();
                let mut changes = ChangelogWriter::new();
                state.drain_changes(Table(0), &mut changes).expect("numbers can be encoded");
                black_box(changes.finish());
                took += started.elapsed();
            }
            took
        });
    });
    group.finish();
}
