//! Latency at a steady rate: from when a record was due to when something comes of it.
//!
//! The load is open: records are due by the clock and wait for nobody. A pause of the job therefore counts for every
//! record that was due in it, and not only for the one that was being read: nothing is omitted because the source was
//! held up too. The first two seconds are not counted.
//!
//! * [`running`]: record due → its running result; [`limit`]: the same in raw timely;
//! * [`windows`]: window over → its rows;
//! * [`committed`]: record due → committed and visible.
//!
//! # Rooms
//! [`schedule`], [`quantiles`]: pure. [`numbers`], [`lines`]: paced sources. [`arrivals`]: a sink that takes the time.

mod arrivals;
mod bell;
mod committed;
mod limit;
mod lines;
mod numbers;
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

pub(crate) use self::bell::Bell;
use self::quantiles::Quantiles;
use crate::child::Running;
use crate::results::{Entry, Figure, Group, Unit};
use crate::stats::{Spread, ratio};
use crate::throughput::Programs;

/// Records a second.
const RATES: [u64; 3] = [10_000, 50_000, 200_000];
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
    /// The same in raw timely.
    Limit,
    /// Window over → row.
    Windows,
    /// Record due → committed.
    Committed,
}

impl Measure {
    const ALL: [Self; 4] = [Self::Running, Self::Limit, Self::Windows, Self::Committed];

    fn command(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Limit => "limit",
            Self::Windows => "windows",
            Self::Committed => "committed",
        }
    }

    /// In ids of results.
    fn id(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Limit => "running-timely",
            Self::Windows => "window",
            Self::Committed => "visible",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Running => "record due → running result",
            Self::Limit => "limit: the same in raw timely",
            Self::Windows => "window over → row",
            Self::Committed => "record due → committed and visible",
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
        Measure::Limit => limit::run(&args.load),
        Measure::Windows => windows::run(&args.load, &args.dir),
        Measure::Committed => committed::run(&args.load, &args.dir),
    }?;
    let path = args.dir.join("latencies.json");
    std::fs::write(&path, serde_json::to_vec(&told)?).context("could not write latencies")
}

/// Measures each at each rate for `seconds`.
///
/// # Errors
/// A job that fails or loses records.
pub(crate) fn measure(programs: &Programs, scratch: &Path, seconds: u64) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for measure in Measure::ALL {
        for rate in RATES {
            eprintln!("{} at {rate} records/s for {seconds} s", measure.title());
            let load = Load { rate, measured: seconds };
            let measured = once(programs, scratch, measure, &load);
            let (told, cores) = measured.with_context(|| format!("\"{}\" failed", measure.title()))?;
            entries.extend(figures(measure, rate, &told, cores));
        }
    }
    Ok(entries)
}

/// What the job told, and how many cores it used.
fn once(programs: &Programs, scratch: &Path, measure: Measure, load: &Load) -> Result<(Told, f64)> {
    let dir = tempfile::tempdir_in(scratch)?;
    let mut command = Command::new(&programs.bench);
    command.args(["pace", measure.command(), "--rate", &load.rate.to_string()]);
    command.args(["--measured", &load.measured.to_string(), "--dir"]).arg(dir.path());
    let usage = Running::start(&mut command, dir.path().join("log"))?.finish()?;
    let bytes = std::fs::read(dir.path().join("latencies.json")).context("could not read latencies")?;
    let told: Told = serde_json::from_slice(&bytes).context("could not read latencies")?;
    if told.records != load.records() {
        bail!("something came of {} records, and not of {}", told.records, load.records());
    }
    Ok((told, ratio(usage.cpu.as_secs_f64(), usage.elapsed.as_secs_f64())))
}

/// p50 and p99; the rest is told beside them.
fn figures(measure: Measure, rate: u64, told: &Told, cores: f64) -> [Entry; 2] {
    let Told { latency, note, .. } = told;
    let thousands = rate / 1000;
    let figure = |quantile: &str, value: f64, notes: String| {
        Entry::Figure(Figure {
            id: format!("latency-{}-{thousands}k-{quantile}", measure.id()),
            group: Group::Latency,
            title: format!("{}, {thousands} k records/s, {quantile}", measure.title()),
            value: Spread::once(value),
            unit: Unit::Millis,
            notes,
        })
    };
    let tail = format!("p99.9 {}, max {}", Unit::Millis.write(latency.p999), Unit::Millis.write(latency.max));
    [figure("p50", latency.p50, format!("{note}; {cores:.2} cores in all")), figure("p99", latency.p99, tail)]
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
    fn figures_have_the_ids_that_goals_name() {
        let latency = Quantiles { p50: 0.2, p99: 1.5, p999: 3.0, max: 9.0 };
        let told = Told { records: 1, latency, note: "100 keys".to_owned() };
        let [p50, p99] = figures(Measure::Running, 50_000, &told, 0.5);
        assert_eq!((p50.id(), p99.id()), ("latency-running-50k-p50", "latency-running-50k-p99"));
        let Entry::Figure(p99) = p99 else { panic!("a latency is a figure") };
        assert_eq!((p99.value.median, p99.notes.as_str()), (1.5, "p99.9 3.00 ms, max 9.00 ms"));
        assert_eq!(p99.title, "record due → running result, 50 k records/s, p99");
    }
}
