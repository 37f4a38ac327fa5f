//! Rows over records made in memory.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use super::{Bench, Heading, OURS_1, OURS_2, row};
use crate::limits::names::{PLAIN_1, PLAIN_2, TIMELY_1, TIMELY_2};
use crate::made::records::Spec;
use crate::made::run::{By, Work};
use crate::results::{Entry, Group, Measured};
use crate::throughput::{Contest, Entrant, Timed};

const MINUTELY: &str = "Count and sum by key over tumbling minutes of event time.";
const OVERLAPPING: &str = "Count and sum by account over windows of 60 s every 5 s, 1,000 accounts.";
const COUNTING: &str = "A running count by integer key, a result for each record, keys met uniformly.";

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

    /// The engine and all limits.
    fn beside_limits(&self, bench: &Bench, title: &str, runs: usize) -> Result<Vec<Measured>> {
        let programs = [
            (OURS_2, By::Engine, 2),
            (OURS_1, By::Engine, 1),
            (TIMELY_1, By::Timely, 1),
            (TIMELY_2, By::Timely, 2),
            (PLAIN_1, By::Plain, 1),
            (PLAIN_2, By::Plain, 2),
        ];
        let entrants = programs.map(|(name, by, workers)| self.entrant(bench, name, by, workers, &[]));
        self.contest(title, runs, entrants.into()).run(&bench.scratch)
    }

    /// Two rows: on one worker beside limits that have one, on two beside all.
    fn rows(&self, bench: &Bench, group: Group, id: &str, title: &str, ran: &str, runs: usize) -> Result<Vec<Entry>> {
        let measured = self.beside_limits(bench, title, runs)?;
        let records = self.spec.records;
        let heading = |id: String, title: String| Heading { id, group, title, ran, records };
        let two = heading(id.to_owned(), title.to_owned());
        let one = heading(format!("{id}-1"), format!("{title}, one worker"));
        let rows = [
            row(two, OURS_2, &[TIMELY_1, TIMELY_2, PLAIN_1, PLAIN_2], &measured),
            row(one, OURS_1, &[TIMELY_1, PLAIN_1], &measured),
        ];
        Ok(rows.into_iter().flatten().collect())
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
        let scene = Scene::new(bench, work, 24_000_000, 10_000);
        entries.extend(scene.rows(bench, Group::Engine, id, title, MINUTELY, bench.effort.runs)?);
    }
    Ok(entries)
}

/// Overlapping windows.
pub(super) fn sliding(bench: &Bench) -> Result<Vec<Entry>> {
    let scene = Scene::new(bench, Work::Sliding, 20_000_000, 1_000);
    scene.rows(bench, Group::Sliding, "sliding", "sliding 60 s / 5 s", OVERLAPPING, bench.effort.runs)
}

/// Running counts over 5 and 50 M keys.
pub(super) fn running(bench: &Bench) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for (millions, records, runs) in [(5, 20_000_000, bench.effort.runs), (50, 50_000_000, bench.effort.few_runs())] {
        let scene = Scene::new(bench, Work::Running, records, millions * 1_000_000);
        let (id, title) = (format!("running-{millions}m"), format!("{millions} M keys"));
        entries.extend(scene.rows(bench, Group::Running, &id, &title, COUNTING, runs)?);
    }
    Ok(entries)
}
