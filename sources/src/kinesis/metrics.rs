//! What this source counts beside what every source does. One handle a shard.

use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge};
use shardflow::retry::Failed;
use shardflow::vocabulary::StepName;

use super::batches::Opened;

/// The names of the metrics of this source.
pub mod names {
    /// Counter, labels step, split and outcome (`ok`, `throttled`, `failed`, `expired`): calls for records, or events of a
    /// subscription.
    pub const CALLS: &str = "shardflow_kinesis_calls_total";
    /// Gauge, labels step and split: how long ago the last record that was read arrived at the stream, in milliseconds; 0 at
    /// the end of the shard. What CloudWatch calls the iterator's age.
    pub const ITERATOR_AGE: &str = "shardflow_kinesis_iterator_age_milliseconds";
    /// Counter, labels step and split: aggregated records that were opened.
    pub const AGGREGATES: &str = "shardflow_kinesis_aggregates_total";
    /// Counter, labels step and split: records that begin as an aggregate and are none; they are delivered as they are.
    pub const MALFORMED_AGGREGATES: &str = "shardflow_kinesis_malformed_aggregates_total";
    /// Counter, labels step and split: records that were given again and dropped.
    pub const REPEATED: &str = "shardflow_kinesis_repeated_records_total";
    /// Counter, labels step and split: subscriptions of enhanced fan-out.
    pub const SUBSCRIPTIONS: &str = "shardflow_kinesis_subscriptions_total";
}

/// Tells the installed recorder the units and meanings of this source's metrics. Done at each start of it.
pub(crate) fn describe() {
    describe_counter!(names::CALLS, Unit::Count, "Calls for records, or events of a subscription");
    describe_gauge!(names::ITERATOR_AGE, Unit::Milliseconds, "How long ago the last record read arrived at the stream");
    describe_counter!(names::AGGREGATES, Unit::Count, "Aggregated records that were opened");
    describe_counter!(names::MALFORMED_AGGREGATES, Unit::Count, "Records that only begin as an aggregate");
    describe_counter!(names::REPEATED, Unit::Count, "Records that were given again and dropped");
    describe_counter!(names::SUBSCRIPTIONS, Unit::Count, "Subscriptions of enhanced fan-out");
}

/// The metrics of one shard.
#[derive(Clone)]
pub(crate) struct ShardMetrics {
    ok: Counter,
    throttled: Counter,
    failed: Counter,
    expired: Counter,
    iterator_age: Gauge,
    aggregates: Counter,
    malformed: Counter,
    repeated: Counter,
    subscriptions: Counter,
}

impl ShardMetrics {
    /// Registers them for a shard of the source `step`.
    pub(crate) fn register(step: &StepName, shard: &str) -> Self {
        let labels = || [("step", step.to_string()), ("split", shard.to_owned())];
        let calls = |outcome: &'static str| counter!(names::CALLS, "step" => step.to_string(), "split" => shard.to_owned(), "outcome" => outcome);
        Self {
            ok: calls("ok"),
            throttled: calls("throttled"),
            failed: calls("failed"),
            expired: calls("expired"),
            iterator_age: gauge!(names::ITERATOR_AGE, &labels()),
            aggregates: counter!(names::AGGREGATES, &labels()),
            malformed: counter!(names::MALFORMED_AGGREGATES, &labels()),
            repeated: counter!(names::REPEATED, &labels()),
            subscriptions: counter!(names::SUBSCRIPTIONS, &labels()),
        }
    }

    /// A call gave an answer, or a subscription an event.
    pub(crate) fn answered(&self) {
        self.ok.increment(1);
    }

    /// A call failed.
    pub(crate) fn failed(&self, failed: Failed) {
        match failed {
            Failed::Throttled => self.throttled.increment(1),
            Failed::Transient | Failed::Credentials => self.failed.increment(1),
        }
    }

    /// A call found that its iterator had expired.
    pub(crate) fn expired(&self) {
        self.expired.increment(1);
    }

    /// How long ago the last record that was read arrived, in milliseconds.
    pub(crate) fn iterator_age(&self, millis: u64) {
        self.iterator_age.set(millis as f64);
    }

    /// Records were opened.
    pub(crate) fn opened(&self, opened: Opened) {
        self.aggregates.increment(opened.aggregates);
        self.malformed.increment(opened.malformed);
    }

    /// Records were given again.
    pub(crate) fn repeated(&self, records: usize) {
        self.repeated.increment(records as u64);
    }

    /// A subscription began.
    pub(crate) fn subscribed(&self) {
        self.subscriptions.increment(1);
    }
}
