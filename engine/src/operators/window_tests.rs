//! Overlapping windows, as they are kept, against a table for each window: the same results, whatever comes when.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::exchange::KeyGroups;
use crate::state::{ChangelogReader, WindowState};
use crate::vocabulary::{millis, seconds};
use crate::window::aggregate::{count, distinct};
use crate::window::sliding;

const GROUPS: u16 = 6;

/// Ids of records, in the order in which they were added.
struct Ids;

impl Aggregate<u32> for Ids {
    type Acc = Vec<u32>;
    type Out = Vec<u32>;

    fn empty(&self) -> Vec<u32> {
        Vec::new()
    }

    fn add(&self, acc: &mut Vec<u32>, record: &u32) {
        acc.push(*record);
    }

    fn merge(&self, acc: &mut Vec<u32>, other: Vec<u32>) {
        acc.extend(other);
    }

    fn finish(&self, acc: Vec<u32>) -> Vec<u32> {
        acc
    }
}

type Logic = WindowLogic<u8, u32, Vec<u32>, Vec<u32>>;
/// What is stored, by key group, table and key.
type Stored = BTreeMap<(KeyGroup, Table, Vec<u8>), Vec<u8>>;
/// Results by window and key, with the ids in order.
type Rows = Vec<(Window, u8, Vec<u32>)>;

/// A step on some workers, and what the store and the sinks have of it.
#[derive(Clone, Default, PartialEq, Debug)]
struct Committed {
    stored: Stored,
    rows: Rows,
    late: Vec<u32>,
}

/// How the windows of a step are kept.
#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    /// As if they did not overlap: a table for each window.
    Apart,
    /// As those of a fold.
    Folded,
    /// As those of an aggregate.
    InPanes,
}

impl How {
    fn open<K: Key, A: State>(self, spec: WindowSpec, merge: Option<Merge<A>>) -> OpenWindows<K, A> {
        match self {
            Self::Apart => OpenWindows::Apart(WindowState::new(), spec),
            Self::Folded => OpenWindows::new(spec, None),
            Self::InPanes => OpenWindows::new(spec, merge),
        }
    }
}

struct Step {
    spec: WindowSpec,
    how: How,
    groups: KeyGroups,
    workers: Vec<Logic>,
    committed: Committed,
    /// Of the open epoch.
    rows: Rows,
    late: Vec<u32>,
    partly_late: usize,
}

impl Step {
    fn start(spec: WindowSpec, how: How, committed: Committed, workers: usize) -> Self {
        let mut context = JobContext::bare();
        context.workers = workers;
        context.groups = KeyGroups::new(GROUPS).unwrap();
        let (groups, context) = (context.groups, Arc::new(context));
        let build = |worker| {
            let mut fold = Fold::of(Ids);
            let open = how.open(spec, fold.merge.take());
            let share = Share::new(&context, &StepName::new("step"), worker);
            let logic = Logic::restore(share, spec, fold, open, |share, visit| {
                let own = share.groups();
                let mut entries = committed.stored.iter().filter(|((group, ..), _)| own.contains(&group.number()));
                entries.try_for_each(|((group, table, key), value)| visit(*group, *table, key, value))
            });
            logic.unwrap()
        };
        let workers = (0..workers).map(build).collect();
        Self { spec, how, groups, workers, committed, rows: Vec::new(), late: Vec::new(), partly_late: 0 }
    }

    fn take(&mut self, key: u8, event: Event<u32>) {
        let hash = stable_hash(&key, &mut Vec::new());
        let worker = self.groups.worker_of(self.groups.group_of(hash), self.workers.len());
        let late = self.spec.assign(event.at).filter(|window| self.spec.is_late(*window, event.watermark)).count();
        self.partly_late += usize::from(late > 0 && late < self.spec.assign(event.at).count());
        let mut made = Made { out: Vec::new(), side: Vec::new() };
        self.workers[worker].batch(vec![Keyed { hash, key, event }], &mut made).unwrap();
        assert!(made.out.is_empty());
        self.late.extend(made.side.into_iter().map(|event| event.value));
    }

    fn advance(&mut self, worker: usize, watermark: Option<EventTime>) {
        let mut fired = Vec::new();
        self.workers[worker].advance(watermark, &mut fired).unwrap();
        let ends: Vec<EventTime> = fired.iter().map(|(at, _)| *at).collect();
        assert!(ends.is_sorted());
        for event in fired.into_iter().flat_map(|(_, rows)| rows) {
            let WindowResult { key, window, mut value, ids: _ } = event.value;
            value.sort_unstable();
            self.rows.push((window, key, value));
        }
    }

    fn commit(&mut self) {
        for worker in &mut self.workers {
            let mut parts = Vec::new();
            worker.close(Epoch::new(1), &mut parts).unwrap();
            for part in parts {
                let Control::Changes { changelog, .. } = part else { panic!("a window step only hands over changes") };
                for change in ChangelogReader::open(&changelog).unwrap() {
                    let change = change.unwrap();
                    let at = (change.group, change.table, change.key.to_vec());
                    match change.value {
                        Some(value) => _ = self.committed.stored.insert(at, value.to_vec()),
                        None => assert!(self.committed.stored.remove(&at).is_some(), "a delete of what was not there"),
                    }
                }
            }
        }
        self.committed.rows.append(&mut self.rows);
        self.committed.late.append(&mut self.late);
    }

    fn crash(self, workers: usize) -> Self {
        let partly_late = self.partly_late;
        Self { partly_late, ..Self::start(self.spec, self.how, self.committed, workers) }
    }
}

/// A split's records, and how far it has been read, with its watermark there.
#[derive(Debug, Clone)]
struct Split {
    records: Vec<(u8, u64)>,
    position: usize,
    watermark: u64,
    idle: bool,
}

#[derive(Debug, Clone)]
enum Op {
    /// So many records of a split.
    Read(usize, usize),
    /// Some workers hear how far time has come.
    Time(u8),
    /// A split holds time back no more, until something of it is read.
    Idle(usize),
    Commit,
    /// Back to the last commit, with so many workers.
    Crash(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        12 => (0..3_usize, 1..12_usize).prop_map(|(split, count)| Op::Read(split, count)),
        6 => any::<u8>().prop_map(Op::Time),
        1 => (0..3_usize).prop_map(Op::Idle),
        3 => Just(Op::Commit),
        1 => (1..4_usize).prop_map(Op::Crash),
    ];
    proptest::collection::vec(op, 1..80)
}

/// Time goes on by a few milliseconds a record, now and then by more, with some disorder.
fn splits() -> impl Strategy<Value = Vec<Split>> {
    let pace = prop_oneof![10 => 0..4_u64, 1 => 0..60_u64];
    let behind = prop_oneof![3 => Just(0), 2 => 0..8_u64, 1 => 0..80_u64];
    let records = proptest::collection::vec((0..5_u8, pace, behind), 0..120).prop_map(|steps| {
        let mut now = 0;
        let record = |(key, pace, behind): (u8, u64, u64)| {
            now += pace;
            (key, u64::saturating_sub(now, behind))
        };
        Split { records: steps.into_iter().map(record).collect(), position: 0, watermark: 0, idle: false }
    });
    proptest::collection::vec(records, 3)
}

/// What both steps are told: the same, at the same moments.
struct World {
    splits: Vec<Split>,
    lag: u64,
    /// How far time has come.
    reached: u64,
    steps: Vec<Step>,
    committed: Vec<Split>,
}

impl World {
    fn read(&mut self, split: usize, count: usize) {
        for _ in 0..count {
            let number = self.splits[split].position;
            let Some((key, at)) = self.splits[split].records.get(number).copied() else {
                self.splits[split].watermark = u64::MAX;
                return;
            };
            let split_number = split as u32 * 1_000;
            let split = &mut self.splits[split];
            if std::mem::take(&mut split.idle) {
                split.watermark = split.watermark.max(self.reached);
            }
            let (at, watermark) = (EventTime::from_millis(at), EventTime::from_millis(split.watermark));
            for step in &mut self.steps {
                step.take(key, Event { at, watermark, value: split_number + number as u32 });
            }
            split.watermark = split.watermark.max(at.as_millis().saturating_sub(self.lag));
            split.position += 1;
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Read(split, count) => self.read(*split, *count),
            Op::Time(workers) => {
                let active = self.splits.iter().filter(|split| !split.idle).map(|split| split.watermark);
                self.reached = active.min().unwrap_or(0).max(self.reached).min(EventTime::MAX.as_millis());
                for step in &mut self.steps {
                    let hear = (0..step.workers.len()).filter(|worker| workers >> worker & 1 == 1);
                    hear.for_each(|worker| step.advance(worker, Some(EventTime::from_millis(self.reached))));
                }
            }
            Op::Idle(split) => self.splits[*split].idle = true,
            Op::Commit => {
                self.steps.iter_mut().for_each(Step::commit);
                // What is stored of a fold is what a table for each window would store.
                assert_eq!(self.steps[1].committed.stored, self.steps[0].committed.stored);
                self.committed.clone_from(&self.splits);
            }
            Op::Crash(workers) => {
                self.steps = self.steps.drain(..).map(|step| step.crash(*workers)).collect();
                self.splits.clone_from(&self.committed);
                // Nobody remembers what was idle: time may go back.
                self.splits.iter_mut().for_each(|split| split.idle = false);
                self.reached = 0;
            }
        }
    }

    fn end(mut self) -> Vec<Step> {
        (0..3).for_each(|split| self.read(split, usize::MAX));
        for step in &mut self.steps {
            (0..step.workers.len()).for_each(|worker| step.advance(worker, None));
            step.commit();
            step.committed.rows.sort();
            step.committed.late.sort_unstable();
        }
        self.steps
    }
}

type Case = (WindowSpec, u64, Vec<Split>, Vec<Op>, usize);

fn cases() -> impl Strategy<Value = Case> {
    let spec = (2..40_u64, 1..40_u64, prop_oneof![Just(0), 0..40_u64])
        .prop_map(|(size, slide, grace)| sliding(millis(size), millis(slide.min(size - 1))).grace(millis(grace)));
    (spec, 0..10_u64, splits(), ops(), 1..4_usize)
}

#[test]
fn overlapping_windows_count_what_each_window_counts_by_itself() {
    let (partly_late, rows) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(ProptestConfig { cases: 512, ..ProptestConfig::default() });
    let outcome = runner.run(&cases(), |(spec, lag, splits, ops, workers)| {
        let hows = [How::Apart, How::Folded, How::InPanes];
        let steps = hows.map(|how| Step::start(spec, how, Committed::default(), workers));
        let committed = splits.clone();
        let mut world = World { splits, lag, reached: 0, steps: steps.into(), committed };
        ops.iter().for_each(|op| world.apply(op));
        let ended = world.end();
        for step in &ended[1..] {
            prop_assert_eq!(&step.committed.late, &ended[0].committed.late, "{:?}", step.how);
            prop_assert_eq!(&step.committed.rows, &ended[0].committed.rows, "{:?}", step.how);
            // Nothing is left but up to where windows have closed, and that is the same.
            prop_assert_eq!(&step.committed.stored, &ended[0].committed.stored, "{:?}", step.how);
        }
        prop_assert!(ended[0].committed.stored.keys().all(|(_, table, _)| *table == CLOSED));
        partly_late.set(partly_late.get() + ended[0].partly_late);
        rows.set(rows.get() + ended[0].committed.rows.len());
        Ok(())
    });
    outcome.unwrap();
    let (partly_late, rows) = (partly_late.get(), rows.get());
    assert!(partly_late > 512 && rows > 512 * 100, "{partly_late} records and {rows} results prove nothing");
}

/// Counts a step's records in wall time: 12 windows at once over 10,000 strings as keys.
fn measure<G: Aggregate<u64, Out = u64>>(of: &str, aggregate: G, how: How, count: u64, a_second: u64) {
    const BATCH: u64 = 1_000;
    let spec = sliding(seconds(60), seconds(5)).grace(seconds(0));
    let keys = (0..10_000).map(|key| format!("account-{key:05}"));
    let keys: Vec<_> = keys.map(|key| (stable_hash(&key, &mut Vec::new()), key)).collect();
    let mut fold = Fold::of(aggregate);
    let open = how.open(spec, fold.merge.take());
    let share = Share::new(&Arc::new(JobContext::bare()), &StepName::new("step"), 0);
    let mut logic = WindowLogic::<String, u64, G::Acc, u64>::restore(share, spec, fold, open, |_, _| Ok(())).unwrap();
    let time = |number: u64| EventTime::from_millis(3_600_000 + number * 1_000 / a_second);
    let ([mut adding, mut firing, mut closing], mut rows) = ([Duration::ZERO; 3], 0);
    for first in (0..count).step_by(BATCH as usize) {
        let records = (first..first + BATCH).map(|number| {
            let (hash, key) = &keys[(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % keys.len()];
            let event = Event { at: time(number), watermark: time(first), value: number };
            Keyed { hash: *hash, key: key.clone(), event }
        });
        let records = records.collect();
        let begun = Instant::now();
        logic.batch(records, &mut Made { out: Vec::new(), side: Vec::new() }).unwrap();
        adding += begun.elapsed();
        let (begun, mut fired) = (Instant::now(), Vec::new());
        logic.advance(Some(time(first)), &mut fired).unwrap();
        rows += fired.into_iter().map(|(_, rows)| rows.len()).sum::<usize>();
        firing += begun.elapsed();
        if first % 1_000_000 == 0 {
            let begun = Instant::now();
            logic.close(Epoch::new(1), &mut Vec::new()).unwrap();
            closing += begun.elapsed();
        }
    }
    let rate = count as f64 / (adding + firing + closing).as_secs_f64() / 1e6;
    let [adding, firing, closing] = [adding, firing, closing].map(|spent| spent.as_millis());
    println!(
        "{of}, {how:?}, {a_second} records a second of event time: {rate:.2} M records/s, {rows} rows; \
         adding {adding} ms, firing {firing} ms, closing epochs {closing} ms"
    );
}

/// Run with `cargo test --release --workspace --lib sliding_records_a_second -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn sliding_records_a_second() {
    for (how, records) in [(How::InPanes, 20_000_000), (How::Folded, 8_000_000), (How::Apart, 4_000_000)] {
        measure("count", count(), how, records, 200_000);
        measure("count", count(), how, records, 20_000);
        measure("distinct", distinct(|number: &u64| *number), how, records / 4, 100_000);
    }
}
