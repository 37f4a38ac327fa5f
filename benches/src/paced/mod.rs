//! Latency at a steady rate: from when a record was due to when its epoch was committed and its results visible.
//!
//! The load is open: records are due by the clock and wait for nobody. A pause of the job therefore counts for every
//! record that was due in it, and not only for the one that was being read. The engine's own figure, read → committed,
//! begins later and is printed beside it.
//!
//! Records are matched with commits by count, oldest first. The workers do not begin an epoch at the same moment, so a
//! record may be matched with the commit of one that was due a few milliseconds before or after it.

mod source;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use shardflow::{CommitInfo, Job, init_logging};
use shardflow_examples::metering::decode::UsageDecoder;
use shardflow_examples::metering::reference::Semantics;
use shardflow_examples::metering::report::new_histogram;
use shardflow_examples::metering::run::charges;
use shardflow_examples::metering::workload::Spec;

use self::source::{Paced, Schedule};
use crate::child::Running;
use crate::digest::Digest;
use crate::results::{Entry, Figure, Group, Unit};
use crate::stats::{Spread, ratio};
use crate::throughput::Programs;

/// Shards of the imagined stream.
const LANES: usize = 4;
const SEED: u64 = 7;
/// Short windows, so that results go out all the time. The lag is above the records' disorder.
const SEMANTICS: Semantics = Semantics { window: 5_000, lag: 3_000, grace: 0, dedupe: 86_400_000 };
const DISORDER: u64 = 2_000;

/// The hidden command: the job on a paced source.
#[derive(Debug, Args)]
pub(crate) struct Pace {
    /// Records a second.
    #[arg(long)]
    rate: u64,
    /// For how many seconds.
    #[arg(long)]
    seconds: u64,
    /// Where output, state and latencies go.
    #[arg(long)]
    dir: PathBuf,
}

/// What the job tells.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Latencies {
    /// Records committed.
    records: u64,
    /// Due → committed.
    due: Quantiles,
    /// Read → committed, by the engine.
    read: Quantiles,
}

/// In milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Quantiles {
    p50: f64,
    p99: f64,
    max: f64,
}

impl Quantiles {
    fn of(micros: &Histogram<u64>) -> Self {
        let millis = |quantile: f64| micros.value_at_quantile(quantile) as f64 / 1e3;
        Self { p50: millis(0.5), p99: millis(0.99), max: micros.max() as f64 / 1e3 }
    }
}

/// Matches commits with the schedule.
struct Meter {
    schedule: Schedule,
    records: u64,
    due: Histogram<u64>,
    read: Histogram<u64>,
}

impl Meter {
    fn new(schedule: Schedule) -> Self {
        Self { schedule, records: 0, due: new_histogram(), read: new_histogram() }
    }

    fn committed(&mut self, info: &CommitInfo<'_>) {
        self.through(info.records, Instant::now());
        // Its bounds are those of the engine's histogram.
        let _ = self.read.add(info.latency);
    }

    /// Takes in that the oldest `records` are committed at `now`.
    fn through(&mut self, records: u64, now: Instant) {
        for number in self.records..records {
            let waited = now.saturating_duration_since(self.schedule.due(number)).as_micros();
            self.due.saturating_record(u64::try_from(waited).unwrap_or(u64::MAX));
        }
        self.records = self.records.max(records);
    }
}

/// Runs the job until all records are committed.
///
/// # Errors
/// What the engine says.
pub(crate) fn pace(args: &Pace) -> Result<()> {
    init_logging()?;
    let schedule = Schedule::new(args.rate);
    let source = Paced::new(spec(args.rate, args.seconds), schedule.clone())?;
    let meter = Arc::new(Mutex::new(Meter::new(schedule)));
    let (out, shared) = (args.dir.join("out"), Arc::clone(&meter));
    Job::named("paced")
        .workers(2)
        .state(args.dir.join("state"))
        .on_commit(move |info| shared.lock().unwrap_or_else(PoisonError::into_inner).committed(info))
        .run(move |flow| charges(flow.source("usage", source.clone()), UsageDecoder::new(), &SEMANTICS, &out))?;
    let meter = meter.lock().unwrap_or_else(PoisonError::into_inner);
    let (due, read) = (Quantiles::of(&meter.due), Quantiles::of(&meter.read));
    let latencies = Latencies { records: meter.records, due, read };
    let path = args.dir.join("latencies.json");
    std::fs::write(&path, serde_json::to_vec(&latencies)?).context("could not write latencies")
}

fn spec(rate: u64, seconds: u64) -> Spec {
    Spec {
        lanes: LANES,
        span: seconds.saturating_mul(1000),
        disorder: DISORDER,
        behind: 30_000..=60_000,
        ..Spec::new(rate.saturating_mul(seconds), SEED)
    }
}

/// Measures `rate` records a second for `seconds`.
///
/// # Errors
/// A job that fails or loses records.
pub(crate) fn measure(programs: &Programs, scratch: &Path, rate: u64, seconds: u64) -> Result<Vec<Entry>> {
    eprintln!("{rate} records/s for {seconds} s");
    let dir = tempfile::tempdir_in(scratch)?;
    let mut command = Command::new(&programs.bench);
    command.args(["pace", "--rate", &rate.to_string(), "--seconds", &seconds.to_string(), "--dir"]).arg(dir.path());
    let usage = Running::start(&mut command, dir.path().join("log"))?.finish().context("the paced job failed")?;
    let bytes = std::fs::read(dir.path().join("latencies.json")).context("could not read latencies")?;
    let told: Latencies = serde_json::from_slice(&bytes).context("could not read latencies")?;
    let expected = rate.saturating_mul(seconds);
    let digest = Digest::of(&dir.path().join("out"))?;
    if told.records != expected || digest.charges == 0 {
        bail!("the paced job committed {} of {expected} records: {digest}", told.records);
    }
    let Quantiles { p50, p99, max } = told.read;
    let notes = format!(
        "p50 {:.0}, max {:.0}; read → committed p50 {p50:.0}, p99 {p99:.0}, max {max:.0}; {:.2} of a core",
        told.due.p50,
        told.due.max,
        ratio(usage.cpu.as_secs_f64(), usage.elapsed.as_secs_f64())
    );
    Ok(vec![Entry::Figure(Figure {
        id: format!("latency-visible-{}k-p99", rate / 1000),
        group: Group::Latency,
        title: format!("{} k records/s: due → committed, p99", rate / 1000),
        value: Spread::once(told.due.p99),
        unit: Unit::Millis,
        notes,
    })])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_pause_counts_for_every_record_that_was_due_in_it() {
        let schedule = Schedule::new(1_000);
        let started = schedule.due(0);
        let mut meter = Meter::new(schedule);
        meter.through(1_000, started + Duration::from_secs(1));
        assert_eq!((meter.due.len(), meter.due.max() / 100_000), (1_000, 10));
        // One record in ten is committed within 100 ms of being due.
        assert!((95..=105).contains(&(meter.due.value_at_quantile(0.1) / 1_000)), "{:?}", Quantiles::of(&meter.due));
        meter.through(1_001, started + Duration::from_millis(1_001));
        assert_eq!((meter.due.len(), meter.records), (1_001, 1_001));
    }

    #[test]
    fn disorder_makes_no_ordinary_record_late() {
        const { assert!(DISORDER < SEMANTICS.lag) };
    }
}
