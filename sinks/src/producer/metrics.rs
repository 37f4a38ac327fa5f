//! What a producer counts, through the crate `metrics`. Every metric has the label `stream`, and in a sink `step` and `worker`.
//!
//! The aggregation ratio is `shardflow_producer_records_total` divided by `shardflow_producer_stream_records_total`; how it is
//! spread, the histogram of records a stream record.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label, Unit};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use shardflow::metrics::{CallUnderWay, DeliveryMetrics};

use super::answers::Retried;

/// The names of the metrics of producers.
pub mod names {
    /// Counter: records that were put.
    pub const PUTS: &str = "shardflow_producer_puts_total";
    /// Counter: records that are in the stream.
    pub const RECORDS: &str = "shardflow_producer_records_total";
    /// Counter: bytes of those, data and partition key.
    pub const BYTES: &str = "shardflow_producer_bytes_total";
    /// Counter: stream records that were sent, again included. Fewer than records where these are packed.
    pub const STREAM_RECORDS: &str = "shardflow_producer_stream_records_total";
    /// Histogram: records in a stream record.
    pub const PACKED: &str = "shardflow_producer_packed_records";
    /// Counter: records that are refused for good.
    pub const REFUSED: &str = "shardflow_producer_refused_total";
    /// Counter: records that could not be put.
    pub const FAILED: &str = "shardflow_producer_failed_total";
    /// Counter, label cause (`throttled`, `failed`, `credentials`): how often a record was to be sent again.
    pub const RETRIES: &str = "shardflow_producer_retries_total";
    /// Gauge: bytes of records that are put and not at their end.
    pub const BUFFERED: &str = "shardflow_producer_buffered_bytes";
    /// Gauge: PutRecords calls that are under way.
    pub const CALLS: &str = "shardflow_producer_calls_in_flight";
    /// Histogram: how long a call took, in seconds.
    pub const CALL_SECONDS: &str = "shardflow_producer_call_seconds";
    /// Histogram: from put until the record was in the stream, in seconds.
    pub const PUT_SECONDS: &str = "shardflow_producer_put_seconds";
    /// Counter: listings of the shards, because records came to lie in another than predicted.
    pub const LISTINGS: &str = "shardflow_producer_listings_total";
}

/// Tells the installed recorder the units and meanings of these metrics.
pub fn describe() {
    describe_counter!(names::PUTS, Unit::Count, "Records that were put");
    describe_counter!(names::RECORDS, Unit::Count, "Records that are in the stream");
    describe_counter!(names::BYTES, Unit::Bytes, "Bytes of the records that are in the stream");
    describe_counter!(names::STREAM_RECORDS, Unit::Count, "Stream records that were sent");
    describe_histogram!(names::PACKED, Unit::Count, "Records in a stream record");
    describe_counter!(names::REFUSED, Unit::Count, "Records that are refused for good");
    describe_counter!(names::FAILED, Unit::Count, "Records that could not be put");
    describe_counter!(names::RETRIES, Unit::Count, "How often a record was to be sent again");
    describe_gauge!(names::BUFFERED, Unit::Bytes, "Bytes of records that are put and not at their end");
    describe_gauge!(names::CALLS, Unit::Count, "PutRecords calls that are under way");
    describe_histogram!(names::CALL_SECONDS, Unit::Seconds, "How long a call took");
    describe_histogram!(names::PUT_SECONDS, Unit::Seconds, "From put until the record was in the stream");
    describe_counter!(names::LISTINGS, Unit::Count, "Listings of the shards after a record came to lie elsewhere");
}

/// The handles of one producer.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(super) puts: Counter,
    pub(super) buffered: Gauge,
    pub(super) listings: Counter,
    records: Counter,
    bytes: Counter,
    stream_records: Counter,
    packed: Histogram,
    refused: Counter,
    failed: Counter,
    throttled: Counter,
    transient: Counter,
    credentials: Counter,
    calls: Gauge,
    call_seconds: Histogram,
    put_seconds: Histogram,
    /// Those of the sink that it works for.
    sink: Option<DeliveryMetrics>,
}

impl Metrics {
    /// Registers them with these labels.
    pub(crate) fn register(labels: &[Label], sink: Option<DeliveryMetrics>) -> Self {
        let labels = || labels.to_vec();
        let retries = |cause: &'static str| {
            counter!(names::RETRIES, labels().into_iter().chain([Label::new("cause", cause)]).collect::<Vec<_>>())
        };
        Self {
            puts: counter!(names::PUTS, labels()),
            buffered: gauge!(names::BUFFERED, labels()),
            listings: counter!(names::LISTINGS, labels()),
            records: counter!(names::RECORDS, labels()),
            bytes: counter!(names::BYTES, labels()),
            stream_records: counter!(names::STREAM_RECORDS, labels()),
            packed: histogram!(names::PACKED, labels()),
            refused: counter!(names::REFUSED, labels()),
            failed: counter!(names::FAILED, labels()),
            throttled: retries("throttled"),
            transient: retries("failed"),
            credentials: retries("credentials"),
            calls: gauge!(names::CALLS, labels()),
            call_seconds: histogram!(names::CALL_SECONDS, labels()),
            put_seconds: histogram!(names::PUT_SECONDS, labels()),
            sink,
        }
    }

    /// A call begins, with so many records in each stream record. It is over when what this gives is dropped.
    pub(super) fn call(&self, packed: impl Iterator<Item = usize>) -> (CallUnderWay, Option<CallUnderWay>) {
        for records in packed {
            self.stream_records.increment(1);
            self.packed.record(records as f64);
        }
        (CallUnderWay::begin(&self.calls), self.sink.as_ref().map(DeliveryMetrics::call))
    }

    /// It was answered.
    pub(super) fn answered(&self, took: Duration, retried: Retried) {
        self.call_seconds.record(took.as_secs_f64());
        self.throttled.increment(retried.throttled);
        self.transient.increment(retried.failed);
        self.credentials.increment(retried.credentials);
        if let Some(sink) = &self.sink {
            sink.seconds.record(took.as_secs_f64());
            sink.retries.throttled.increment(retried.throttled);
            sink.retries.failed.increment(retried.failed);
            sink.retries.credentials.increment(retried.credentials);
        }
    }

    /// A record of so many bytes is in the stream.
    pub(super) fn placed(&self, bytes: usize, took: Duration) {
        self.records.increment(1);
        self.bytes.increment(bytes as u64);
        self.put_seconds.record(took.as_secs_f64());
        if let Some(sink) = &self.sink {
            sink.records.increment(1);
            sink.bytes.increment(bytes as u64);
        }
    }

    /// A record is refused.
    pub(crate) fn refused(&self) {
        self.refused.increment(1);
        if let Some(sink) = &self.sink {
            sink.refused.increment(1);
        }
    }

    /// A record could not be put.
    pub(super) fn failed(&self) {
        self.failed.increment(1);
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
