//! Records a second: the metering job, and the limits beside it.
//!
//! Runs are interleaved, one of each program in turn, so that what else happens on the machine falls on all of them. Every
//! run writes real files below the same folder, and its rows are compared with those of the others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::child::{Running, Usage};
use crate::digest::Digest;
use crate::input::Input;
use crate::limits::names::{PLAIN_1, PLAIN_2, TIMELY_1, TIMELY_2};
use crate::results::{Entry, Group, Measured, Speed};

/// A program that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    /// `metering run` on two workers.
    Metering { dedupe: bool },
    /// The job in plain Rust.
    Plain { threads: usize },
    /// The job in raw timely.
    Timely { workers: usize },
}

const PROGRAMS: [Program; 6] = [
    Program::Metering { dedupe: false },
    Program::Metering { dedupe: true },
    Program::Timely { workers: 1 },
    Program::Timely { workers: 2 },
    Program::Plain { threads: 1 },
    Program::Plain { threads: 2 },
];

impl Program {
    fn name(self) -> String {
        match self {
            Self::Metering { dedupe: false } => "metering run --dedupe-ms 0".to_owned(),
            Self::Metering { dedupe: true } => "metering run, 24 h dedupe".to_owned(),
            Self::Plain { threads: 1 } => PLAIN_1.to_owned(),
            Self::Plain { .. } => PLAIN_2.to_owned(),
            Self::Timely { workers: 1 } => TIMELY_1.to_owned(),
            Self::Timely { .. } => TIMELY_2.to_owned(),
        }
    }

    /// Programs of one kind write the same rows.
    fn dedupes(self) -> bool {
        self == Self::Metering { dedupe: true }
    }

    fn command(self, programs: &Programs, input: &Path, out: &Path, state: &Path) -> Command {
        let limit = |kind: &str, count: usize| {
            let mut command = Command::new(&programs.bench);
            command.args(["limit", kind, "--threads", &count.to_string(), "--input"]).arg(input).arg("--out").arg(out);
            command
        };
        match self {
            Self::Plain { threads } => limit("plain", threads),
            Self::Timely { workers } => limit("timely", workers),
            Self::Metering { dedupe } => {
                let mut command = Command::new(&programs.metering);
                command.args(["run", "--workers", "2", "--source"]).arg(format!("file:{}", input.display()));
                command.arg("--out").arg(out).arg("--state").arg(state);
                if !dedupe {
                    command.args(["--dedupe-ms", "0"]);
                }
                command
            }
        }
    }
}

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

/// Measures all programs `runs` times.
///
/// # Errors
/// A program that fails, or rows that differ.
pub(crate) fn measure(programs: &Programs, input: &Input, scratch: &Path, runs: usize) -> Result<Vec<Entry>> {
    let mut measured: Vec<(Program, Vec<Usage>)> = PROGRAMS.map(|program| (program, Vec::new())).to_vec();
    let mut rows = Agreement::default();
    for run in 1..=runs {
        for (program, usages) in &mut measured {
            eprintln!("run {run} of {runs}: {}", program.name());
            let (usage, digest) =
                once(*program, programs, input, scratch).with_context(|| format!("\"{}\" failed", program.name()))?;
            rows.check(*program, digest)?;
            usages.push(usage);
        }
    }
    if let (Some((_, counted)), Some((_, once))) = (rows.counted, rows.once) {
        eprintln!("the same rows from all: {counted}");
        eprintln!("with dedupe: {once}");
    }
    Ok(table(&measured, input.records))
}

fn once(program: Program, programs: &Programs, input: &Input, scratch: &Path) -> Result<(Usage, Digest)> {
    let dir = tempfile::tempdir_in(scratch).context("could not make a temporary folder")?;
    let (out, state) = (dir.path().join("out"), dir.path().join("state"));
    fs::create_dir(&out).context("could not make a temporary folder")?;
    let mut command = program.command(programs, &input.dir, &out, &state);
    let usage = Running::start(&mut command, dir.path().join("log"))?.finish()?;
    Ok((usage, Digest::of(&out)?))
}

/// The rows that programs of one kind must all write.
#[derive(Debug, Default)]
struct Agreement {
    counted: Option<(Program, Digest)>,
    once: Option<(Program, Digest)>,
}

impl Agreement {
    fn check(&mut self, program: Program, digest: Digest) -> Result<()> {
        let known = if program.dedupes() { &mut self.once } else { &mut self.counted };
        let (first, expected) = known.get_or_insert((program, digest));
        if digest.charges == 0 {
            bail!("\"{}\" has written no charges", program.name());
        }
        if digest != *expected {
            let (first, second) = (first.name(), program.name());
            bail!("rows differ\n  \"{first}\": {expected}\n  \"{second}\": {digest}");
        }
        Ok(())
    }
}

fn table(measured: &[(Program, Vec<Usage>)], records: u64) -> Vec<Entry> {
    let of = |wanted: Program| {
        let runs = measured.iter().find(|(program, _)| *program == wanted).map(|(_, runs)| runs.as_slice());
        Measured::of(wanted.name(), runs.unwrap_or_default(), records)
    };
    let is_limit = |program: &Program| !matches!(program, Program::Metering { .. });
    let limits = measured.iter().map(|(program, _)| *program).filter(is_limit).map(of).collect();
    let row = |id: &str, group: Group, ours: Measured, limits: Vec<Measured>| {
        let (title, ran) = (group.title().to_owned(), ours.name.clone());
        Entry::Speed(Speed { id: id.to_owned(), group, title, ran, records, ours, limits })
    };
    vec![
        row("metering-10m", Group::Metering, of(Program::Metering { dedupe: false }), limits),
        row("dedupe-10m", Group::Dedupe, of(Program::Metering { dedupe: true }), Vec::new()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Program = Program::Metering { dedupe: false };

    #[test]
    fn rows_that_differ_are_named_with_their_programs() {
        let digest = |records| {
            let mut digest = Digest::default();
            (digest.charges, digest.records) = (1, records);
            digest
        };
        let mut rows = Agreement::default();
        rows.check(OURS, digest(5)).unwrap();
        rows.check(Program::Metering { dedupe: true }, digest(4)).unwrap();
        rows.check(Program::Plain { threads: 1 }, digest(5)).unwrap();
        let error = rows.check(Program::Timely { workers: 2 }, digest(6)).unwrap_err().to_string();
        assert!(error.contains("metering run --dedupe-ms 0") && error.contains("raw timely, 2 workers"), "{error}");
        assert!(rows.check(OURS, Digest::default()).is_err());
    }
}
