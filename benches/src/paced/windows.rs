//! From when a window was over to when its rows arrive at a sink.
//!
//! Event time runs with the schedule: records come in order, and no lag is asked for. A window is over when the first
//! record at or after its end is due; the job cannot know before that one has come in every split.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use shardflow::{Job, Lag, WindowResult, millis, tumbling};

use super::arrivals::{self, Arrivals};
use super::numbers::Numbers;
use super::quantiles::Quantiles;
use super::schedule::Schedule;
use super::{Load, SPLITS, Told, WARM_UP, key_of};
use crate::records::NumberDecoder;

/// How many keys each window has.
const KEYS: u64 = 1_000;
/// Ten a second, so that a run of some seconds has seen a hundred of them.
const WINDOW: Duration = millis(100);

/// Runs the job to the end of its records.
pub(super) fn run(load: &Load, dir: &Path) -> Result<Told> {
    let schedule = Schedule::new(load.rate);
    let source = Numbers::new(schedule.clone(), load.records(), SPLITS);
    let (warm, records, due) = (schedule.within(WARM_UP), load.records(), schedule.clone());
    let arrivals = Arrivals::new(move |row: &WindowResult<u64, u64>| {
        let first = due.first_at(row.window.end());
        // The last window ends with the input, and not by a record.
        let counts = first >= warm && first < records;
        arrivals::Told { due: counts.then(|| due.due(first)), records: row.value }
    });
    let sink = arrivals.clone();
    Job::named("windows").workers(2).state(dir.join("state")).run(move |flow| {
        let (numbers, _rejected) = flow.source("numbers", source.clone()).decode(NumberDecoder);
        let times = schedule.clone();
        numbers
            .event_time(move |number| times.event_time(*number), Lag::of(millis(0)))
            .key_by(|number| key_of(*number, KEYS))
            .window(tumbling(WINDOW).grace(millis(0)))
            .discard_late()
            .count("counts")
            .sink("rows", sink.clone());
    })?;
    let seen = arrivals.seen();
    let note = format!("{} ms windows, {KEYS} keys, {} rows", WINDOW.as_millis(), seen.latency.len());
    Ok(Told { records: seen.records, latency: Quantiles::of(&seen.latency), note })
}
