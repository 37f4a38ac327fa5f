//! The job that most tests run: readings by key, deduplicated, summed by window. Everything that leaves it is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::RngExt;
use rand::rngs::StdRng;
use shardflow::testing::Feed;
use shardflow::window::aggregate::{count, sum};
use shardflow::{Flow, Rejected, WindowResult, json, millis, sliding};

use super::reference::Expected;
use super::sink::Probe;
use super::source::{Pace, Paced};
use super::{Reading, lag, reading, sorted};

/// A result: key, start and end of the window, count and sum.
pub(crate) type Row = (String, u64, u64, u64, u64);

/// The raw records of each split, in order.
pub(crate) type Inputs = BTreeMap<String, Vec<Vec<u8>>>;

/// The settings that decide the results, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) lag: u64,
    pub(crate) horizon: u64,
    pub(crate) size: u64,
    pub(crate) slide: u64,
    pub(crate) grace: u64,
}

#[derive(Clone)]
pub(crate) struct Billing {
    pub(crate) shape: Shape,
    /// Whether the totals are an aggregate of the library instead of a fold.
    pub(crate) aggregated: bool,
    pub(crate) source: Paced,
    pub(crate) rows: Probe<Row>,
    pub(crate) late: Probe<Reading>,
    pub(crate) rejected: Probe<Rejected>,
}

impl Billing {
    /// On an empty feed that is read at `pace`.
    pub(crate) fn new(shape: Shape, pace: &Arc<Pace>) -> Self {
        let source = Paced { feed: Feed::new(), pace: Arc::clone(pace) };
        Self { shape, aggregated: false, source, rows: Probe::new(), late: Probe::new(), rejected: Probe::new() }
    }

    /// The same, with the totals by an aggregate.
    pub(crate) fn aggregated(self, aggregated: bool) -> Self {
        Self { aggregated, ..self }
    }

    pub(crate) fn push(&self, inputs: &Inputs) {
        for (split, records) in inputs {
            records.iter().for_each(|record| self.source.feed.push(split, record));
        }
    }

    pub(crate) fn program(&self) -> impl Fn(&Flow<'_>) + Send + Sync + 'static {
        let this = self.clone();
        move |flow| this.build(flow)
    }

    fn build(&self, flow: &Flow<'_>) {
        let Shape { lag: bound, horizon, size, slide, grace } = self.shape;
        let (readings, rejected) = flow.source("readings", self.source.clone()).decode(json::<Reading>());
        rejected.sink("rejected", self.rejected.clone());
        let on_time = readings
            .event_time(Reading::time, lag(bound))
            .key_by(|reading| reading.key.clone())
            .dedupe("seen", |reading| reading.id, millis(horizon))
            .window(sliding(millis(size), millis(slide)).grace(millis(grace)))
            .late_to("late", self.late.clone());
        let totals = if self.aggregated {
            on_time.aggregate("totals", (count(), sum(|reading: &Reading| reading.value))).map(|result| WindowResult {
                key: result.key,
                window: result.window,
                value: (result.value.0, result.value.1 as u64),
                ids: result.ids,
            })
        } else {
            let add = |total: &mut (u64, u64), reading: &Reading| *total = (total.0 + 1, total.1 + reading.value);
            on_time.fold("totals", || (0, 0), add)
        };
        totals
            .map(|result| {
                let (start, end) = (result.window.start().as_millis(), result.window.end().as_millis());
                (result.key, start, end, result.value.0, result.value.1)
            })
            .sink("rows", self.rows.clone());
    }

    /// Everything that was committed, each kind sorted.
    pub(crate) fn outcome(&self) -> Expected {
        let rejected = self.rejected.values().into_iter().map(|rejected| (rejected.split, rejected.position));
        Expected {
            rows: sorted(self.rows.values()),
            late: sorted(self.late.values()),
            rejected: sorted(rejected.collect()),
        }
    }
}

/// Records with duplicates, disorder, late ones and some that cannot be decoded. An id belongs to one split: which of two
/// splits is read first is nobody's promise.
pub(crate) fn random_inputs(random: &mut StdRng, shape: &Shape, splits: u64, records: u64) -> Inputs {
    (0..splits).map(|split| (format!("split-{split}"), random_split(random, shape, split, records))).collect()
}

fn random_split(random: &mut StdRng, shape: &Shape, split: u64, records: u64) -> Vec<Vec<u8>> {
    let mut made: Vec<Reading> = Vec::new();
    let mut bytes = Vec::new();
    let (mut now, step) = (shape.size * 2, random.random_range(1..=shape.size / 4 + 1));
    for number in 0..records {
        now += random.random_range(0..=step);
        let record = match random.random_range(0..20) {
            0 => {
                bytes.push(format!("bad {number}").into_bytes());
                continue;
            }
            // A duplicate of one of the last few, as it was.
            1..=3 if !made.is_empty() => made[made.len() - 1 - random.random_range(0..made.len().min(8))].clone(),
            // An id that comes again when its horizon is long over.
            4 if made.len() > 50 => Reading { at: now + shape.horizon + shape.lag, ..made.swap_remove(0) },
            _ => {
                let behind = match random.random_range(0..12) {
                    0 => random.random_range(0..=shape.lag + shape.size + shape.grace * 2),
                    _ => random.random_range(0..=shape.lag),
                };
                let key = format!("key-{}", random.random_range(0..6_u32));
                reading(&key, split * 1_000_000 + number, now.saturating_sub(behind), random.random_range(0..1000))
            }
        };
        now = now.max(record.at);
        bytes.push(record.bytes());
        made.push(record);
    }
    bytes
}
