//! SIGKILL at every named point of a commit, of a fold and of a start, early and later; then a start with another number of
//! workers that is killed while it recovers; then one that finishes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use shardflow_examples::metering::reference::Reference;

use crate::books::Books;
use crate::process::{Place, SEMANTICS};

/// The start that dies at a point.
#[derive(Clone, Copy)]
enum Start {
    First,
    /// One after a start that died when it had committed and not yet published.
    Committed,
    /// One after a start that died when it had staged and not yet committed.
    Staged,
}

use Start::{Committed, First, Staged};

/// A point, the times at which it strikes, and in which start.
type Point = (&'static str, &'static [u64], Start);

const COMMIT: [Point; 8] = [
    ("commit::before-flush", &[1, 3], First),
    ("commit::after-flush", &[1, 8], First),
    ("commit::before-durable", &[1, 3], First),
    ("commit::after-durable", &[1, 3], First),
    ("commit::after-sink", &[1, 5], First),
    ("commit::after-visible", &[1, 3], First),
    ("commit::after-acknowledge", &[1, 3], First),
    ("commit::before-close", &[1, 3], First),
];

const STORE: [Point; 8] = [
    ("store::before-commit", &[1, 3], First),
    ("store::after-commit", &[1, 3], First),
    ("store::before-marker", &[1, 3], First),
    ("store::mid-fold", &[1, 3], First),
    ("store::before-fold-end", &[1, 3], First),
    ("store::after-fold-end", &[1, 3], First),
    ("store::before-steps", &[1], First),
    ("store::after-steps", &[1], First),
];

const OPEN: [Point; 18] = [
    ("open::before-lock", &[1], First),
    ("open::after-claim", &[1], First),
    ("open::before-replace", &[1, 2], First),
    ("open::before-create", &[1], First),
    ("open::after-create", &[1], First),
    ("open::before-incarnation", &[1], First),
    ("open::after-incarnation", &[1], First),
    ("open::after-marker", &[1], First),
    ("open::before-lock", &[1], Committed),
    ("open::before-replace", &[1], Committed),
    ("open::before-incarnation", &[1], Committed),
    ("open::after-incarnation", &[1], Committed),
    ("open::after-marker", &[1], Committed),
    ("recover::before-sources", &[1], Committed),
    ("recover::before-sinks", &[1], Committed),
    ("recover::after-sink", &[1, 3], Committed),
    ("recover::after-sink", &[2], Staged),
    ("recover::after-acknowledge", &[1], Committed),
];

const SINK: [Point; 12] = [
    ("sink-files::after-stage", &[1, 3000], First),
    ("sink-files::before-prepare", &[1, 9], First),
    ("sink-files::before-rename", &[1, 5], First),
    ("sink-files::between-renames", &[1, 4], First),
    ("sink-files::after-rename", &[1, 5], First),
    ("sink-files::after-mark", &[1, 5], First),
    ("sink-files::before-recovery", &[1, 3], Committed),
    ("sink-files::before-rename", &[1, 2], Committed),
    ("sink-files::between-renames", &[1, 2], Committed),
    ("sink-files::after-rename", &[1, 2], Committed),
    ("sink-files::recovery-settled", &[1, 3], Committed),
    ("sink-files::after-remove", &[1, 2], Staged),
];

/// Points that make something happen instead of standing between two steps.
const SWITCHES: [&str; 1] = ["store::fold-at-once"];

/// Where the start after the crash dies: once more while recovering, or soon after.
const AGAIN: [&str; 6] = [
    "recover::after-sink=kill(2)",
    "sink-files::recovery-settled=kill(1)",
    "open::after-incarnation=kill(1)",
    "commit::after-durable=kill(1)",
    "recover::before-sinks=kill(1)",
    "sink-files::before-recovery=kill(3)",
];

/// Folds come after every commit, or a short run would see none.
const FOLDS: &str = "store::fold-at-once=return";

struct Crashes {
    place: Place,
    reference: Reference,
}

impl Crashes {
    fn new(seed: u64) -> Self {
        let place = Place::with_input(120_000, seed);
        let reference = Reference::compute(&place.path("in"), &SEMANTICS).unwrap();
        Self { place, reference }
    }

    /// A start that dies at the points; it reads no more than 1 MiB an epoch, so that there are several.
    fn dies(&self, workers: usize, points: &str) {
        let job = self.place.job(&SEMANTICS, workers).args(["--in-flight-bytes", "1MiB"]);
        job.env("SHARDFLOW_LOG", "warn").points(&format!("{FOLDS};{points}")).die();
    }

    fn case(&self, (point, start): (&str, Start), strike: u64, again: &str) {
        println!("{point} for the {strike}. time, then {again}");
        for folder in ["out", "state"] {
            let _ = fs::remove_dir_all(self.place.path(folder));
        }
        let mut books = Books::new(self.reference.clone(), self.place.path("out"));
        match start {
            First => {}
            Committed => self.dies(3, "commit::after-durable=kill(3)"),
            Staged => self.dies(3, "commit::before-durable=kill(3)"),
        }
        books.hold_so_far();
        self.dies(2, &format!("{point}=kill({strike})"));
        books.hold_so_far();
        self.dies(1, again);
        books.hold_so_far();
        self.place.job(&SEMANTICS, 4).env("SHARDFLOW_LOG", "warn").points(FOLDS).succeed();
        books.hold();
    }

    fn all(&self, points: &[Point]) {
        let mut again = AGAIN.iter().cycle();
        for (point, strikes, start) in points {
            for strike in *strikes {
                // A job that dies when it closes has nothing left to commit.
                let at_end = *point == "commit::before-close";
                let again = again.find(|again| !at_end || !again.starts_with("commit")).unwrap();
                self.case((point, *start), *strike, again);
            }
        }
    }
}

#[test]
fn killed_at_any_point_of_a_commit_it_loses_nothing_and_doubles_nothing() {
    Crashes::new(11).all(&COMMIT);
}

#[test]
fn killed_at_any_point_of_the_store_it_loses_nothing_and_doubles_nothing() {
    Crashes::new(12).all(&STORE);
}

#[test]
fn killed_at_any_point_of_a_start_it_loses_nothing_and_doubles_nothing() {
    Crashes::new(13).all(&OPEN);
}

#[test]
fn killed_at_any_point_of_the_sink_it_loses_nothing_and_doubles_nothing() {
    Crashes::new(14).all(&SINK);
}

/// A point that is added to the code must be added here.
#[test]
fn every_named_point_is_one_at_which_a_test_kills() {
    let killed = [&COMMIT[..], &STORE, &OPEN, &SINK].concat();
    let mut killed: BTreeSet<String> = killed.iter().map(|(point, ..)| (*point).to_owned()).collect();
    killed.extend(SWITCHES.map(str::to_owned));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut named = BTreeSet::new();
    for file in ["engine/src", "sinks/src", "sources/src"].iter().flat_map(|room| sources(&root.join(room))) {
        let text = fs::read_to_string(file).unwrap();
        let points = text.split("fail_point!(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
        named.extend(points);
    }
    // The job writes to files here; other sinks are killed at their points by their own tests.
    let (elsewhere, named): (BTreeSet<String>, BTreeSet<String>) =
        named.into_iter().partition(|point| point.starts_with("sink-") && !point.starts_with("sink-files"));
    let tests: String =
        sources(&root.join("sinks/tests")).iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    for point in elsewhere {
        assert!(tests.contains(&format!("\"{point}\"")), "no test kills at {point}");
    }
    assert_eq!(named, killed);
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    crate::books::tree(folder)
        .into_keys()
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .collect()
}
