//! Any file of the state folder cut short, any byte flipped: a clear error, or exactly the last committed epoch.
//!
//! RocksDB is C++, and what it does with damaged bytes could be worse than an error. So the cases run in child processes,
//! and one that aborts or hangs fails the test with the name of the case.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail as tests do")]

mod snapshot_support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use shardflow::{Epoch, ErrorKind};
use snapshot_support::{Contents, Job, contents, files, open, steps};
use tempfile::tempdir;

const SEED: u64 = 20_240_607;
const LAST: u64 = 34;
/// Processes that share the cases.
const CHILDREN: usize = 2;
/// More than enough for a slow machine; a case that hangs fails the test and not the whole run.
const PATIENCE: Duration = Duration::from_secs(540);

#[derive(Debug, Clone, Copy)]
enum Damage {
    Cut(usize),
    Flip(usize, u8),
}

/// A folder with everything in it: a base in several files, changelogs of epochs on both sides of a restart, a log that
/// was not flushed, pending handles.
fn build(dir: &Path) -> BTreeMap<Epoch, Contents> {
    let mut job = Job::new(SEED, 150);
    let mut epochs = 1..=LAST;
    for until in [12, 24, LAST] {
        let (store, _) = open(dir).unwrap();
        store.register_steps(&steps(), false).unwrap();
        for epoch in epochs.by_ref().take_while(|epoch| *epoch <= until) {
            store.commit(job.epoch(epoch)).unwrap();
            store.fold_if_due().unwrap();
            store.acknowledge(Epoch::new(epoch.saturating_sub(2))).unwrap();
            if epoch == until {
                break;
            }
        }
    }
    job.states
}

/// Every length and every byte where that is cheap, a seeded sample elsewhere, and always the first and last bytes.
fn cases(folder: &BTreeMap<String, Vec<u8>>) -> Vec<(String, Damage)> {
    let mut random = StdRng::seed_from_u64(SEED);
    let mut cases = Vec::new();
    for (name, bytes) in folder {
        let all = bytes.len();
        let places = |most: usize, random: &mut StdRng| -> Vec<usize> {
            if all <= most {
                return (0..all).collect();
            }
            let edges = (0..40).chain(all - 40..all);
            edges.chain((0..most - 80).map(|_| random.random_range(0..all))).collect()
        };
        let is_text = name.contains("/LOG") || name.contains("/OPTIONS");
        // A manifest that ends between two of its records looks whole: try every length.
        let cuts = if name.contains("/MANIFEST") {
            4096
        } else if is_text {
            90
        } else {
            200
        };
        let flips = if is_text { 90 } else { 220 };
        cases.extend(places(cuts, &mut random).into_iter().map(|at| (name.clone(), Damage::Cut(at))));
        for at in places(flips, &mut random) {
            cases.push((name.clone(), Damage::Flip(at, random.random_range(1..=255))));
        }
    }
    cases
}

/// The folder with one file damaged. What RocksDB never changes in place is linked, so that a case is cheap.
fn damaged_copy(from: &Path, to: &Path, folder: &BTreeMap<String, Vec<u8>>, name: &str, damage: Damage) {
    fs::create_dir_all(to.join("db")).unwrap();
    for (path, bytes) in folder {
        if path == name {
            let mut bytes = bytes.clone();
            match damage {
                Damage::Cut(length) => bytes.truncate(length),
                Damage::Flip(at, bits) => bytes[at] ^= bits,
            }
            fs::write(to.join(path), bytes).unwrap();
        } else if path.ends_with(".sst") {
            fs::hard_link(from.join(path), to.join(path)).unwrap();
        } else {
            fs::write(to.join(path), bytes).unwrap();
        }
    }
}

/// Opens, restores, folds, restores. `Ok`: the epoch that it reports, and it is that epoch's state.
fn use_it(dir: &Path, states: &BTreeMap<Epoch, Contents>) -> shardflow::Result<Epoch> {
    let (store, recovered) = open(dir)?;
    store.register_steps(&recovered.steps, false)?;
    let epoch = recovered.committed.expect("a folder with committed epochs never looks new");
    assert_eq!(recovered.steps, steps());
    assert_eq!(recovered.handles.len(), 1);
    let state = contents(&store, &recovered.steps)?;
    assert!(state == states[&epoch], "restored something else than epoch {epoch}");
    store.fold_all()?;
    assert!(contents(&store, &recovered.steps)? == states[&epoch], "folded into something else than epoch {epoch}");
    Ok(epoch)
}

#[test]
#[ignore = "run by any_damage_is_an_error_or_the_last_epoch"]
fn damage_child() {
    let (folder, part) =
        (PathBuf::from(std::env::var("DAMAGE_FOLDER").unwrap()), std::env::var("DAMAGE_PART").unwrap());
    let part: usize = part.parse().unwrap();
    // The state is a function of the seed: every child computes it for itself.
    let scratch = tempdir().unwrap();
    let states = build(&scratch.path().join("again"));
    let whole = files(&folder);
    let mut tally = BTreeMap::<String, (usize, usize)>::new();
    for (number, (name, damage)) in cases(&whole).into_iter().enumerate().filter(|(at, _)| at % CHILDREN == part) {
        fs::write(folder.with_extension(format!("case-{part}")), format!("{name} {damage:?}")).unwrap();
        let copy = scratch.path().join(number.to_string());
        damaged_copy(&folder, &copy, &whole, &name, damage);
        let tally = tally.entry(name.clone()).or_default();
        match use_it(&copy, &states) {
            Ok(epoch) => {
                assert_eq!(epoch, Epoch::new(LAST), "{name} {damage:?}: an older epoch was used silently");
                tally.0 += 1;
            }
            Err(error) => {
                tally.1 += 1;
                assert!(matches!(error.kind(), ErrorKind::State | ErrorKind::Store), "{name} {damage:?}: {error:?}");
                accept(&copy, &states, &error.to_string());
            }
        }
        fs::remove_dir_all(&copy).unwrap();
    }
    for (name, (fine, refused)) in tally {
        println!("{name}: {fine} made no difference, {refused} were refused");
    }
}

/// Where the error says how to go on from an older epoch, that works, or is an error again.
fn accept(dir: &Path, states: &BTreeMap<Epoch, Contents>, error: &str) {
    let Some((_, epoch)) = error.split_once("accept-epoch-") else { return };
    let epoch: u64 = epoch.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap();
    fs::write(dir.join(format!("accept-epoch-{epoch}")), "").unwrap();
    if let Ok(used) = use_it(dir, states) {
        assert_eq!(used, Epoch::new(epoch));
    }
}

#[test]
fn any_damage_is_an_error_or_the_last_epoch() {
    let dir = tempdir().unwrap();
    // RocksDB compacts when it likes: a folder with several files of each kind comes out of most attempts, not of all.
    let built = (0..50).map(|attempt| dir.path().join(format!("state-{attempt}"))).find_map(|folder| {
        let states = build(&folder);
        let whole = files(&folder);
        let tables = whole.keys().filter(|name| name.ends_with(".sst")).count();
        let logged = whole.iter().any(|(name, bytes)| name.ends_with(".log") && bytes.len() > 10_000);
        (tables >= 2 && logged).then_some((folder, states))
    });
    let (folder, states) = built.expect("one of fifty folders has two tables and a log");
    assert!(!states[&Epoch::new(LAST)].is_empty());

    let mut children: Vec<Child> = (0..CHILDREN).map(|part| spawn(&folder, part)).collect();
    let deadline = Instant::now() + PATIENCE;
    let (sender, receiver) = std::sync::mpsc::channel();
    for child in &mut children {
        let (mut output, sender) = (child.stdout.take().unwrap(), sender.clone());
        // The pipe closes when the child ends.
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = output.read_to_string(&mut text);
            let _ = sender.send(text);
        });
    }
    for _ in 0..CHILDREN {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(text) => println!("{text}"),
            Err(_) => children.iter_mut().for_each(|child| child.kill().unwrap()),
        }
    }
    for (part, mut child) in children.into_iter().enumerate() {
        let status = child.wait().unwrap();
        let case = fs::read_to_string(folder.with_extension(format!("case-{part}"))).unwrap_or_default();
        assert!(status.success(), "a child ended with {status} in case: {case}");
    }
}

fn spawn(folder: &Path, part: usize) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["damage_child", "--exact", "--ignored", "--nocapture"]);
    command.env("DAMAGE_FOLDER", folder).env("DAMAGE_PART", part.to_string());
    command.stdout(Stdio::piped()).spawn().unwrap()
}
