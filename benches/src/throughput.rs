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
use crate::stats::{Speed, ratio};
use crate::table::{Goal, Row, Unit};

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
        let many = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        match self {
            Self::Metering { dedupe: false } => "metering run --dedupe-ms 0".to_owned(),
            Self::Metering { dedupe: true } => "metering run, 24 h dedupe".to_owned(),
            Self::Plain { threads } => format!("limit: plain Rust, {}", many(threads, "thread")),
            Self::Timely { workers } => format!("limit: raw timely, {}", many(workers, "worker")),
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
pub(crate) fn measure(programs: &Programs, input: &Input, scratch: &Path, runs: usize) -> Result<Vec<Row>> {
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

fn table(measured: &[(Program, Vec<Usage>)], records: u64) -> Vec<Row> {
    let speeds: Vec<(Program, Speed)> =
        measured.iter().map(|(program, runs)| (*program, Speed::of(runs, records))).collect();
    let ours = speeds.iter().find(|(program, _)| *program == Program::Metering { dedupe: false });
    let ours = ours.map(|(_, speed)| *speed);
    let mut rows = Vec::new();
    for (program, speed) in speeds {
        let seconds = |duration: std::time::Duration| duration.as_secs_f64();
        let mut notes = format!(
            "{:.2} s (best {:.2}), {:.2} CPU-s per M records",
            seconds(speed.elapsed),
            seconds(speed.best),
            speed.cpu_per_million
        );
        let Program::Metering { dedupe } = program else {
            let memory = speed.peak as f64 / 1e6;
            let ours = ours.map_or(0.0, |ours| ratio(ours.rate, speed.rate));
            notes.push_str(&format!(", {memory:.0} MB; ours is {ours:.2} of it"));
            rows.push(Row {
                name: program.name(),
                figure: speed.rate,
                unit: Unit::RecordsPerSecond,
                goal: Goal::None,
                notes,
            });
            continue;
        };
        let (rate, memory) = if dedupe { (0.8e6, Goal::None) } else { (2e6, Goal::Below(400e6)) };
        let goal = Goal::AtLeast(rate);
        rows.push(Row { name: program.name(), figure: speed.rate, unit: Unit::RecordsPerSecond, goal, notes });
        let (name, notes) = ("  peak memory".to_owned(), String::new());
        rows.push(Row { name, figure: speed.peak as f64, unit: Unit::Bytes, goal: memory, notes });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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

    #[test]
    fn limits_are_compared_with_the_job_without_dedupe() {
        let runs = |seconds| vec![Usage { elapsed: Duration::from_secs(seconds), ..Usage::default() }];
        let measured =
            [(OURS, runs(4)), (Program::Metering { dedupe: true }, runs(10)), (Program::Plain { threads: 1 }, runs(2))];
        let rows = table(&measured, 8_000_000);
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        let (ours, once, limit) =
            ("metering run --dedupe-ms 0", "metering run, 24 h dedupe", "limit: plain Rust, 1 thread");
        assert_eq!(names, [ours, "  peak memory", once, "  peak memory", limit]);
        assert_eq!((rows[0].goal, rows[2].goal, rows[3].goal), (Goal::AtLeast(2e6), Goal::AtLeast(0.8e6), Goal::None));
        assert!(rows[4].notes.ends_with("ours is 0.50 of it"), "{}", rows[4].notes);
    }
}
