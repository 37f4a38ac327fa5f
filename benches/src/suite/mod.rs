//! The rows that are speeds, group by group: which programs run, over what, and what is made of their figures.

mod made;
mod memory;
mod metering;
mod sweeps;

use std::path::PathBuf;

use anyhow::Result;

use crate::results::{Axis, Entry, Group, Line, Measured, Series, Speed};
use crate::throughput::Programs;

pub(crate) use memory::ALLOWED_AT_10X;

/// The engine in results and report, on one and on two workers.
const OURS_1: &str = "shardflow, 1 worker";
const OURS_2: &str = "shardflow, 2 workers";

/// What all groups need.
pub(crate) struct Bench {
    pub(crate) programs: Programs,
    /// Where generated records are kept.
    pub(crate) cache: PathBuf,
    /// Where programs write.
    pub(crate) scratch: PathBuf,
    pub(crate) effort: Effort,
}

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Whether it works, not how fast.
    pub(crate) quick: bool,
    /// Runs of each program.
    pub(crate) runs: usize,
}

impl Effort {
    /// As many records as a row has, or as many as it takes to see that it works.
    fn records(self, whole: u64) -> u64 {
        if self.quick { whole / 20 } else { whole }
    }

    /// For rows of a quarter of a minute a run and more.
    fn few_runs(self) -> usize {
        self.runs.min(3)
    }
}

/// Measures a group of this room; nothing where it is another's.
///
/// # Errors
/// A program that fails, or results that differ.
pub(crate) fn measure(group: Group, bench: &Bench) -> Result<Vec<Entry>> {
    match group {
        Group::Metering => metering::all(bench),
        Group::Dedupe => metering::once(bench),
        Group::Engine => made::engine(bench),
        Group::Sliding => made::sliding(bench),
        Group::Running => made::running(bench),
        Group::Memory => memory::measure(bench),
        Group::Epochs => sweeps::epochs(bench),
        Group::Workers => sweeps::workers(bench),
        Group::Keys => sweeps::keys(bench),
        Group::Skew => sweeps::skew(bench),
        _ => Ok(Vec::new()),
    }
}

/// What a row is called and what it says of itself.
#[derive(Debug, Clone)]
struct Heading<'a> {
    id: String,
    group: Group,
    title: String,
    ran: &'a str,
    records: u64,
}

/// A row: the program called `ours`, and `limits` beside it, of those that ran.
fn row(heading: Heading<'_>, ours: &str, limits: &[&str], measured: &[Measured]) -> Option<Entry> {
    let find = |name: &str| measured.iter().find(|measured| measured.name == name).cloned();
    let Heading { id, group, title, ran, records } = heading;
    let limits = limits.iter().filter_map(|name| find(name)).collect();
    Some(Entry::Speed(Speed { id, group, title, ran: ran.to_owned(), records, ours: find(ours)?, limits }))
}

/// Rates in millions over what is varied, each line with the name of a program or of its work.
fn rates(id: &str, group: Group, title: &str, x: Axis, lines: Vec<(String, Vec<(f64, f64)>)>) -> Entry {
    let lines = lines.into_iter().map(|(name, points)| Line { name, points }).collect();
    let y = Axis { label: "M records/s".to_owned(), log: false };
    Entry::Series(Series { id: id.to_owned(), group, title: title.to_owned(), x, y, lines })
}

/// A point of such a line.
fn point(x: f64, measured: &Measured) -> (f64, f64) {
    (x, measured.rate.median / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Spread;

    #[test]
    fn a_row_has_the_programs_that_ran() {
        let measured = |name: &str| Measured {
            name: name.to_owned(),
            rate: Spread::once(1.0),
            cpu_per_million: Spread::once(1.0),
            peak: Spread::once(1.0),
        };
        let heading =
            || Heading { id: "x".to_owned(), group: Group::Engine, title: "x".to_owned(), ran: "x", records: 1 };
        let all = [measured("a"), measured("b"), measured("c")];
        let Some(Entry::Speed(speed)) = row(heading(), "b", &["c", "d"], &all) else { panic!("no row") };
        assert_eq!((speed.ours.name.as_str(), speed.limits.len()), ("b", 1));
        assert_eq!(row(heading(), "d", &["a"], &all), None);
    }

    #[test]
    fn quick_is_a_twentieth() {
        let effort = Effort { quick: true, runs: 1 };
        assert_eq!((effort.records(2_000_000), effort.few_runs()), (100_000, 1));
        assert_eq!(Effort { quick: false, runs: 5 }.few_runs(), 3);
    }
}
