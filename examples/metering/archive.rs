//! What goes to an object store: every usage record as it came in, and charges and bills as Parquet.
//!
//! The archive holds each record that was read once, with its place in the source, in a folder an hour of event time. Objects
//! are named after the shard and the sequence numbers that are in them. What is no usage is in the folder `rejected` of the
//! job's output, and not here.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shardflow::decode::Sourced;
use shardflow::{EventTime, Record};
use shardflow_sinks::encode::arrow_schema::{DataType, TimeUnit};
use shardflow_sinks::{ObjectSink, Origin, Parquet, objects};

use super::connect::Bill;
use super::outputs::{Output, SinkSpec, Target, steps};
use super::types::{AsItCame, Charge, Received};

/// How long the archive collects records into one object. Charges and bills do not wait: they are results.
const COLLECTED_FOR: Duration = Duration::from_secs(60);

/// A usage record in the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archived {
    /// Names the use.
    pub id: String,
    /// Who pays.
    pub account: String,
    /// What was used.
    pub meter: String,
    /// How much.
    pub qty: u64,
    /// When, by the record: milliseconds since 1970.
    pub at: u64,
    /// The record as it came, to the letter.
    pub raw: String,
    /// The shard, or the file.
    pub split: String,
    /// The sequence number, or the offset.
    pub position: String,
    /// The key that its producer spread it by.
    pub partition_key: Option<String>,
    /// When it arrived at the stream: milliseconds since 1970.
    pub arrived_at: Option<u64>,
}

impl From<Sourced<Received>> for Archived {
    fn from(sourced: Sourced<Received>) -> Self {
        let Sourced { value, split, position, meta, source: _ } = sourced;
        let usage = value.usage.clone();
        Self {
            id: usage.id.to_string(),
            account: usage.account.to_string(),
            meter: usage.meter.to_string(),
            qty: usage.qty,
            at: usage.at,
            // It was read from JSON.
            raw: serde_json::to_string(&AsItCame(value)).unwrap_or_default(),
            split: split.to_string(),
            position,
            partition_key: meta.partition_key,
            arrived_at: meta.arrived.map(EventTime::as_millis),
        }
    }
}

/// The archives of `--sink archive=…`, with the names of their steps. `source` is how objects are called: the stream's name.
#[must_use]
pub fn sinks(sinks: &[SinkSpec], source: &str) -> Vec<(String, ObjectSink<Archived, Parquet>)> {
    let archive = |(step, spec): (String, &SinkSpec)| match (spec.output, &spec.target) {
        (Output::Archive, Target::Store(url)) => Some((step, archive(url, source))),
        _ => None,
    };
    steps(sinks).into_iter().zip(sinks).filter_map(archive).collect()
}

fn archive(url: &str, source: &str) -> ObjectSink<Archived, Parquet> {
    objects(url)
        .archive(source, |record: &Archived| Origin { shard: &record.split, sequence: &record.position })
        .partitioned_by("dt={yyyy-MM-dd}/hour={HH}")
        .event_time(|record| EventTime::from_millis(record.at))
        .format(Parquet::of::<Archived>().column("at", millis()).column("arrived_at", millis()))
        .roll_after(COLLECTED_FOR)
}

/// A charge in an object store. What Arrow has no number for is a decimal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredCharge {
    account: String,
    meter: String,
    window_start: u64,
    window_end: u64,
    qty: String,
    count: u64,
    max: u64,
}

impl From<Charge> for StoredCharge {
    fn from(charge: Charge) -> Self {
        Self {
            account: charge.account.into(),
            meter: charge.meter.into(),
            window_start: charge.window_start,
            window_end: charge.window_end,
            qty: charge.qty.to_string(),
            count: charge.count,
            max: charge.max,
        }
    }
}

/// Charges in a folder a day.
pub fn charges(url: &str) -> ObjectSink<StoredCharge, Parquet> {
    let format = Parquet::of::<StoredCharge>().column("window_start", millis()).column("window_end", millis());
    let sink = objects(url).partitioned_by("dt={yyyy-MM-dd}");
    let sink = sink.event_time(|charge: &StoredCharge| EventTime::from_millis(charge.window_start));
    results(sink.format(format.column("qty", decimal())))
}

/// A state of a bill in an object store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredBill {
    account: String,
    charges: u64,
    qty: String,
    billed_until: u64,
}

impl From<Bill> for StoredBill {
    fn from(bill: Bill) -> Self {
        let Bill { account, charges, qty, billed_until } = bill;
        Self { account: account.into(), charges, qty: qty.to_string(), billed_until }
    }
}

/// Every state that a bill was in; of an account, the one of most charges is the last.
pub fn bills(url: &str) -> ObjectSink<StoredBill, Parquet> {
    let format = Parquet::of::<StoredBill>().column("billed_until", millis()).column("qty", decimal());
    results(objects(url).format(format))
}

/// Results are visible when they are committed. What has no place in a column is kept beside them.
fn results<T: Record>(sink: ObjectSink<T, Parquet>) -> ObjectSink<T, Parquet> {
    sink.roll_after(Duration::ZERO).keep_rejected()
}

fn millis() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// The widest decimal that readers have.
fn decimal() -> DataType {
    DataType::Decimal128(38, 0)
}
