//! Random records, splits, workers and settings: the results are those of the naive computation, however the records
//! fall into epochs and onto workers.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::tempdir;

use crate::support::billing::{Billing, Shape, random_inputs};
use crate::support::reference::expected;
use crate::support::source::Pace;
use crate::support::{job, start_watched};

const SEED: u64 = 4_711;
const CASES: u64 = 40;

pub(crate) fn random_shape(random: &mut StdRng) -> Shape {
    let size = random.random_range(4..200);
    Shape {
        lag: random.random_range(0..120),
        horizon: random.random_range(120..2_000),
        size,
        slide: if random.random() { size } else { random.random_range(1..=size) },
        grace: if random.random() { 0 } else { random.random_range(0..150) },
    }
}

#[test]
fn results_depend_neither_on_workers_nor_on_how_records_fall_into_epochs() {
    let (mut late, mut rows) = (0, 0);
    for seed in SEED..SEED + CASES {
        let mut random = StdRng::seed_from_u64(seed);
        let shape = random_shape(&mut random);
        let (splits, records) = (random.random_range(1..5), random.random_range(20..300));
        let inputs = random_inputs(&mut random, &shape, splits, records);
        let expected = expected(&inputs, &shape);
        (late, rows) = (late + expected.late.len(), rows + expected.rows.len());
        let many = random.random_range(2..5);
        for (workers, aggregated) in [(1, false), (many, false), (many, true)] {
            let pace = Pace::stopped();
            let billing = Billing::new(shape, &pace).aggregated(aggregated);
            billing.push(&inputs);
            billing.source.feed.close();
            let state = tempdir().unwrap();
            // From a batch to everything at once in an epoch.
            let each = random.random_range(1..30);
            let job = job("random", state.path(), workers);
            start_watched(job, move |_commits| pace.grant(each), billing.program()).end().unwrap();
            assert_eq!(
                billing.outcome(),
                expected,
                "seed {seed}, {workers} workers, {each} batches an epoch, aggregated: {aggregated}, {shape:?}"
            );
        }
    }
    assert!(
        late > CASES as usize && rows > 100 * CASES as usize,
        "{late} late records and {rows} results prove nothing"
    );
}
