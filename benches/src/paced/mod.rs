//! Latency at a steady rate: from when a record was due to when something comes of it.
//!
//! The load is open: records are due by the clock and wait for nobody. A pause of the job therefore counts for every
//! record that was due in it, and not only for the one that was being read: nothing is omitted because the source was
//! held up too. The first two seconds are not counted.
//!
//! * [`running`]: record due → its running result;
//! * [`windows`]: window over → its rows;
//! * [`committed`]: record due → committed and visible.
//!
//! # Rooms
//! [`schedule`], [`quantiles`]: pure. [`numbers`], [`lines`]: paced sources. [`arrivals`]: a sink that takes the time.

mod arrivals;
mod committed;
mod lines;
pub(crate) mod numbers;
mod quantiles;
mod running;
mod schedule;
mod windows;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use shardflow::init_logging;

use self::quantiles::Quantiles;
use crate::child::Running;
use crate::stats::ratio;
use crate::table::{Goal, Row, Unit};
use crate::throughput::Programs;

/// Splits of each source.
const SPLITS: u64 = 4;
/// How long a job runs before it is measured: code and caches are warm then, and the snapshot has its first fold.
const WARM_UP: Duration = Duration::from_secs(2);

/// The hidden command: a job on a paced source.
#[derive(Debug, Args)]
pub(crate) struct Pace {
    #[arg(value_enum)]
    measure: Measure,
    #[command(flatten)]
    load: Load,
    /// Where output, state and latencies go.
    #[arg(long)]
    dir: PathBuf,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measure {
    /// Record due → running result.
    Running,
    /// Window over → row.
    Windows,
    /// Record due → committed.
    Committed,
}

impl Measure {
    const ALL: [Self; 3] = [Self::Running, Self::Windows, Self::Committed];

    fn command(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Windows => "windows",
            Self::Committed => "committed",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Running => "record due → running result",
            Self::Windows => "window over → row",
            Self::Committed => "record due → committed and visible",
        }
    }

    /// What p50 and p99 are to be, in milliseconds.
    fn goals(self) -> (Goal, Goal) {
        match self {
            Self::Running => (Goal::Below(0.3), Goal::Below(2.0)),
            Self::Windows => (Goal::Below(1.0), Goal::Below(10.0)),
            Self::Committed => (Goal::None, Goal::Below(300.0)),
        }
    }
}

/// How much comes, and how long.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Load {
    /// Records a second.
    #[arg(long)]
    rate: u64,
    /// For how many seconds it is measured.
    #[arg(long)]
    measured: u64,
}

impl Load {
    /// The warm-up included.
    fn seconds(&self) -> u64 {
        self.measured.saturating_add(WARM_UP.as_secs())
    }

    fn records(&self) -> u64 {
        self.rate.saturating_mul(self.seconds())
    }
}

/// What a job tells.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Told {
    /// Records that something came of, the warm-up included.
    records: u64,
    latency: Quantiles,
    note: String,
}

/// One measure at one rate.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Latency {
    pub(crate) measure: Measure,
    /// Records a second.
    pub(crate) rate: u64,
    pub(crate) latency: Quantiles,
    /// Cores used, on average.
    pub(crate) cores: f64,
    pub(crate) note: String,
}

/// A key for a number, spread evenly: neighbours have nothing to do with each other.
fn key_of(number: u64, keys: u64) -> u64 {
    let mixed = (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) % keys.max(1)
}

/// Runs a job to the end of its records.
///
/// # Errors
/// What the engine says.
pub(crate) fn pace(args: &Pace) -> Result<()> {
    init_logging()?;
    let told = match args.measure {
        Measure::Running => running::run(&args.load, &args.dir),
        Measure::Windows => windows::run(&args.load, &args.dir),
        Measure::Committed => committed::run(&args.load, &args.dir),
    }?;
    let path = args.dir.join("latencies.json");
    std::fs::write(&path, serde_json::to_vec(&told)?).context("could not write latencies")
}

/// Measures all three at each of `rates` for `seconds`.
///
/// # Errors
/// A job that fails or loses records.
pub(crate) fn measure(programs: &Programs, scratch: &Path, rates: &[u64], seconds: u64) -> Result<Vec<Latency>> {
    let mut measured = Vec::new();
    for measure in Measure::ALL {
        for rate in rates {
            eprintln!("{} at {rate} records/s for {seconds} s", measure.name());
            let load = Load { rate: *rate, measured: seconds };
            let latency = once(programs, scratch, measure, &load);
            measured.push(latency.with_context(|| format!("\"{}\" failed", measure.name()))?);
        }
    }
    Ok(measured)
}

fn once(programs: &Programs, scratch: &Path, measure: Measure, load: &Load) -> Result<Latency> {
    let dir = tempfile::tempdir_in(scratch)?;
    let mut command = Command::new(&programs.bench);
    command.args(["pace", measure.command(), "--rate", &load.rate.to_string()]);
    command.args(["--measured", &load.measured.to_string(), "--dir"]).arg(dir.path());
    let usage = Running::start(&mut command, dir.path().join("log"))?.finish()?;
    let bytes = std::fs::read(dir.path().join("latencies.json")).context("could not read latencies")?;
    let Told { records, latency, note } = serde_json::from_slice(&bytes).context("could not read latencies")?;
    if records != load.records() {
        bail!("something came of {records} records, and not of {}", load.records());
    }
    let cores = ratio(usage.cpu.as_secs_f64(), usage.elapsed.as_secs_f64());
    Ok(Latency { measure, rate: load.rate, latency, cores, note })
}

/// The lines of the table: p50 and p99, each with its goal.
pub(crate) fn rows(measured: &[Latency]) -> Vec<Row> {
    let mut rows = Vec::new();
    for Latency { measure, rate, latency, cores, note } in measured {
        let (p50, p99) = measure.goals();
        let name = format!("{}, {} k/s", measure.name(), rate / 1000);
        let notes = format!("{latency}; {note}; {cores:.2} cores");
        rows.push(Row { name: format!("{name}: p50"), figure: latency.p50, unit: Unit::Millis, goal: p50, notes });
        let (name, notes) = (format!("{name}: p99"), String::new());
        rows.push(Row { name, figure: latency.p99, unit: Unit::Millis, goal: p99, notes });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_spread_evenly_and_neighbours_are_apart() {
        let mut counts = vec![0_u32; 100];
        (0..100_000).for_each(|number| counts[key_of(number, 100) as usize] += 1);
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn each_measure_has_two_lines_with_goals() {
        let latency = Quantiles { p50: 0.2, p99: 1.5, p999: 3.0, max: 9.0 };
        let measured =
            Latency { measure: Measure::Running, rate: 50_000, latency, cores: 0.5, note: "100 keys".to_owned() };
        let rows = rows(&[measured]);
        assert_eq!(rows[0].name, "record due → running result, 50 k/s: p50");
        assert_eq!((rows[0].goal, rows[1].goal), (Goal::Below(0.3), Goal::Below(2.0)));
        assert!(rows[0].notes.contains("p99.9 3.00") && rows[0].notes.contains("0.50 cores"), "{}", rows[0].notes);
        assert_eq!(rows[1].figure, 1.5);
    }
}
