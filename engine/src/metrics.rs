//! The one registry of metrics: names, units, and handles that operators hold.
//!
//! Handles are made once, when a step is built, and used per batch or per epoch, never per record. Nothing is recorded
//! anywhere unless a recorder is installed (see `runtime`, which installs the Prometheus exporter on request).

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::vocabulary::{Epoch, EventTime};

const RECORDS_IN: &str = "shardflow_records_in_total";
const RECORDS_OUT: &str = "shardflow_records_out_total";
const REJECTED: &str = "shardflow_rejected_records_total";
const LATE: &str = "shardflow_late_records_total";
const DUPLICATES: &str = "shardflow_duplicate_records_total";
const WATERMARK: &str = "shardflow_split_watermark_seconds";
const WATERMARK_LAG: &str = "shardflow_split_watermark_lag_seconds";
const BEHIND: &str = "shardflow_split_behind_seconds";
const OPEN_EPOCHS: &str = "shardflow_open_epochs";
const COMMITTED_EPOCH: &str = "shardflow_committed_epoch";
const CLOSE_SECONDS: &str = "shardflow_epoch_close_seconds";
const COMMIT_SECONDS: &str = "shardflow_epoch_commit_seconds";
const SNAPSHOT_BYTES: &str = "shardflow_snapshot_bytes";
const SNAPSHOT_KEYS: &str = "shardflow_snapshot_keys";
const STATE_ENTRIES: &str = "shardflow_state_entries";
const STORE_BYTES: &str = "shardflow_store_bytes";
const STASH_RECORDS: &str = "shardflow_stash_records";
const SINK_IN_FLIGHT: &str = "shardflow_sink_in_flight_bytes";
const IN_FLIGHT: &str = "shardflow_in_flight_bytes";

/// Tells the recorder what each metric means. Called once a recorder is installed.
pub(crate) fn describe() {
    describe_counter!(RECORDS_IN, Unit::Count, "Records that a step took in");
    describe_counter!(RECORDS_OUT, Unit::Count, "Records that a step sent on");
    describe_counter!(REJECTED, Unit::Count, "Records that could not be decoded");
    describe_counter!(LATE, Unit::Count, "Records that came after all their windows had been closed");
    describe_counter!(DUPLICATES, Unit::Count, "Records whose id had been seen");
    describe_gauge!(WATERMARK, Unit::Seconds, "A split's watermark, in seconds since 1970");
    describe_gauge!(WATERMARK_LAG, Unit::Seconds, "How far a split's watermark is behind the wall clock");
    describe_gauge!(BEHIND, Unit::Seconds, "How far a split's reader is behind the end of the split");
    describe_gauge!(OPEN_EPOCHS, Unit::Count, "Epochs that are not committed, the current one included");
    describe_gauge!(COMMITTED_EPOCH, Unit::Count, "The last committed epoch");
    describe_histogram!(CLOSE_SECONDS, Unit::Seconds, "From the beat that ended an epoch to its last part's arrival");
    describe_histogram!(COMMIT_SECONDS, Unit::Seconds, "From an epoch's last part's arrival to its visibility");
    describe_histogram!(SNAPSHOT_BYTES, Unit::Bytes, "Bytes of changed state in an epoch");
    describe_histogram!(SNAPSHOT_KEYS, Unit::Count, "Changed keys of a step in an epoch");
    describe_gauge!(STATE_ENTRIES, Unit::Count, "Entries in a step's live state, per worker");
    describe_gauge!(STORE_BYTES, Unit::Bytes, "Bytes in the state folder's base and changelogs");
    describe_gauge!(STASH_RECORDS, Unit::Count, "Records that wait for their epoch, per step");
    describe_gauge!(SINK_IN_FLIGHT, Unit::Bytes, "Bytes that a sink has staged and not prepared, per worker");
    describe_gauge!(IN_FLIGHT, Unit::Bytes, "Bytes between the exchange and the step that takes them");
}

fn step_label(step: &str) -> String {
    step.to_owned()
}

/// Records rejected by a source's decoder.
pub(crate) fn rejected(step: &str) -> Counter {
    counter!(REJECTED, "step" => step_label(step))
}

/// Records late at a window step.
pub(crate) fn late(step: &str) -> Counter {
    counter!(LATE, "step" => step_label(step))
}

/// Records dropped by a dedupe step.
pub(crate) fn duplicates(step: &str) -> Counter {
    counter!(DUPLICATES, "step" => step_label(step))
}

/// Records in and out of a step.
pub(crate) struct StepMetrics {
    records_in: Counter,
    records_out: Counter,
}

impl StepMetrics {
    pub(crate) fn new(step: &str) -> Self {
        Self {
            records_in: counter!(RECORDS_IN, "step" => step_label(step)),
            records_out: counter!(RECORDS_OUT, "step" => step_label(step)),
        }
    }

    /// A batch went through.
    pub(crate) fn records(&self, taken: usize, sent: usize) {
        self.records_in.increment(taken as u64);
        self.records_out.increment(sent as u64);
    }
}

/// How far a split is.
pub(crate) struct SplitMetrics {
    watermark: Gauge,
    lag: Gauge,
}

impl SplitMetrics {
    pub(crate) fn new(step: &str, split: &str) -> Self {
        Self {
            watermark: gauge!(WATERMARK, "step" => step_label(step), "split" => split.to_owned()),
            lag: gauge!(WATERMARK_LAG, "step" => step_label(step), "split" => split.to_owned()),
        }
    }

    /// The split's watermark, and the wall clock's time.
    pub(crate) fn watermark(&self, watermark: EventTime, now: Duration) {
        let seconds = watermark.as_millis() as f64 / 1000.0;
        self.watermark.set(seconds);
        self.lag.set(now.as_secs_f64() - seconds);
    }
}

/// How far a split's reader is behind.
pub(crate) fn behind(step: &str, split: &str) -> Gauge {
    gauge!(BEHIND, "step" => step_label(step), "split" => split.to_owned())
}

/// Epochs.
pub(crate) struct EpochMetrics {
    open: Gauge,
    committed: Gauge,
    close: Histogram,
    commit: Histogram,
    in_flight: Gauge,
}

impl EpochMetrics {
    pub(crate) fn new() -> Self {
        Self {
            open: gauge!(OPEN_EPOCHS),
            committed: gauge!(COMMITTED_EPOCH),
            close: histogram!(CLOSE_SECONDS),
            commit: histogram!(COMMIT_SECONDS),
            in_flight: gauge!(IN_FLIGHT),
        }
    }

    /// An epoch is whole, so long after the beat that ended it.
    pub(crate) fn closed(&self, took: Duration) {
        self.close.record(took.as_secs_f64());
    }

    /// An epoch is committed; `open` are open.
    pub(crate) fn committed(&self, epoch: Epoch, open: u64, took: Duration, in_flight: i64) {
        self.committed.set(epoch.number() as f64);
        self.open.set(open as f64);
        self.commit.record(took.as_secs_f64());
        self.in_flight.set(in_flight as f64);
    }
}

/// What a durable batch held.
pub(crate) struct SnapshotMetrics {
    bytes: Histogram,
    store: Gauge,
}

impl SnapshotMetrics {
    pub(crate) fn new() -> Self {
        Self { bytes: histogram!(SNAPSHOT_BYTES), store: gauge!(STORE_BYTES) }
    }

    /// A batch of so many bytes was written; the store holds `store` bytes.
    pub(crate) fn batch(&self, bytes: usize, store: u64) {
        self.bytes.record(bytes as f64);
        self.store.set(store as f64);
    }
}

/// A step's live state on one worker.
pub(crate) struct StateMetrics {
    entries: Gauge,
    keys: Histogram,
}

impl StateMetrics {
    pub(crate) fn new(step: &str, worker: usize) -> Self {
        Self {
            entries: gauge!(STATE_ENTRIES, "step" => step_label(step), "worker" => worker.to_string()),
            keys: histogram!(SNAPSHOT_KEYS, "step" => step_label(step)),
        }
    }

    /// So many entries are live, and so many changed in the epoch.
    pub(crate) fn epoch(&self, entries: usize, changed: usize) {
        self.entries.set(entries as f64);
        self.keys.record(changed as f64);
    }
}

/// What waits for its epoch.
pub(crate) struct StashMetrics {
    records: Gauge,
}

impl StashMetrics {
    pub(crate) fn new(step: &str) -> Self {
        Self { records: gauge!(STASH_RECORDS, "step" => step_label(step)) }
    }

    pub(crate) fn add(&self, records: usize) {
        self.records.increment(records as f64);
    }

    pub(crate) fn remove(&self, records: usize) {
        self.records.decrement(records as f64);
    }
}

/// What a sink has staged on one worker.
pub(crate) struct SinkMetrics {
    in_flight: Gauge,
}

impl SinkMetrics {
    pub(crate) fn new(step: &str, worker: usize) -> Self {
        Self { in_flight: gauge!(SINK_IN_FLIGHT, "step" => step_label(step), "worker" => worker.to_string()) }
    }

    pub(crate) fn in_flight(&self, bytes: u64) {
        self.in_flight.set(bytes as f64);
    }
}
