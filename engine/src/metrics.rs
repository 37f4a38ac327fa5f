//! The job's metrics: their names, and the handles that the other rooms hold.
//!
//! Everything goes through the crate `metrics`, so a program that installs a recorder of its own (StatsD, OpenTelemetry)
//! before the job starts gets the same metrics; it calls [`describe`] to have their units too. Handles are registered
//! once, when an operator is built, and used once a batch: counting costs no lookup, and one atomic addition for
//! thousands of records. Without a recorder they do nothing.
//!
//! Counters count from the start of the process, so a record that is read again after a crash is counted again.

pub use metrics::Counter;
use std::cell::OnceCell;

use metrics::{Gauge, Histogram, Unit, counter, gauge, histogram};
use metrics::{describe_counter, describe_gauge, describe_histogram};

use crate::vocabulary::{EventTime, SplitId, StepName};

/// The names of all metrics. Public, so that dashboards and alerts can be generated from them.
pub mod names {
    /// Counter, labels step: records that entered a step.
    pub const RECORDS_IN: &str = "shardflow_records_in_total";
    /// Counter, labels step: records that left a step.
    pub const RECORDS_OUT: &str = "shardflow_records_out_total";
    /// Counter, labels step: records that came after their window had closed.
    pub const LATE: &str = "shardflow_late_total";
    /// Counter, labels step: records that could not be decoded.
    pub const REJECTED: &str = "shardflow_rejected_total";
    /// Counter, labels step: records that were dropped because their id had been seen.
    pub const DUPLICATES: &str = "shardflow_duplicates_total";
    /// Gauge, labels step and split: the watermark, in milliseconds since 1970.
    pub const WATERMARK: &str = "shardflow_watermark_milliseconds";
    /// Gauge, labels step and split: wall clock minus watermark, in milliseconds.
    pub const WATERMARK_LAG: &str = "shardflow_watermark_lag_milliseconds";
    /// Counter, labels step and split: records that were read from a split.
    pub const SPLIT_RECORDS: &str = "shardflow_split_records_total";
    /// Counter, labels step and split: bytes of those records.
    pub const SPLIT_BYTES: &str = "shardflow_split_bytes_total";
    /// Counter, labels step: splits that were moved from one worker to another.
    pub const SPLIT_MOVES: &str = "shardflow_split_moves_total";
    /// Gauge, labels step and split: how far reading is behind the split's end, in milliseconds, as its source says.
    pub const BEHIND: &str = "shardflow_behind_milliseconds";
    /// Counter, labels step: stored positions whose next records the source no longer keeps. Not 0: records may be lost.
    pub const POSITION_EXPIRED: &str = "shardflow_position_expired_total";
    /// Counter, labels step and cause (`throttled`, `failed`, `credentials`): calls of a source that are made again.
    pub const SOURCE_RETRIES: &str = "shardflow_source_retries_total";
    /// Gauge: epochs that are open.
    pub const EPOCHS_OPEN: &str = "shardflow_epochs_open";
    /// Histogram: from an epoch's end at the sources until all its input has been worked off, in seconds.
    pub const EPOCH_CLOSE: &str = "shardflow_epoch_close_seconds";
    /// Histogram: from then until it is committed, in seconds.
    pub const EPOCH_COMMIT: &str = "shardflow_epoch_commit_seconds";
    /// Counter: epochs that were committed.
    pub const EPOCHS_COMMITTED: &str = "shardflow_epochs_committed_total";
    /// Histogram: bytes that an epoch's snapshot wrote.
    pub const SNAPSHOT_BYTES: &str = "shardflow_snapshot_bytes";
    /// Histogram: keys that an epoch changed.
    pub const SNAPSHOT_KEYS: &str = "shardflow_snapshot_keys";
    /// Gauge, labels step and worker: entries of state.
    pub const STATE_ENTRIES: &str = "shardflow_state_entries";
    /// Gauge, labels step and worker: bytes of state in memory, without what keys and values own on the heap.
    pub const STATE_BYTES: &str = "shardflow_state_bytes";
    /// Gauge, labels step and worker: records that wait for their epoch.
    pub const STASH_RECORDS: &str = "shardflow_stash_records";
    /// Gauge, labels step and worker: bytes staged in a sink and not yet prepared.
    pub const SINK_IN_FLIGHT: &str = "shardflow_sink_in_flight_bytes";
    /// Counter, labels step and worker: records that a service has taken.
    pub const SINK_RECORDS: &str = "shardflow_sink_records_total";
    /// Counter, labels step and worker: their bytes.
    pub const SINK_BYTES: &str = "shardflow_sink_bytes_total";
    /// Counter, labels step and worker: records that a service refused for good.
    pub const SINK_REFUSED: &str = "shardflow_sink_refused_total";
    /// Gauge, labels step and worker: calls to a service that are on their way.
    pub const SINK_CALLS: &str = "shardflow_sink_calls_in_flight";
    /// Histogram, labels step and worker: how long a call took, in seconds.
    pub const SINK_CALL_SECONDS: &str = "shardflow_sink_call_seconds";
    /// Counter, labels step and cause (`throttled`, `failed`, `credentials`): calls of a sink that are made again.
    pub const SINK_RETRIES: &str = "shardflow_sink_retries_total";
    /// Gauge: bytes between the exchange and the keyed steps, estimated.
    pub const IN_FLIGHT: &str = "shardflow_in_flight_bytes";
    /// Gauge: bytes in the state folder, base and changelogs.
    pub const STORE_BYTES: &str = "shardflow_store_bytes";
}

/// Records in and out of a step.
#[derive(Debug, Clone)]
pub struct StepMetrics {
    /// Records that entered.
    pub records_in: Counter,
    /// Records that left.
    pub records_out: Counter,
}

impl StepMetrics {
    /// Registers them for `step`.
    #[must_use]
    pub fn register(step: &StepName) -> Self {
        let records_in = counter!(names::RECORDS_IN, "step" => step.to_string());
        let records_out = counter!(names::RECORDS_OUT, "step" => step.to_string());
        Self { records_in, records_out }
    }

    /// A batch went through.
    pub fn batch(&self, taken: usize, sent: usize) {
        self.records_in.increment(taken as u64);
        self.records_out.increment(sent as u64);
    }
}

/// Counts the late records of a window step: they came after their window had closed.
pub fn late(step: &StepName) -> Counter {
    counter!(names::LATE, "step" => step.to_string())
}

/// Counts the records that a source's decoder rejected.
pub fn rejected(step: &StepName) -> Counter {
    counter!(names::REJECTED, "step" => step.to_string())
}

/// Counts the records that a dedupe step dropped, because their id had been seen.
pub fn duplicates(step: &StepName) -> Counter {
    counter!(names::DUPLICATES, "step" => step.to_string())
}

/// How far event time has come in a split.
#[derive(Debug, Clone)]
pub struct SplitTimeMetrics {
    watermark_ms: Gauge,
    watermark_lag_ms: Gauge,
}

impl SplitTimeMetrics {
    /// Registers them for a split of the source `step`.
    #[must_use]
    pub fn register(step: &StepName, split: &SplitId) -> Self {
        Self {
            watermark_ms: gauge!(names::WATERMARK, "step" => step.to_string(), "split" => split.to_string()),
            watermark_lag_ms: gauge!(names::WATERMARK_LAG, "step" => step.to_string(), "split" => split.to_string()),
        }
    }

    /// Sets the watermark and its lag behind `now`.
    pub fn watermark(&self, watermark: EventTime, now: EventTime) {
        self.watermark_ms.set(watermark.as_millis() as f64);
        self.watermark_lag_ms.set(now.as_millis().saturating_sub(watermark.as_millis()) as f64);
    }

    /// The split has ended: nothing lags any more. Without this an ended shard would look stuck for ever.
    pub fn ended(&self) {
        self.watermark_lag_ms.set(0.0);
    }
}

/// What is read from a split.
#[derive(Debug, Clone)]
pub struct SplitMetrics {
    records: Counter,
    bytes: Counter,
}

impl SplitMetrics {
    /// Registers them for a split of the source `step`.
    #[must_use]
    pub fn register(step: &StepName, split: &SplitId) -> Self {
        Self {
            records: counter!(names::SPLIT_RECORDS, "step" => step.to_string(), "split" => split.to_string()),
            bytes: counter!(names::SPLIT_BYTES, "step" => step.to_string(), "split" => split.to_string()),
        }
    }

    /// A batch was read.
    pub fn read(&self, records: usize, bytes: usize) {
        self.records.increment(records as u64);
        self.bytes.increment(bytes as u64);
    }
}

/// Counts the splits of a source that were moved from one worker to another.
pub fn split_moves(step: &StepName) -> Counter {
    counter!(names::SPLIT_MOVES, "step" => step.to_string())
}

/// How far reading is behind a split's end. Of a split whose source does not know there is no such metric.
#[derive(Debug, Clone)]
pub struct BehindMetric {
    step: StepName,
    split: SplitId,
    millis: OnceCell<Gauge>,
}

impl BehindMetric {
    /// For a split of the source `step`; registered when it is first set.
    #[must_use]
    pub fn of(step: &StepName, split: &SplitId) -> Self {
        Self { step: step.clone(), split: split.clone(), millis: OnceCell::new() }
    }

    /// Sets it.
    pub fn set(&self, millis: u64) {
        let register = || gauge!(names::BEHIND, "step" => self.step.to_string(), "split" => self.split.to_string());
        self.millis.get_or_init(register).set(millis as f64);
    }

    /// The split has ended: nothing is behind any more.
    pub fn ended(&self) {
        if let Some(millis) = self.millis.get() {
            millis.set(0.0);
        }
    }
}

/// What a source meets that its user should know of. For sources to count with.
#[derive(Debug, Clone)]
pub struct SourceMetrics {
    /// Stored positions whose next records the source no longer keeps.
    pub position_expired: Counter,
    /// Calls that are made again.
    pub retries: RetryMetrics,
}

impl SourceMetrics {
    /// Registers them for the source `step`.
    #[must_use]
    pub fn register(step: &StepName) -> Self {
        Self {
            position_expired: counter!(names::POSITION_EXPIRED, "step" => step.to_string()),
            retries: RetryMetrics::of(names::SOURCE_RETRIES, step),
        }
    }
}

/// Calls that are made again, by their cause.
#[derive(Debug, Clone)]
pub struct RetryMetrics {
    /// Because the service asked to slow down.
    pub throttled: Counter,
    /// Because of the network or a fault of the service.
    pub failed: Counter,
    /// Because credentials had run out or the clocks differ.
    pub credentials: Counter,
}

impl RetryMetrics {
    fn of(name: &'static str, step: &StepName) -> Self {
        let cause = |cause: &'static str| counter!(name, "step" => step.to_string(), "cause" => cause);
        Self { throttled: cause("throttled"), failed: cause("failed"), credentials: cause("credentials") }
    }

    /// Counts nothing that anybody sees: for calls outside of a job.
    #[must_use]
    pub fn unseen() -> Self {
        Self { throttled: Counter::noop(), failed: Counter::noop(), credentials: Counter::noop() }
    }
}

/// The life of epochs. One a process.
#[derive(Debug, Clone)]
pub struct EpochMetrics {
    /// Epochs that are open.
    pub open: Gauge,
    /// From an epoch's end at the sources until all its input has been worked off, in seconds.
    pub close_seconds: Histogram,
    /// From then until it is committed, in seconds.
    pub commit_seconds: Histogram,
    /// Epochs that were committed.
    pub committed: Counter,
    /// Bytes between the exchange and the keyed steps, estimated.
    pub in_flight_bytes: Gauge,
}

impl EpochMetrics {
    /// Registers them.
    #[must_use]
    pub fn register() -> Self {
        Self {
            open: gauge!(names::EPOCHS_OPEN),
            close_seconds: histogram!(names::EPOCH_CLOSE),
            commit_seconds: histogram!(names::EPOCH_COMMIT),
            committed: counter!(names::EPOCHS_COMMITTED),
            in_flight_bytes: gauge!(names::IN_FLIGHT),
        }
    }
}

/// What an epoch's snapshot writes. One a process.
#[derive(Debug, Clone)]
pub struct SnapshotMetrics {
    /// Bytes an epoch.
    pub bytes: Histogram,
    /// Changed keys of a step and worker an epoch.
    pub keys: Histogram,
    /// Bytes in the state folder.
    pub store_bytes: Gauge,
}

impl SnapshotMetrics {
    /// Registers them.
    #[must_use]
    pub fn register() -> Self {
        Self {
            bytes: histogram!(names::SNAPSHOT_BYTES),
            keys: histogram!(names::SNAPSHOT_KEYS),
            store_bytes: gauge!(names::STORE_BYTES),
        }
    }
}

/// The state that a worker holds for a step.
#[derive(Debug, Clone)]
pub struct StateMetrics {
    /// Entries.
    pub entries: Gauge,
    /// Bytes in memory.
    pub bytes: Gauge,
}

impl StateMetrics {
    /// Registers them for a step on a worker.
    #[must_use]
    pub fn register(step: &StepName, worker: usize) -> Self {
        Self {
            entries: of_worker(names::STATE_ENTRIES, step, worker),
            bytes: of_worker(names::STATE_BYTES, step, worker),
        }
    }
}

/// What a stateful step keeps back for later epochs.
#[derive(Debug, Clone)]
pub struct StashMetrics {
    /// Records that wait.
    pub records: Gauge,
}

impl StashMetrics {
    /// Registers it for a step on a worker.
    #[must_use]
    pub fn register(step: &StepName, worker: usize) -> Self {
        Self { records: of_worker(names::STASH_RECORDS, step, worker) }
    }
}

/// What a sink has taken and not yet prepared.
#[derive(Debug, Clone)]
pub struct SinkMetrics {
    /// Bytes.
    pub in_flight_bytes: Gauge,
}

impl SinkMetrics {
    /// Registers it for a sink on a worker.
    #[must_use]
    pub fn register(step: &StepName, worker: usize) -> Self {
        Self { in_flight_bytes: of_worker(names::SINK_IN_FLIGHT, step, worker) }
    }
}

/// What a sink that calls a service does with it.
#[derive(Debug, Clone)]
pub struct DeliveryMetrics {
    /// Records that the service has taken.
    pub records: Counter,
    /// Their bytes.
    pub bytes: Counter,
    /// Records that it refused for good.
    pub refused: Counter,
    /// Calls that are on their way.
    pub calls: Gauge,
    /// How long a call took, in seconds.
    pub seconds: Histogram,
    /// Calls that are made again.
    pub retries: RetryMetrics,
}

impl DeliveryMetrics {
    /// Registers them for a sink on a worker.
    #[must_use]
    pub fn register(step: &StepName, worker: usize) -> Self {
        let count = |name: &'static str| counter!(name, "step" => step.to_string(), "worker" => worker.to_string());
        Self {
            records: count(names::SINK_RECORDS),
            bytes: count(names::SINK_BYTES),
            refused: count(names::SINK_REFUSED),
            calls: of_worker(names::SINK_CALLS, step, worker),
            seconds: histogram!(names::SINK_CALL_SECONDS, "step" => step.to_string(), "worker" => worker.to_string()),
            retries: RetryMetrics::of(names::SINK_RETRIES, step),
        }
    }

    /// A call begins; it is over when what this gives is dropped.
    pub fn call(&self) -> CallUnderWay {
        self.calls.increment(1.0);
        CallUnderWay(self.calls.clone())
    }
}

/// A call that is on its way. It ends with this value, also where nobody waits for its answer any more.
#[must_use]
#[derive(Debug)]
pub struct CallUnderWay(Gauge);

impl Drop for CallUnderWay {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

// A gauge that each worker sets for itself needs the worker as a label, or they would overwrite one another.
fn of_worker(name: &'static str, step: &StepName, worker: usize) -> Gauge {
    gauge!(name, "step" => step.to_string(), "worker" => worker.to_string())
}

/// Tells the installed recorder the units and meanings of all metrics.
pub fn describe() {
    describe_counter!(names::RECORDS_IN, Unit::Count, "Records that entered the step");
    describe_counter!(names::RECORDS_OUT, Unit::Count, "Records that left the step");
    describe_counter!(names::LATE, Unit::Count, "Records that came after their window had closed");
    describe_counter!(names::REJECTED, Unit::Count, "Records that could not be decoded");
    describe_counter!(names::DUPLICATES, Unit::Count, "Records dropped because their id had been seen");
    describe_gauge!(names::WATERMARK, Unit::Milliseconds, "Watermark of the split since 1970");
    describe_gauge!(names::WATERMARK_LAG, Unit::Milliseconds, "Wall clock minus watermark of the split");
    describe_counter!(names::SPLIT_RECORDS, Unit::Count, "Records that were read from the split");
    describe_counter!(names::SPLIT_BYTES, Unit::Bytes, "Bytes of the records that were read from the split");
    describe_counter!(names::SPLIT_MOVES, Unit::Count, "Splits that were moved from one worker to another");
    describe_gauge!(names::BEHIND, Unit::Milliseconds, "How far reading is behind the end of the split");
    describe_counter!(names::POSITION_EXPIRED, Unit::Count, "Stored positions whose next records are no longer kept");
    describe_counter!(names::SOURCE_RETRIES, Unit::Count, "Calls of the source that are made again");
    describe_gauge!(names::EPOCHS_OPEN, Unit::Count, "Epochs that are open");
    describe_histogram!(names::EPOCH_CLOSE, Unit::Seconds, "From the end of an epoch until it is worked off");
    describe_histogram!(names::EPOCH_COMMIT, Unit::Seconds, "From there until the epoch is committed");
    describe_counter!(names::EPOCHS_COMMITTED, Unit::Count, "Epochs that were committed");
    describe_histogram!(names::SNAPSHOT_BYTES, Unit::Bytes, "Bytes that the snapshot of an epoch wrote");
    describe_histogram!(names::SNAPSHOT_KEYS, Unit::Count, "Keys that an epoch changed");
    describe_gauge!(names::STATE_ENTRIES, Unit::Count, "Entries of state");
    describe_gauge!(names::STATE_BYTES, Unit::Bytes, "Bytes of state in memory");
    describe_gauge!(names::STASH_RECORDS, Unit::Count, "Records that wait for their epoch");
    describe_gauge!(names::IN_FLIGHT, Unit::Bytes, "Bytes between the exchange and the keyed steps, estimated");
    describe_gauge!(names::STORE_BYTES, Unit::Bytes, "Bytes in the state folder");
    describe_counter!(names::SINK_RECORDS, Unit::Count, "Records that the sink's service has taken");
    describe_counter!(names::SINK_BYTES, Unit::Bytes, "Bytes of the records that the sink's service has taken");
    describe_counter!(names::SINK_REFUSED, Unit::Count, "Records that the sink's service refused for good");
    describe_gauge!(names::SINK_CALLS, Unit::Count, "Calls to the sink's service that are on their way");
    describe_histogram!(names::SINK_CALL_SECONDS, Unit::Seconds, "How long a call to the sink's service took");
    describe_counter!(names::SINK_RETRIES, Unit::Count, "Calls to the sink's service that are made again");
    describe_gauge!(names::SINK_IN_FLIGHT, Unit::Bytes, "Bytes staged in the sink and not yet prepared");
}
