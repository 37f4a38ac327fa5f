//! A key becomes a worker: its stable hash, its key group, who owns that.

use criterion::{Criterion, Throughput};
use serde::Serialize;
use shardflow::exchange::{KeyGroups, stable_hash};
use shardflow_examples::metering::types::Key;

use super::mixed;

const KEYS: u64 = 8_192;

fn route<K: Serialize>(keys: &[K], groups: KeyGroups, scratch: &mut Vec<u8>) -> usize {
    keys.iter().map(|key| groups.worker_of(groups.group_of(stable_hash(key, scratch)), 2)).sum()
}

pub(super) fn bench(criterion: &mut Criterion) {
    let groups = KeyGroups::new(256).expect("256 groups are valid");
    let accounts: Vec<Key> =
        (0..KEYS).map(|number| (format!("acct-{:04}", mixed(number) % 1_000).into(), "cpu-seconds".into())).collect();
    let numbers: Vec<u64> = (0..KEYS).map(mixed).collect();
    let mut scratch = Vec::new();
    let mut group = criterion.benchmark_group("route");
    group.throughput(Throughput::Elements(KEYS));
    group.bench_function("account and meter", |bencher| bencher.iter(|| route(&accounts, groups, &mut scratch)));
    group.bench_function("integer", |bencher| bencher.iter(|| route(&numbers, groups, &mut scratch)));
    group.finish();
}
