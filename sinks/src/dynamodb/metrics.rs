//! What this sink counts beside what every sink of batches does.

use metrics::{Counter, Unit, counter, describe_counter};
use shardflow::vocabulary::StepName;

/// The names of the metrics of this sink.
pub mod names {
    /// Counter, label step: guarded writes that were not needed, since the table had a later state of the item.
    pub const SUPERSEDED: &str = "shardflow_dynamodb_superseded_total";
    /// Counter, label step: times that the pace of writing was lowered since the table was too busy.
    pub const SLOWED: &str = "shardflow_dynamodb_slowed_total";
    /// Counter, label step: calls made to find the records that a batch was refused for.
    pub const SEARCHES: &str = "shardflow_dynamodb_searches_total";
}

/// Tells the installed recorder the units and meanings of this sink's metrics. Done at each start of it.
pub(super) fn describe() {
    describe_counter!(names::SUPERSEDED, Unit::Count, "Writes not needed, since the table had a later state");
    describe_counter!(names::SLOWED, Unit::Count, "Times that the pace of writing was lowered");
    describe_counter!(names::SEARCHES, Unit::Count, "Calls made to find the records that a batch was refused for");
}

/// The metrics of one sink.
#[derive(Clone)]
pub(super) struct ItemMetrics {
    pub(super) superseded: Counter,
    pub(super) slowed: Counter,
    pub(super) searches: Counter,
}

impl ItemMetrics {
    pub(super) fn register(step: &StepName) -> Self {
        let count = |name: &'static str| counter!(name, "step" => step.to_string());
        Self { superseded: count(names::SUPERSEDED), slowed: count(names::SLOWED), searches: count(names::SEARCHES) }
    }
}
