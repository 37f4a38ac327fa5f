//! Rows over records made in memory.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use super::{Bench, Heading, OURS_1, OURS_2, row};
use crate::limits::names::{PLAIN_1, PLAIN_2, TIMELY_1, TIMELY_2};
use crate::made::records::Spec;
use crate::made::run::{By, Work};
use crate::results::{Entry, Group};
use crate::throughput::{Contest, Entrant, Timed};

const MINUTELY: &str = "Count and sum by key over tumbling minutes of event time.";
const OVERLAPPING: &str = "Count and sum by account over windows of 60 s every 5 s, 1,000 accounts.";
const COUNTING: &str = "A running count by integer key, a result for each record, keys met uniformly.";

/// The engine on two workers, and on one.
const OURS: [(&str, usize); 2] = [(OURS_2, 2), (OURS_1, 1)];

/// Work over made records, for all programs of a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene {
    pub(super) work: Work,
    pub(super) spec: Spec,
}

impl Scene {
    /// `records` of `work` over `keys`, met uniformly; fewer records in a quick run.
    pub(super) fn new(bench: &Bench, work: Work, records: u64, keys: u32) -> Self {
        Self { work, spec: Spec { records: bench.effort.records(records), keys, skew: None } }
    }

    /// A program on this scene, with flags for the engine.
    pub(super) fn entrant(&self, bench: &Bench, name: &str, by: By, workers: usize, flags: &[&str]) -> Entrant {
        let Self { work, spec: Spec { records, keys, skew } } = *self;
        let program = bench.programs.bench.clone();
        let mut arguments = vec!["made".to_owned(), value(work), "--by".to_owned(), value(by)];
        let numbers = [("records", records), ("keys", keys.into()), ("workers", workers as u64)];
        arguments.extend(numbers.map(|(flag, number)| format!("--{flag}={number}")));
        arguments.extend(skew.map(|exponent| format!("--skew={exponent}")));
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let command = move |dir: &Path| {
            let mut command = Command::new(&program);
            command.args(&arguments).arg("--told").arg(dir.join("told.json")).arg("--state").arg(dir.join("state"));
            command
        };
        Entrant { name: name.to_owned(), command: Box::new(command) }
    }

    pub(super) fn contest(&self, title: &str, runs: usize, entrants: Vec<Entrant>) -> Contest {
        Contest { title: title.to_owned(), records: self.spec.records, runs, timed: Timed::ByItself, entrants }
    }

    /// The engine and all limits in turns. On two workers beside all limits; where `ours` has one too, a row on one worker
    /// beside those that have one.
    fn rows(&self, bench: &Bench, ours: &[(&str, usize)], heading: &Heading<'_>, runs: usize) -> Result<Vec<Entry>> {
        let limits =
            [(TIMELY_1, By::Timely, 1), (TIMELY_2, By::Timely, 2), (PLAIN_1, By::Plain, 1), (PLAIN_2, By::Plain, 2)];
        let programs = ours.iter().map(|(name, workers)| (*name, By::Engine, *workers)).chain(limits);
        let entrants = programs.map(|(name, by, workers)| self.entrant(bench, name, by, workers, &[]));
        let measured = self.contest(&heading.title, runs, entrants.collect()).run(&bench.scratch)?;
        let (id, title) = (format!("{}-1", heading.id), format!("{}, one worker", heading.title));
        let rows = [
            row(heading.clone(), OURS_2, &[TIMELY_1, TIMELY_2, PLAIN_1, PLAIN_2], &measured),
            row(Heading { id, title, ..heading.clone() }, OURS_1, &[TIMELY_1, PLAIN_1], &measured),
        ];
        Ok(rows.into_iter().flatten().collect())
    }

    fn heading<'a>(&self, group: Group, id: &str, title: &str, ran: &'a str) -> Heading<'a> {
        Heading { id: id.to_owned(), group, title: title.to_owned(), ran, records: self.spec.records }
    }
}

/// The name of a variant on the command line.
fn value(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Tumbling minutes, string and integer keys.
pub(super) fn engine(bench: &Bench) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for (id, title, work) in [
        ("engine-strings", "string keys, 10,000 accounts", Work::Strings),
        ("engine-ints", "integer keys, 10,000", Work::Ints),
    ] {
        let scene = Scene::new(bench, work, 40_000_000, 10_000);
        let heading = scene.heading(Group::Engine, id, title, MINUTELY);
        entries.extend(scene.rows(bench, &OURS, &heading, bench.effort.runs)?);
    }
    Ok(entries)
}

/// Overlapping windows.
pub(super) fn sliding(bench: &Bench) -> Result<Vec<Entry>> {
    let scene = Scene::new(bench, Work::Sliding, 20_000_000, 1_000);
    let heading = scene.heading(Group::Sliding, "sliding", "sliding 60 s / 5 s", OVERLAPPING);
    scene.rows(bench, &OURS, &heading, bench.effort.runs)
}

/// Running counts over 5 and 50 M keys. The latter take gigabytes and half a minute on one worker: two must do.
pub(super) fn running(bench: &Bench) -> Result<Vec<Entry>> {
    let five = Scene::new(bench, Work::Running, 20_000_000, 5_000_000);
    let heading = five.heading(Group::Running, "running-5m", "5 M keys", COUNTING);
    let mut entries = five.rows(bench, &OURS, &heading, bench.effort.runs)?;
    let fifty = Scene::new(bench, Work::Running, 50_000_000, 50_000_000);
    let heading = fifty.heading(Group::Running, "running-50m", "50 M keys", COUNTING);
    entries.extend(fifty.rows(bench, &[(OURS_2, 2)], &heading, bench.effort.few_runs())?);
    Ok(entries)
}
