//! From when a record was due to when the running result that it made arrives at a sink.

use std::path::Path;

use anyhow::Result;
use shardflow::{Job, KeyContext, KeyedLogic, Lag, millis};

use super::arrivals::{self, Arrivals};
use super::numbers::Numbers;
use super::quantiles::Quantiles;
use super::schedule::Schedule;
use super::{Load, SPLITS, Told, WARM_UP, key_of};
use crate::records::NumberDecoder;

/// How many keys are counted.
pub(super) const KEYS: u64 = 100_000;

/// Counts the records of each key. The result names the record that made it: the count alone does not say when it was due.
struct Count;

impl KeyedLogic<u64, u64> for Count {
    type State = u64;
    type Out = (u64, u64);

    fn on_record(&self, number: u64, key: &mut KeyContext<'_, u64, u64, (u64, u64)>) {
        let count = key.get_or_insert_with(|| 0);
        *count = count.saturating_add(1);
        let count = *count;
        key.emit((number, count));
    }
}

/// Sees numbers with their counts.
pub(super) fn arrivals(schedule: &Schedule) -> Arrivals<(u64, u64)> {
    let (warm, schedule) = (schedule.within(WARM_UP), schedule.clone());
    Arrivals::new(move |(number, _count): &(u64, u64)| arrivals::Told {
        due: (*number >= warm).then(|| schedule.due(*number)),
        records: 1,
    })
}

/// Runs the job to the end of its records.
pub(super) fn run(load: &Load, dir: &Path) -> Result<Told> {
    let schedule = Schedule::new(load.rate);
    let source = Numbers::new(schedule.clone(), load.records(), SPLITS);
    let arrivals = arrivals(&schedule);
    let sink = arrivals.clone();
    Job::named("running").workers(2).state(dir.join("state")).run(move |flow| {
        let (numbers, _rejected) = flow.source("numbers", source.clone()).decode(NumberDecoder);
        let times = schedule.clone();
        numbers
            .event_time(move |number| times.event_time(*number), Lag::of(millis(0)))
            .key_by(|number| key_of(*number, KEYS))
            .process("counts", Count)
            .sink("results", sink.clone());
    })?;
    let seen = arrivals.seen();
    Ok(Told { records: seen.records, latency: Quantiles::of(&seen.latency), note: format!("{KEYS} keys") })
}
