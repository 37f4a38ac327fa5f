//! SIGKILL at every named point of a commit, of a fold and of a start, early and later; then a start with another number of
//! workers that is killed while it recovers; then one that finishes.

use std::fs;

use shardflow_examples::metering::reference::Reference;
use shardflow_stand_ins::kill::{Kill, KilledAt, killed_at, kills};

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
type Point = (KilledAt, Start);

const COMMIT: [Point; 8] = [
    (killed_at("commit::before-flush", &[1, 3]), First),
    (killed_at("commit::after-flush", &[1, 8]), First),
    (killed_at("commit::before-durable", &[1, 3]), First),
    (killed_at("commit::after-durable", &[1, 3]), First),
    (killed_at("commit::after-sink", &[1, 5]), First),
    (killed_at("commit::after-visible", &[1, 3]), First),
    (killed_at("commit::after-acknowledge", &[1, 3]), First),
    (killed_at("commit::before-close", &[1, 3]), First),
];

const STORE: [Point; 8] = [
    (killed_at("store::before-commit", &[1, 3]), First),
    (killed_at("store::after-commit", &[1, 3]), First),
    (killed_at("store::before-marker", &[1, 3]), First),
    (killed_at("store::mid-fold", &[1, 3]), First),
    (killed_at("store::before-fold-end", &[1, 3]), First),
    (killed_at("store::after-fold-end", &[1, 3]), First),
    (killed_at("store::before-steps", &[1]), First),
    (killed_at("store::after-steps", &[1]), First),
];

const OPEN: [Point; 18] = [
    (killed_at("open::before-lock", &[1]), First),
    (killed_at("open::after-claim", &[1]), First),
    (killed_at("open::before-replace", &[1, 2]), First),
    (killed_at("open::before-create", &[1]), First),
    (killed_at("open::after-create", &[1]), First),
    (killed_at("open::before-incarnation", &[1]), First),
    (killed_at("open::after-incarnation", &[1]), First),
    (killed_at("open::after-marker", &[1]), First),
    (killed_at("open::before-lock", &[1]), Committed),
    (killed_at("open::before-replace", &[1]), Committed),
    (killed_at("open::before-incarnation", &[1]), Committed),
    (killed_at("open::after-incarnation", &[1]), Committed),
    (killed_at("open::after-marker", &[1]), Committed),
    (killed_at("recover::before-sources", &[1]), Committed),
    (killed_at("recover::before-sinks", &[1]), Committed),
    (killed_at("recover::after-sink", &[1, 3]), Committed),
    (killed_at("recover::after-sink", &[2]), Staged),
    (killed_at("recover::after-acknowledge", &[1]), Committed),
];

const SINK: [Point; 12] = [
    (killed_at("sink-files::after-stage", &[1, 3000]), First),
    (killed_at("sink-files::before-prepare", &[1, 9]), First),
    (killed_at("sink-files::before-rename", &[1, 5]), First),
    (killed_at("sink-files::between-renames", &[1, 4]), First),
    (killed_at("sink-files::after-rename", &[1, 5]), First),
    (killed_at("sink-files::after-mark", &[1, 5]), First),
    (killed_at("sink-files::before-recovery", &[1, 3]), Committed),
    (killed_at("sink-files::before-rename", &[1, 2]), Committed),
    (killed_at("sink-files::between-renames", &[1, 2]), Committed),
    (killed_at("sink-files::after-rename", &[1, 2]), Committed),
    (killed_at("sink-files::recovery-settled", &[1, 3]), Committed),
    (killed_at("sink-files::after-remove", &[1, 2]), Staged),
];

/// Where the start after the crash dies: once more while recovering, or soon after.
const AGAIN: [KilledAt; 6] = [
    killed_at("recover::after-sink", &[2]),
    killed_at("sink-files::recovery-settled", &[1]),
    killed_at("open::after-incarnation", &[1]),
    killed_at("commit::after-durable", &[1]),
    killed_at("recover::before-sinks", &[1]),
    killed_at("sink-files::before-recovery", &[3]),
];

/// The start that dies when it had committed and not yet published, and the one when it had staged and not yet committed.
const COMMITTED: KilledAt = killed_at("commit::after-durable", &[3]);
const STAGED: KilledAt = killed_at("commit::before-durable", &[3]);

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

    /// A start that dies at a point; it reads no more than 1 MiB an epoch, so that there are several.
    fn dies(&self, workers: usize, kill: Kill) {
        let job = self.place.job(&SEMANTICS, workers).args(["--in-flight-bytes", "1MiB"]);
        job.env("SHARDFLOW_LOG", "warn").die_at_beside(kill, FOLDS);
    }

    fn case(&self, kill: Kill, start: Start, again: Kill) {
        println!("{kill}, then {again}");
        for folder in ["out", "state"] {
            let _ = fs::remove_dir_all(self.place.path(folder));
        }
        let mut books = Books::new(self.reference.clone(), self.place.path("out"));
        let before: &[KilledAt] = match start {
            First => &[],
            Committed => &[COMMITTED],
            Staged => &[STAGED],
        };
        kills(before).for_each(|kill| self.dies(3, kill));
        books.hold_so_far();
        self.dies(2, kill);
        books.hold_so_far();
        self.dies(1, again);
        books.hold_so_far();
        self.place.job(&SEMANTICS, 4).env("SHARDFLOW_LOG", "warn").points(FOLDS).succeed();
        books.hold();
    }

    fn all(&self, points: &[Point]) {
        let mut again = kills(&AGAIN).cycle();
        for (point, start) in points {
            for kill in point.each() {
                // A job that dies when it closes has nothing left to commit.
                let at_end = kill.point() == "commit::before-close";
                let again = again.find(|again| !at_end || !again.point().starts_with("commit")).unwrap();
                self.case(kill, *start, again);
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
