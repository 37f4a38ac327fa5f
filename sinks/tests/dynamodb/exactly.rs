//! In effect exactly once: whatever crashes, replays and late processes do, the table ends up as the reference has it.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use shardflow::sink::{Sink, SinkWriter, at_least_once};

use crate::stand::{Item, Stand, flush, item, n, number, s, text, writer};
use shardflow_stand_ins::fault_proxy::{Fault, Plan};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Total {
    id: String,
    total: u64,
    /// How many uses it counts.
    records: u64,
    /// How often it was written since the state began, which depends on how epochs are cut.
    revision: u64,
}

/// What the job keeps: totals, and how far it has read.
#[derive(Debug, Clone, Default)]
struct State {
    read: usize,
    totals: BTreeMap<String, Total>,
}

impl State {
    /// Reads some uses; gives the totals that changed.
    fn read(&mut self, uses: &[(String, u64)], count: usize) -> Vec<Total> {
        let mut changed: BTreeMap<&String, ()> = BTreeMap::new();
        for (id, quantity) in uses.iter().skip(self.read).take(count) {
            let empty = || Total { id: id.clone(), total: 0, records: 0, revision: 0 };
            let total = self.totals.entry(id.clone()).or_insert_with(empty);
            (total.total, total.records) = (total.total + quantity, total.records + 1);
            changed.insert(id, ());
        }
        self.read = (self.read + count).min(uses.len());
        let mut written = Vec::new();
        for id in changed.into_keys() {
            let total = self.totals.get_mut(id).unwrap();
            total.revision += 1;
            written.push(total.clone());
        }
        written
    }
}

fn stage(writer: &mut dyn SinkWriter<Total>, totals: &[Total]) {
    totals.iter().for_each(|total| writer.stage(total).unwrap());
}

/// A process that was declared dead, with what it would still write.
struct Zombie {
    writer: Box<dyn SinkWriter<Total>>,
    state: State,
}

/// A job that is stopped at any point, over and over, and whose stopped processes wake up late. `seen` looks at the table
/// after each epoch.
fn run(stand: &Stand, sink: &dyn Sink<Total>, rng: &mut StdRng, uses: &[(String, u64)], mut seen: impl FnMut()) {
    let (mut committed, mut incarnation) = (State::default(), 0);
    let mut zombies: Vec<Zombie> = Vec::new();
    while committed.read < uses.len() {
        incarnation += 1;
        let mut state = committed.clone();
        let mut writer = writer(sink, &stand.runtime, incarnation);
        let (mut crashed, starts) = (false, incarnation);
        while !crashed && committed.read < uses.len() {
            let changed = state.read(uses, rng.random_range(1..40));
            stage(&mut *writer, &changed);
            // The start after a dozen goes through.
            match if starts > 12 { 9 } else { rng.random_range(0..10) } {
                // Before anything was prepared; what is on its way may still arrive.
                0 => crashed = true,
                // Written, and then the epoch is not committed.
                1 => {
                    flush(&mut *writer).unwrap();
                    crashed = true;
                }
                // As before, and the process lives on.
                2 | 3 => {
                    zombies.push(Zombie { writer, state: state.clone() });
                    break;
                }
                _ => {
                    flush(&mut *writer).unwrap();
                    committed = state.clone();
                }
            }
            if let Some(zombie) = zombies.pop_if(|_| rng.random_bool(0.3)) {
                wake(zombie, rng, uses);
            }
            seen();
        }
    }
    for zombie in zombies {
        wake(zombie, rng, uses);
        seen();
    }
}

/// A late process goes on where it was, in its own cuts, as if nobody had taken its place.
fn wake(Zombie { mut writer, mut state }: Zombie, rng: &mut StdRng, uses: &[(String, u64)]) {
    for _ in 0..rng.random_range(1..3) {
        let changed = state.read(uses, rng.random_range(1..60));
        stage(&mut *writer, &changed);
        flush(&mut *writer).unwrap();
    }
}

/// Uses of a few accounts, of which the first are hot.
fn uses(rng: &mut StdRng, count: usize) -> Vec<(String, u64)> {
    let account = |rng: &mut StdRng| rng.random_range(0_u32..12).min(rng.random_range(0..12));
    (0..count).map(|_| (format!("account-{}", account(rng)), rng.random_range(1..1_000))).collect()
}

/// The totals by no sink at all.
fn reference(uses: &[(String, u64)]) -> BTreeMap<String, (u64, u64)> {
    let mut totals = BTreeMap::new();
    for (id, quantity) in uses {
        let (total, records) = totals.entry(id.clone()).or_insert((0, 0));
        (*total, *records) = (*total + quantity, *records + 1);
    }
    totals
}

fn in_table(items: &[Item]) -> BTreeMap<String, (u64, u64)> {
    items.iter().map(|item| (text(item, "id").to_owned(), (number(item, "total"), number(item, "records")))).collect()
}

/// The seed in `SHARDFLOW_SINK_SEED`, to repeat a run; otherwise a new one.
fn seeded(round: u64) -> StdRng {
    let given = std::env::var("SHARDFLOW_SINK_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seed = given.unwrap_or_else(|| rand::random::<u64>().wrapping_add(round));
    eprintln!("SHARDFLOW_SINK_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

#[test]
fn with_versions_of_the_data_the_table_is_exact_and_no_item_ever_goes_back() {
    Stand::each(|stand| {
        for round in 0..3 {
            let mut rng = seeded(round);
            let (uses, table) = (uses(&mut rng, 600), stand.table());
            let to = stand.to(&table, None).newest_by("version", |total: &Total| total.records);
            let mut last: BTreeMap<String, (u64, u64)> = BTreeMap::new();
            let sink = at_least_once(to).batch_records(5);
            run(stand, &sink, &mut rng, &uses, || {
                let now = in_table(&stand.scan(&table));
                for (id, (total, records)) in &last {
                    let (later, more) = now[id];
                    assert!(more >= *records && later >= *total, "{id} went back from {records} to {more}");
                }
                last = now;
            });
            assert_eq!(in_table(&stand.scan(&table)), reference(&uses));
        }
    });
}

#[test]
fn where_later_starts_win_the_table_is_exact_though_versions_depend_on_the_cuts() {
    Stand::each(|stand| {
        for round in 0..3 {
            let mut rng = seeded(round);
            let (uses, table) = (uses(&mut rng, 600), stand.table());
            let to = stand.to(&table, None).newest_by("version", |total: &Total| total.revision).later_starts_win();
            run(stand, &at_least_once(to).concurrency(8), &mut rng, &uses, || {});
            assert_eq!(in_table(&stand.scan(&table)), reference(&uses));
        }
    });
}

#[test]
fn with_the_engines_versions_the_table_is_exact() {
    Stand::each(|stand| {
        for round in 0..3 {
            let mut rng = seeded(round);
            let (uses, table) = (uses(&mut rng, 600), stand.table());
            let to = stand.to(&table, None).newest::<Total>("version");
            run(stand, &at_least_once(to).concurrency(8).batch_records(7), &mut rng, &uses, || {});
            assert_eq!(in_table(&stand.scan(&table)), reference(&uses));
        }
    });
}

#[test]
fn it_is_exact_through_faults_too() {
    Stand::each(|stand| {
        let mut rng = seeded(7);
        let (uses, table, proxy) = (uses(&mut rng, 400), stand.table(), stand.proxy());
        let faults = [
            (Fault::ResetAfter, 0.04),
            (Fault::ResetBefore, 0.02),
            (Fault::Error500, 0.02),
            (Fault::Throttle, 0.02),
            (Fault::Truncated, 0.02),
        ];
        proxy.inject(Plan::random(Plan::seed(), &faults).only(&["PutItem"]).rule());
        let to = stand.to(&table, Some(&proxy)).newest_by("version", |total: &Total| total.records);
        run(stand, &at_least_once(to), &mut rng, &uses, || {});
        assert_eq!(in_table(&stand.scan(&table)), reference(&uses));
        assert!(proxy.seen().faults() > 5, "{}", proxy.seen());
    });
}

fn total(records: u64, revision: u64) -> Total {
    Total { id: "a".to_owned(), total: records * 10, records, revision }
}

#[test]
fn a_late_process_never_wins_whichever_version_guards() {
    Stand::each(|stand| {
        // Of the data: the older state is the one that counts less. Of the start: the older one is that of the earlier start,
        // whatever its revision.
        let table = stand.table();
        let by_data = at_least_once(stand.to(&table, None).newest_by("version", |total: &Total| total.records));
        let other = stand.table();
        let by_start = stand.to(&other, None).newest_by("version", |total: &Total| total.revision).later_starts_win();
        let by_start = at_least_once(by_start);
        for (sink, table, late) in
            [(&by_data as &dyn Sink<Total>, &table, total(8, 8)), (&by_start, &other, total(8, 99))]
        {
            let mut zombie = writer(sink, &stand.runtime, 1);
            let mut living = writer(sink, &stand.runtime, 2);
            stage(&mut *living, &[total(9, 2)]);
            flush(&mut *living).unwrap();
            stage(&mut *zombie, std::slice::from_ref(&late));
            flush(&mut *zombie).unwrap();
            assert_eq!(in_table(&stand.scan(table))["a"], (90, 9));
        }
        let stored = &stand.scan(&other)[0]["version"];
        assert_eq!(stored, &s("00000000000000000002-00000000000000000002"));
        assert_eq!(
            stand.scan(&table)[0],
            item([("id", s("a")), ("total", n(90)), ("records", n(9)), ("revision", n(2)), ("version", n(9))])
        );
    });
}
