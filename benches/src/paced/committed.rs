//! From when a record was due to when its epoch was committed and its results visible: the metering job.
//!
//! The engine's own figure, read → committed, begins later and is printed beside it.
//!
//! Records are matched with commits by count, oldest first. The workers do not begin an epoch at the same moment, so a
//! record may be matched with the commit of one that was due a few milliseconds before or after it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use shardflow::{CommitInfo, Job};
use shardflow_examples::metering::decode::UsageDecoder;
use shardflow_examples::metering::reference::Semantics;
use shardflow_examples::metering::report::new_histogram;
use shardflow_examples::metering::run::charges;
use shardflow_examples::metering::workload::Spec;

use super::lines::Lines;
use super::quantiles::{Quantiles, histogram};
use super::schedule::Schedule;
use super::{Load, SPLITS, Told, WARM_UP};
use crate::digest::Digest;

const SEED: u64 = 7;
/// Short windows, so that results go out all the time. The lag is above the records' disorder.
const SEMANTICS: Semantics = Semantics { window: 5_000, lag: 3_000, grace: 0, dedupe: 86_400_000 };
const DISORDER: u64 = 2_000;

/// Matches commits with the schedule.
struct Meter {
    schedule: Schedule,
    /// The first record that counts.
    warm: u64,
    records: u64,
    due: Histogram<u64>,
    read: Histogram<u64>,
}

impl Meter {
    fn new(schedule: Schedule, warm: u64) -> Self {
        Self { schedule, warm, records: 0, due: histogram(), read: new_histogram() }
    }

    fn committed(&mut self, info: &CommitInfo<'_>) {
        self.through(info.records, Instant::now());
        if self.records > self.warm {
            // Its bounds are those of the engine's histogram.
            let _ = self.read.add(info.latency);
        }
    }

    /// Takes in that the oldest `records` are committed at `now`.
    fn through(&mut self, records: u64, now: Instant) {
        for number in self.records.max(self.warm)..records {
            let waited = now.saturating_duration_since(self.schedule.due(number)).as_micros();
            self.due.saturating_record(u64::try_from(waited).unwrap_or(u64::MAX));
        }
        self.records = self.records.max(records);
    }
}

/// Runs the job until all records are committed.
pub(super) fn run(load: &Load, dir: &Path) -> Result<Told> {
    let schedule = Schedule::new(load.rate);
    let source = Lines::new(spec(load), schedule.clone())?;
    let meter = Arc::new(Mutex::new(Meter::new(schedule.clone(), schedule.within(WARM_UP))));
    let (out, shared) = (dir.join("out"), Arc::clone(&meter));
    Job::named("committed")
        .workers(2)
        .state(dir.join("state"))
        .on_commit(move |info| shared.lock().unwrap_or_else(PoisonError::into_inner).committed(info))
        .run(move |flow| charges(flow.source("usage", source.clone()), UsageDecoder::new(), &SEMANTICS, &out))?;
    let meter = meter.lock().unwrap_or_else(PoisonError::into_inner);
    let digest = Digest::of(&dir.join("out"))?;
    if digest.charges == 0 {
        bail!("the job has written no charges: {digest}");
    }
    let read = Quantiles::of(&meter.read);
    Ok(Told {
        records: meter.records,
        latency: Quantiles::of(&meter.due),
        note: format!("read → committed p50 {:.0}, p99 {:.0}, max {:.0} ms", read.p50, read.p99, read.max),
    })
}

fn spec(load: &Load) -> Spec {
    Spec {
        lanes: SPLITS as usize,
        span: load.seconds().saturating_mul(1000),
        disorder: DISORDER,
        behind: 30_000..=60_000,
        ..Spec::new(load.records(), SEED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_pause_counts_for_every_record_that_was_due_in_it() {
        let schedule = Schedule::new(1_000);
        let started = schedule.due(0);
        let mut meter = Meter::new(schedule, 0);
        meter.through(1_000, started + Duration::from_secs(1));
        assert_eq!((meter.due.len(), meter.due.max() / 100_000), (1_000, 10));
        // One record in ten is committed within 100 ms of being due.
        let fastest = meter.due.value_at_quantile(0.1);
        assert!((95..=105).contains(&(fastest / 1_000)), "{:?}", Quantiles::of(&meter.due));
        meter.through(1_001, started + Duration::from_millis(1_001));
        assert_eq!((meter.due.len(), meter.records), (1_001, 1_001));
    }

    #[test]
    fn what_is_committed_during_the_warm_up_does_not_count() {
        let schedule = Schedule::new(1_000);
        let started = schedule.due(0);
        let mut meter = Meter::new(schedule, 500);
        meter.through(400, started + Duration::from_secs(9));
        meter.through(501, started + Duration::from_secs(9));
        assert_eq!((meter.due.len(), meter.records), (1, 501));
    }

    #[test]
    fn disorder_makes_no_ordinary_record_late() {
        const { assert!(DISORDER < SEMANTICS.lag) };
    }
}
