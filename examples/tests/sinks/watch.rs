//! The program `watch`, which prints totals and hands them to its own thread, killed at named points and after so many lines.
//!
//! Neither can take anything back, so after a crash there may be repeats: of what was committed and not yet acknowledged when the
//! process died, all of it, before anything new, and of nothing else.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use shardflow_stand_ins::kill::{KilledAt, killed_at, kills};

use crate::programs::Program;

const RECORDS: u64 = 60_000;

/// Where starts die that have not yet shown what they have committed.
const NOTHING_SHOWN: [KilledAt; 3] = [
    killed_at("commit::before-durable", &[1]),
    killed_at("commit::after-durable", &[1]),
    killed_at("recover::before-sinks", &[1]),
];

/// Where starts die, and whether the next one may repeat what this one has shown last.
const SHOWN: [(KilledAt, bool); 8] = [
    (killed_at("commit::after-visible", &[1]), true),
    (killed_at("recover::after-sink", &[3]), true),
    (killed_at("recover::after-acknowledge", &[1]), false),
    (killed_at("commit::after-acknowledge", &[1]), false),
    (killed_at("commit::after-sink", &[2]), true),
    (killed_at("commit::after-visible", &[1]), true),
    (killed_at("commit::before-flush", &[1]), false),
    (killed_at("commit::before-close", &[1]), false),
];

fn use_of(n: u64) -> (String, u64, u64) {
    (format!("a{}", n * n % 11), 1_767_225_600_000 + n * 300, n % 50)
}

fn program() -> Program {
    // Long lines: there are several epochs of them.
    let note = "n".repeat(300);
    let line = |(account, at, units)| format!(r#"{{"account":"{account}","at":{at},"units":{units},"note":"{note}"}}"#);
    Program::new(env!("CARGO_BIN_EXE_watch")).lines((0..RECORDS).map(use_of).map(line))
}

/// What each account has used in each minute.
fn totals() -> BTreeMap<(u64, String), u64> {
    let mut totals = BTreeMap::new();
    for (account, at, units) in (0..RECORDS).map(use_of) {
        *totals.entry((at / 60_000 * 60_000, account)).or_default() += units;
    }
    totals
}

/// What one start has shown: the lines that it has printed, and what its thread has said. Half a line is none.
struct Shown {
    printed: Vec<String>,
    said: Vec<String>,
}

impl Shown {
    fn of(printed: &[u8], said: &[u8]) -> Self {
        let lines = |bytes: &[u8]| -> Vec<String> {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            whole.lines().map(str::to_owned).collect()
        };
        let said = lines(said).into_iter().filter(|line| line.contains(" leads with ")).collect();
        Self { printed: lines(printed), said }
    }

    /// What the thread says of the totals that are printed. It gets them in the same order, after they are printed.
    fn leads(&self) -> Vec<String> {
        let mut most = BTreeMap::new();
        let mut leads = Vec::new();
        for (minute, account, units) in self.printed.iter().map(|line| total(line)) {
            let leader = most.entry(minute).or_insert(0);
            if units > *leader {
                *leader = units;
                leads.push(format!("minute {minute}: {account} leads with {units}"));
            }
        }
        leads
    }
}

fn total(line: &str) -> (u64, String, u64) {
    let row: Value = serde_json::from_str(line).unwrap();
    let number = |field: &str| row[field].as_u64().unwrap();
    (number("minute"), row["account"].as_str().unwrap().to_owned(), number("units"))
}

/// What all starts have shown so far: each line, in the order in which it came first.
#[derive(Default)]
struct Seen {
    lines: Vec<String>,
    places: HashMap<String, usize>,
}

impl Seen {
    /// Adds what a start has shown. Gives how many of its lines were repeats.
    fn add(&mut self, shown: &Shown) -> usize {
        assert!(shown.leads().starts_with(&shown.said), "the thread got what was not committed: {:?}", shown.said);
        let known = |line: &String| self.places.get(line).copied();
        let repeats: Vec<usize> = shown.printed.iter().map_while(known).collect();
        let new = &shown.printed[repeats.len()..];
        for pair in repeats.windows(2) {
            assert_eq!(pair[1], pair[0] + 1, "repeats come in their order");
        }
        if let (Some(last), false) = (repeats.last(), new.is_empty()) {
            assert_eq!(*last, self.lines.len() - 1, "what is repeated is what was shown last, all of it");
        }
        for line in new {
            assert!(self.places.insert(line.clone(), self.lines.len()).is_none(), "{line} comes again behind new ones");
            self.lines.push(line.clone());
        }
        repeats.len()
    }

    /// Every total was shown.
    fn hold(&self) {
        let found: Vec<((u64, String), u64)> = self
            .lines
            .iter()
            .map(|line| total(line))
            .map(|(minute, account, units)| ((minute, account), units))
            .collect();
        assert_eq!(found.len(), totals().len());
        assert_eq!(BTreeMap::from_iter(found), totals());
    }
}

/// A start that comes to its end.
fn ends(program: &Program) -> Shown {
    let ended = program.start("");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let shown = Shown::of(&ended.stdout, &ended.stderr);
    assert_eq!(shown.said, shown.leads(), "the thread gets all of it");
    shown
}

#[test]
fn what_is_shown_again_after_a_kill_is_what_was_shown_and_not_acknowledged() {
    let (program, mut seen) = (program(), Seen::default());
    let mut add = |kill, printed: &[u8], said: &[u8]| -> (usize, usize) {
        let shown = Shown::of(printed, said);
        let repeats = seen.add(&shown);
        println!("{kill}: {} lines, {repeats} of them repeats", shown.printed.len());
        (shown.printed.len(), repeats)
    };
    for kill in kills(&NOTHING_SHOWN) {
        let died = program.dies_at(kill);
        assert_eq!(add(kill.to_string(), &died.stdout, &died.stderr).0, 0, "shown before it was committed");
    }
    let (mut may_repeat, mut all) = (false, 0);
    for (point, next_may_repeat) in SHOWN {
        for kill in point.each() {
            let died = program.dies_at(kill);
            let (_, repeats) = add(kill.to_string(), &died.stdout, &died.stderr);
            assert!(repeats == 0 || may_repeat, "{kill}: what was acknowledged is shown again");
            all += repeats;
        }
        may_repeat = next_may_repeat;
    }
    assert!(all > 0, "nothing was repeated: no start died between showing and acknowledging");
    let last = ends(&program);
    assert_eq!(last.printed, [""; 0], "a job that has closed has nothing left to show");
    seen.hold();
}

/// The thread has all totals from the start after a kill before the first acknowledgement.
#[test]
fn what_was_handed_over_and_not_acknowledged_is_handed_over_again() {
    let (program, mut seen) = (program(), Seen::default());
    // Whether an epoch has totals yet is up to the machine.
    for kill in killed_at("commit::after-visible", &[1, 1, 2, 2, 3, 3]).each() {
        let died = program.dies_at(kill);
        seen.add(&Shown::of(&died.stdout, &died.stderr));
        if !seen.lines.is_empty() {
            break;
        }
    }
    assert!(!seen.lines.is_empty(), "nothing was shown");
    let shown = ends(&program);
    assert!(seen.add(&shown) > 0);
    assert_eq!(shown.printed, seen.lines);
    seen.hold();
}

#[test]
fn killed_after_any_line_it_shows_every_total_and_repeats_the_last_epoch_alone() {
    let seed = std::env::var("SHARDFLOW_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("SHARDFLOW_SEED={seed}");
    let (mut dice, program, mut seen) = (StdRng::seed_from_u64(seed), program(), Seen::default());
    let mut kills = 0;
    while kills < 12 {
        let said = program.path("said");
        let mut command = program.command("");
        command.stdout(Stdio::piped()).stderr(File::create(&said).unwrap());
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut printed = Vec::new();
        for _ in 0..dice.random_range(0..250) {
            // Where it has ended there is nothing more to read.
            out.read_until(b'\n', &mut printed).unwrap();
        }
        child.kill().unwrap();
        out.read_to_end(&mut printed).unwrap();
        let status = child.wait().unwrap();
        assert!(status.signal() == Some(9) || status.success(), "{status}");
        let repeats = seen.add(&Shown::of(&printed, &std::fs::read(&said).unwrap()));
        println!("{status}: {repeats} repeats, {} lines in all", seen.lines.len());
        if status.success() {
            break;
        }
        kills += 1;
    }
    assert!(kills > 2, "too small an input for this machine: {kills} kills");
    seen.add(&ends(&program));
    seen.hold();
}
