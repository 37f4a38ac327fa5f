//! Ids that were seen: looked up 32 at a time, as a dedupe step does.

use criterion::{BatchSize, Criterion, Throughput};
use shardflow::exchange::KeyGroups;
use shardflow::state::seen::Fingerprints;
use shardflow::state::{ChangelogWriter, Seen, SeenIds, Table};
use shardflow::vocabulary::KeyGroup;
use shardflow::{Epoch, EventTime, hours};

use super::{mixed, shuffled};

const IDS: u64 = 1_000_000;
const BATCH: u64 = 4_096;
/// How many look-ups are started before the first is used.
const LOOK_AHEAD: usize = 32;
const NOON: EventTime = EventTime::from_millis(43_200_000);

fn ids(count: u64) -> Vec<(KeyGroup, u128)> {
    let groups = KeyGroups::new(256).expect("256 groups are valid");
    let fingerprints = Fingerprints::new(&[7; 16]);
    let id = |number: u64| (groups.group_of(mixed(number)), fingerprints.of(b"account", &number.to_le_bytes()));
    (0..count).map(id).collect()
}

/// How many of `ids` are new.
fn check(seen: &mut SeenIds, ids: &[(KeyGroup, u128)]) -> usize {
    let mut first = 0;
    for some in ids.chunks(LOOK_AHEAD) {
        some.iter().for_each(|(group, fingerprint)| seen.prefetch(*group, *fingerprint));
        for (group, fingerprint) in some {
            let answer = seen.check_and_insert(*group, *fingerprint, NOON, EventTime::MIN);
            first += usize::from(answer == Seen::First);
        }
    }
    first
}

pub(super) fn bench(criterion: &mut Criterion) {
    let all = ids(IDS);
    let mut seen = SeenIds::new(hours(24));
    check(&mut seen, &all);
    seen.drain_changes(Epoch::new(1), 0, Table(0), &mut ChangelogWriter::new());
    let mut picked = shuffled(&all, BATCH as usize);
    let few = all.get(..BATCH as usize).unwrap_or_default();

    let mut group = criterion.benchmark_group("seen ids");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("duplicates, 1 M ids", |bencher| {
        let next = || picked.next().unwrap_or_default();
        bencher.iter_batched(next, |ids| check(&mut seen, &ids), BatchSize::SmallInput);
    });
    group.bench_function("new ids", |bencher| {
        bencher.iter_batched(
            || SeenIds::new(hours(24)),
            |mut seen| {
                check(&mut seen, few);
                seen
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}
