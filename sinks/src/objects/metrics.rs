//! What this sink counts beside what every delivering sink does.

use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};
use metrics::{describe_counter, describe_gauge, describe_histogram};

/// Gauge, labels step and worker: bytes in the open spool file.
const SPOOLED: &str = "shardflow_sink_spooled_bytes";
/// Gauge, labels step: committed bytes that are not shipped.
const UNSHIPPED: &str = "shardflow_sink_unshipped_bytes";
/// Counter, labels step: objects that are there, without manifests.
const OBJECTS: &str = "shardflow_sink_objects_total";
/// Histogram, labels step: how long shipping a spool file took, in seconds.
const SHIP_SECONDS: &str = "shardflow_sink_ship_seconds";

/// The open spool file of a worker, of which there is none yet: an earlier start in this process may have left another value.
pub(super) fn spooled(step: &str, worker: u32) -> Gauge {
    let spooled = gauge!(SPOOLED, "step" => step.to_owned(), "worker" => worker.to_string());
    spooled.set(0.0);
    spooled
}

/// What shipping counts.
#[derive(Debug, Clone)]
pub(super) struct ShippingMetrics {
    pub(super) unshipped: Gauge,
    pub(super) objects: Counter,
    pub(super) seconds: Histogram,
}

impl ShippingMetrics {
    pub(super) fn register(step: &str) -> Self {
        describe_gauge!(SPOOLED, Unit::Bytes, "bytes in a worker's open spool file");
        describe_gauge!(UNSHIPPED, Unit::Bytes, "committed bytes that are not shipped");
        describe_counter!(OBJECTS, "objects that were shipped");
        describe_histogram!(SHIP_SECONDS, Unit::Seconds, "how long shipping a spool file took");
        let unshipped = gauge!(UNSHIPPED, "step" => step.to_owned());
        unshipped.set(0.0);
        Self {
            unshipped,
            objects: counter!(OBJECTS, "step" => step.to_owned()),
            seconds: histogram!(SHIP_SECONDS, "step" => step.to_owned()),
        }
    }
}
