//! Records find their window's accumulator, and windows that are over are taken out.

use criterion::{BatchSize, Criterion, Throughput};
use shardflow::state::WindowState;
use shardflow::{EventTime, Window, minutes, tumbling};
use shardflow_examples::metering::types::Total;

use super::keyed::{Keyed, keys};
use super::shuffled;

/// Keys of a window.
const KEYS: u64 = 100_000;
const BATCH: u64 = 4_096;

pub(super) fn bench(criterion: &mut Criterion) {
    let (spec, all) = (tumbling(minutes(1)).grace(minutes(0)), keys(KEYS));
    let mut state = WindowState::<u64, Total>::new();
    let add = |state: &mut WindowState<u64, Total>, (key, hash, group): &Keyed, at: u64| {
        for window in spec.assign(EventTime::from_millis(at)) {
            state.upsert(window, *hash, *group, key, Total::default).add_qty(7);
        }
    };
    all.iter().for_each(|key| add(&mut state, key, 0));
    let mut picked = shuffled(&all, BATCH as usize);

    let mut group = criterion.benchmark_group("windows");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("insert, 100,000 keys", |bencher| {
        let next = || picked.next().unwrap_or_default();
        let insert = |keys: Vec<Keyed>| keys.iter().for_each(|key| add(&mut state, key, 30_000));
        bencher.iter_batched(next, insert, BatchSize::SmallInput);
    });
    let few = all.get(..BATCH as usize).unwrap_or_default();
    let window = Window::new(EventTime::MIN, EventTime::from_millis(60_000));
    group.bench_function("fire", |bencher| {
        let filled = || {
            let mut state = WindowState::<u64, Total>::new();
            few.iter().for_each(|key| add(&mut state, key, 0));
            state
        };
        bencher.iter_batched(filled, |mut state| state.fire_through(window.end(), minutes(0)), BatchSize::SmallInput);
    });
    group.finish();
}
