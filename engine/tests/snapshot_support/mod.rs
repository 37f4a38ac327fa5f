//! What the snapshot tests share: a small job whose state is known at every epoch, and folders to damage.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use shardflow::sink::StagedHandle;
use shardflow::snapshot::{EpochBatch, Identity, Recovered, StepChange, StepInfo, Store, Tuning};
use shardflow::state::{ChangelogReader, ChangelogWriter, KeyedState, SeenIds, Table, WindowState};
use shardflow::vocabulary::{KeyGroup, StepName};
use shardflow::{Epoch, EventTime, Result, Window, millis};

pub(crate) const GROUPS: u16 = 16;

pub(crate) fn identity() -> Identity {
    Identity { job: "metering".into(), key_groups: GROUPS }
}

/// Write buffers so small that a few epochs fill files of every kind.
pub(crate) fn tiny() -> Tuning {
    Tuning {
        write_buffer: 64 << 10,
        fold_least: 40 << 10,
        fold_most: 80 << 10,
        fold_epochs: 8,
        fold_slice: 20 << 10,
        fold_file: 10 << 10,
        ..Tuning::default()
    }
}

pub(crate) fn steps() -> Vec<StepInfo> {
    let step = |name: &str, kind: &str| StepInfo { name: name.into(), kind: kind.into(), version: 1 };
    vec![step("positions", "source"), step("minute-totals", "window"), step("seen-ids", "dedupe")]
}

/// Every live entry: step, group, table, key, value.
pub(crate) type Contents = BTreeMap<(String, u16, u8, Vec<u8>), Vec<u8>>;

/// Everything that the store gives back, in the order in which it came.
pub(crate) fn contents(store: &Store, steps: &[StepInfo]) -> Result<Contents> {
    let mut all = Contents::new();
    for step in steps {
        let mut last = None;
        store.restore(&step.name, 0..GROUPS, &mut |group, table, key, value| {
            let address = (step.name.to_string(), group.number(), table.0, key.to_vec());
            assert!(last.as_ref().is_none_or(|last| last < &address), "entries come in order, each once");
            last = Some(address.clone());
            all.insert(address, value.to_vec());
            Ok(())
        })?;
    }
    Ok(all)
}

pub(crate) fn apply(contents: &mut Contents, batch: &EpochBatch) {
    for change in &batch.changes {
        for entry in ChangelogReader::open(&change.changelog).unwrap() {
            let entry = entry.unwrap();
            let address = (change.step.to_string(), entry.group.number(), entry.table.0, entry.key.to_vec());
            match entry.value {
                Some(value) => _ = contents.insert(address, value.to_vec()),
                None => _ = contents.remove(&address),
            }
        }
    }
}

/// Two workers with real state maps, fed with seeded records; `states` holds what each committed epoch must look like.
pub(crate) struct Job {
    random: StdRng,
    records: usize,
    workers: Vec<Worker>,
    pub(crate) states: BTreeMap<Epoch, Contents>,
    now: Contents,
}

struct Worker {
    positions: KeyedState<String, u64>,
    totals: WindowState<(String, String), (u64, u64)>,
    seen: SeenIds,
}

impl Job {
    /// `records` an epoch.
    pub(crate) fn new(seed: u64, records: usize) -> Self {
        let worker =
            || Worker { positions: KeyedState::new(), totals: WindowState::new(), seen: SeenIds::new(millis(900)) };
        let workers = vec![worker(), worker()];
        Self { random: StdRng::seed_from_u64(seed), records, workers, states: BTreeMap::new(), now: Contents::new() }
    }

    /// The next epoch's batch.
    pub(crate) fn epoch(&mut self, epoch: u64) -> EpochBatch {
        for _ in 0..self.records {
            let (account, id) = (self.random.random_range(0..40_u64), self.random.random::<u64>());
            let at = EventTime::from_millis(epoch * 100 + self.random.random_range(0..200));
            let group = KeyGroup::new((account % u64::from(GROUPS)) as u16);
            let worker = &mut self.workers[usize::from(group.number() >= GROUPS / 2)];
            let start = EventTime::from_millis(at.as_millis() / 300 * 300);
            let window = Window::new(start, start.plus(millis(300)));
            let key = (format!("account-{account}"), "requests".to_owned());
            let total = worker.totals.upsert(window, account, group, &key, || (0, 0));
            *total = (total.0 + id % 100, total.1 + 1);
            *worker.positions.upsert(account, group, &format!("shard-{account}"), || 0) += 1;
            worker.seen.check_and_insert(group, u128::from(id) << 64 | u128::from(account), at, EventTime::MIN);
        }
        let batch = self.drain(epoch);
        apply(&mut self.now, &batch);
        self.states.insert(batch.epoch, self.now.clone());
        batch
    }

    fn drain(&mut self, epoch: u64) -> EpochBatch {
        let mut changes = Vec::new();
        for (number, worker) in (0_u32..).zip(&mut self.workers) {
            worker.totals.fire_through(EventTime::from_millis(epoch * 100), millis(50));
            worker.seen.expire(EventTime::from_millis(epoch * 100));
            let mut logs = [ChangelogWriter::new(), ChangelogWriter::new(), ChangelogWriter::new()];
            worker.positions.drain_changes(Table(0), &mut logs[0]).unwrap();
            worker.totals.drain_changes(Table(3), &mut logs[1]).unwrap();
            worker.seen.drain_changes(Epoch::new(epoch), number, Table(0), &mut logs[2]);
            for (log, step) in logs.into_iter().zip(steps()) {
                changes.extend(log.finish().map(|changelog| StepChange { step: step.name, worker: number, changelog }));
            }
        }
        EpochBatch { epoch: Epoch::new(epoch), changes, handles: vec![handle(epoch)] }
    }
}

pub(crate) fn handle(epoch: u64) -> (StepName, StagedHandle) {
    let staged = StagedHandle { epoch: Epoch::new(epoch), worker: 1, handle: epoch.to_be_bytes().to_vec() };
    ("charges".into(), staged)
}

pub(crate) fn open(dir: &Path) -> Result<(Store, Recovered)> {
    Store::open_with(dir, &identity(), &tiny())
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// All files below a folder with their bytes, by their path inside it.
pub(crate) fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()).into_iter().map(|(path, bytes)| (format!("{name}/{path}"), bytes)));
        } else {
            found.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    found
}
