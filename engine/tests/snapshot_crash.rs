//! A process that commits in a loop is killed at random, again and again: what a commit returned for is never lost, and
//! what is found is exactly one epoch.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail as tests do")]

mod snapshot_support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use shardflow::Epoch;
use shardflow::snapshot::{EpochBatch, StepChange};
use shardflow::state::{ChangelogWriter, Table};
use shardflow::vocabulary::{Incarnation, KeyGroup, StepName};
use snapshot_support::{Contents, GROUPS, apply, contents, handle, open, steps};
use tempfile::tempdir;

const SEED: u64 = 77;
const KILLS: usize = 25;

/// What epoch `epoch` changes: a function of its number, so that any process can say what state there must be.
fn batch(epoch: u64) -> EpochBatch {
    let mut random = StdRng::seed_from_u64(epoch);
    let mut changes = Vec::new();
    for step in steps() {
        let mut writer = ChangelogWriter::new();
        for _ in 0..random.random_range(0..40) {
            let (group, key) = (KeyGroup::new(random.random_range(0..GROUPS)), [random.random_range(0..30_u8); 8]);
            match random.random_range(0..5) {
                0 => writer.delete(group, Table(1), &key),
                _ => writer.put(group, Table(1), &key, &[random.random(); 50]),
            }
        }
        changes.extend(writer.finish().map(|changelog| StepChange { step: step.name, worker: 0, changelog }));
    }
    EpochBatch { epoch: Epoch::new(epoch), changes, handles: vec![handle(epoch)] }
}

/// Commits until it is killed: opens, restores, folds from a second thread. Prints each epoch when its commit returned.
#[test]
#[ignore = "run by a_killed_process_loses_nothing_that_was_committed"]
fn crash_child() {
    let folder = std::env::var("CRASH_FOLDER").unwrap();
    #[cfg(feature = "failpoints")]
    if let Ok(point) = std::env::var("CRASH_POINT") {
        let after: u64 = std::env::var("CRASH_AFTER").unwrap().parse().unwrap();
        let hits = std::sync::atomic::AtomicU64::new(0);
        let die = move || {
            if hits.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == after {
                std::process::abort();
            }
        };
        fail::cfg_callback(point, die).unwrap();
    }
    let (store, recovered) = open(Path::new(&folder)).unwrap();
    store.register_steps(&steps(), false).unwrap();
    let store = Arc::new(store);
    let folding = Arc::clone(&store);
    std::thread::spawn(move || {
        loop {
            folding.fold_if_due().unwrap();
            std::thread::yield_now();
        }
    });
    let mut epoch = recovered.committed.map_or(0, Epoch::number);
    loop {
        epoch += 1;
        store.commit(batch(epoch)).unwrap();
        // One write a line: a kill leaves no half of a number.
        std::io::stdout().write_all(format!("committed {epoch}\n").as_bytes()).unwrap();
        if epoch > 3 {
            store.acknowledge(Epoch::new(epoch - 3)).unwrap();
        }
    }
}

fn spawn(folder: &Path, settings: &[(&str, String)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["crash_child", "--exact", "--ignored", "--nocapture"]).env("CRASH_FOLDER", folder);
    command.envs(settings.iter().map(|(name, value)| (*name, value.as_str())));
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// The last epoch that the child said was committed. Waits for its end.
fn last_committed(child: &mut Child) -> Option<Epoch> {
    let lines = BufReader::new(child.stdout.take().unwrap()).split(b'\n').map_while(Result::ok);
    let numbers = lines.filter_map(|line| String::from_utf8(line).ok()?.rsplit_once("committed ")?.1.parse().ok());
    let last = numbers.last().map(Epoch::new);
    child.wait().unwrap();
    last
}

/// The model, epoch after epoch.
#[derive(Default)]
struct Model {
    states: BTreeMap<Epoch, Contents>,
}

impl Model {
    fn at(&mut self, epoch: Epoch) -> &Contents {
        let (from, mut now) =
            self.states.last_key_value().map_or((0, Contents::new()), |(e, c)| (e.number(), c.clone()));
        for epoch in from + 1..=epoch.number() {
            apply(&mut now, &batch(epoch));
            self.states.insert(Epoch::new(epoch), now.clone());
        }
        &self.states[&epoch]
    }
}

/// Opens what a killed process left and checks it; gives back the committed epoch and the number of this start.
fn check(folder: &Path, reported: Option<Epoch>, model: &mut Model) -> (Option<Epoch>, Incarnation) {
    let (store, recovered) = open(folder).unwrap();
    store.register_steps(&steps(), false).unwrap();
    assert!(recovered.committed >= reported, "{reported:?} was committed, {:?} was found", recovered.committed);
    let found = contents(&store, &steps()).unwrap();
    let Some(committed) = recovered.committed else {
        assert!(found.is_empty());
        return (None, recovered.incarnation);
    };
    assert!(found == *model.at(committed), "the state is not that of epoch {committed}");
    // Acknowledged up to three epochs before, or one start earlier: what is pending is a run that ends in the last epoch.
    let pending: Vec<u64> =
        recovered.handles[&StepName::new("charges")].iter().map(|handle| handle.epoch.number()).collect();
    assert_eq!(pending, (committed.number() + 1 - pending.len() as u64..=committed.number()).collect::<Vec<_>>());
    assert!(pending.len() <= 5, "{pending:?}");
    (Some(committed), recovered.incarnation)
}

#[test]
fn a_killed_process_loses_nothing_that_was_committed() {
    println!("seed {SEED}");
    let mut random = StdRng::seed_from_u64(SEED);
    let dir = tempdir().unwrap();
    let (mut model, mut last, mut starts) = (Model::default(), (None, Incarnation::default()), 0);
    for _ in 0..KILLS {
        let mut child = spawn(dir.path(), &[]);
        // Short ones hit the start, long ones folds and flushes.
        let life = Duration::from_millis(if random.random_bool(0.3) {
            random.random_range(1..40)
        } else {
            random.random_range(40..250)
        });
        std::thread::sleep(life);
        child.kill().unwrap();
        let reported = last_committed(&mut child).max(last.0);
        let now = check(dir.path(), reported, &mut model);
        assert!(now.0 >= last.0 && now.1 > last.1);
        starts += usize::from(now.0 > last.0);
        last = now;
    }
    println!("{KILLS} kills, {starts} of them after commits, the last epoch is {:?}", last.0);
    assert!(starts >= KILLS / 3, "too few of the processes came as far as a commit");
}

#[cfg(feature = "failpoints")]
#[test]
fn a_process_that_dies_at_a_named_point_loses_nothing_that_was_committed() {
    let dir = tempdir().unwrap();
    let mut model = Model::default();
    let mut last = None;
    for point in ["store::before-commit", "store::after-commit", "store::before-marker", "store::mid-fold"] {
        for after in [0, 1, 7, 20] {
            let settings = [("CRASH_POINT", point.to_owned()), ("CRASH_AFTER", after.to_string())];
            let mut child = spawn(dir.path(), &settings);
            let reported = last_committed(&mut child);
            let (found, _) = check(dir.path(), reported.max(last), &mut model);
            if point == "store::after-commit" || point == "store::before-marker" {
                assert!(found > reported, "it died after the commit and before it could say so");
            }
            last = found;
        }
    }
}
