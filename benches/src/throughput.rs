//! Records a second: programs that do the same work, run in turns.
//!
//! Runs are interleaved, one of each program in turn, so that what else happens on the machine falls on all of them. Every
//! run has a folder of its own below the same one, and its results are compared with those of the others: a program that
//! computes something else is an error, and not a figure.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::child::{Running, Usage};
use crate::digest::Digest;
use crate::made::run::Told;
use crate::results::Measured;

/// Where the programs are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// This one.
    pub(crate) bench: PathBuf,
    /// The job's.
    pub(crate) metering: PathBuf,
}

impl Programs {
    /// `metering` lies beside this program.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn find() -> Result<Self> {
        let bench = std::env::current_exe().context("could not find this program")?;
        let metering = bench.with_file_name("metering");
        if !metering.is_file() {
            bail!("\"{}\" is missing: build it first, as make bench does", metering.display());
        }
        Ok(Self { bench, metering })
    }
}

/// Who takes a program's time, and where its results are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timed {
    /// From the process' start to its end; results are files below `out`.
    FromOutside,
    /// By the program, which leaves `told.json`.
    ByItself,
}

/// A program in a contest.
pub(crate) struct Entrant {
    pub(crate) name: String,
    /// Makes its command for a run in this folder.
    pub(crate) command: Box<dyn Fn(&Path) -> Command>,
}

/// Programs that do the same work.
pub(crate) struct Contest {
    /// What is said on stderr.
    pub(crate) title: String,
    pub(crate) records: u64,
    pub(crate) runs: usize,
    pub(crate) timed: Timed,
    pub(crate) entrants: Vec<Entrant>,
}

impl Contest {
    /// Runs all programs in turns. What they come to, in their order.
    ///
    /// # Errors
    /// A program that fails, or results that differ.
    pub(crate) fn run(&self, scratch: &Path) -> Result<Vec<Measured>> {
        let mut usages: Vec<Vec<Usage>> = self.entrants.iter().map(|_| Vec::new()).collect();
        let mut results = Agreement::default();
        for run in 1..=self.runs {
            for (entrant, usages) in self.entrants.iter().zip(&mut usages) {
                let name = &entrant.name;
                let (usage, outcome) =
                    self.once(entrant, scratch).with_context(|| format!("{}: \"{name}\" failed", self.title))?;
                results.check(name, outcome).with_context(|| self.title.clone())?;
                usages.push(usage);
                let rate = Measured::of("", &[usage], self.records).rate.median / 1e6;
                eprintln!("{}, run {run} of {}: {name}: {rate:.2} M/s", self.title, self.runs);
            }
        }
        let measured = self.entrants.iter().zip(&usages);
        Ok(measured.map(|(entrant, usages)| Measured::of(&entrant.name, usages, self.records)).collect())
    }

    fn once(&self, entrant: &Entrant, scratch: &Path) -> Result<(Usage, Outcome)> {
        let dir = tempfile::tempdir_in(scratch).context("could not make a temporary folder")?;
        let mut command = (entrant.command)(dir.path());
        let usage = Running::start(&mut command, dir.path().join("log"))?.finish()?;
        if self.timed == Timed::FromOutside {
            let digest = Digest::of(&dir.path().join("out"))?;
            return Ok((usage, Outcome { rows: digest.charges, all: format!("{digest:?}") }));
        }
        let Told { elapsed, cpu, tally } = Told::read(&dir.path().join("told.json"))?;
        Ok((Usage { elapsed, cpu, ..usage }, Outcome { rows: tally.rows, all: format!("{tally:?}") }))
    }
}

/// What a run computed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    rows: u64,
    /// Everything that must be equal, in words.
    all: String,
}

/// The results that all programs must have.
#[derive(Debug, Default)]
struct Agreement(Option<(String, Outcome)>);

impl Agreement {
    fn check(&mut self, name: &str, outcome: Outcome) -> Result<()> {
        if outcome.rows == 0 {
            bail!("\"{name}\" has no results");
        }
        let (first, expected) = self.0.get_or_insert_with(|| (name.to_owned(), outcome.clone()));
        if outcome != *expected {
            bail!("results differ\n  \"{first}\": {}\n  \"{name}\": {}", expected.all, outcome.all);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(rows: u64) -> Outcome {
        Outcome { rows, all: format!("{rows} rows") }
    }

    #[test]
    fn results_that_differ_are_named_with_their_programs() {
        let mut results = Agreement::default();
        results.check("ours", outcome(5)).unwrap();
        results.check("plain", outcome(5)).unwrap();
        let error = results.check("timely", outcome(6)).unwrap_err().to_string();
        assert!(error.contains("\"ours\": 5 rows") && error.contains("\"timely\": 6 rows"), "{error}");
        assert!(results.check("ours", outcome(0)).unwrap_err().to_string().contains("no results"));
    }

    #[test]
    fn programs_are_run_in_turns_and_time_themselves() {
        let dir = tempfile::tempdir().unwrap();
        let told = r#"{"elapsed":{"secs":2,"nanos":0},"cpu":{"secs":4,"nanos":0},"tally":{"rows":3,"sum":1}}"#;
        let entrant = |name: &str| {
            let (letter, order) = (name.to_owned(), dir.path().join("order"));
            let command = move |dir: &Path| {
                let mut command = Command::new("/bin/sh");
                let (order, dir) = (order.display(), dir.display());
                command.args(["-c", &format!("printf {letter} >> '{order}'; echo '{told}' > '{dir}/told.json'")]);
                command
            };
            Entrant { name: name.to_owned(), command: Box::new(command) }
        };
        let contest = Contest {
            title: "test".to_owned(),
            records: 2_000_000,
            runs: 2,
            timed: Timed::ByItself,
            entrants: vec![entrant("a"), entrant("b")],
        };
        let measured = contest.run(dir.path()).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("order")).unwrap(), "abab");
        let [a, b] = measured.as_slice() else { panic!("{measured:?}") };
        assert_eq!((a.name.as_str(), b.name.as_str()), ("a", "b"));
        assert_eq!((a.rate.median, a.rate.runs, b.cpu_per_million.median), (1e6, 2, 2.0));
    }
}
