//! The webhook sink against a receiver on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test may stop at what must not happen"
)]

mod calls;
mod conformance;
mod failures;
mod secrets;

use serde::{Deserialize, Serialize};
use shardflow::sink::Refused;
use shardflow::testing::Collected;
use shardflow::testing::sink::{Driver, Promise};
use shardflow_sinks::{Webhook, webhook};
use tokio::runtime::Runtime;

use shardflow_stand_ins::hook::{Got, Hook};

/// What is sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Alert {
    n: u64,
}

fn alert(n: u64) -> Alert {
    Alert { n }
}

/// A receiver, and where the sink's calls run.
struct Place {
    hook: Hook,
    io: Runtime,
}

impl Place {
    fn new() -> Self {
        let io = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { hook: io.block_on(Hook::start()), io }
    }

    fn alerts(&self) -> Webhook<Alert> {
        alerts(self.hook.endpoint())
    }

    /// The numbers that were taken, with repeats.
    fn numbers(&self) -> Vec<u64> {
        self.hook.taken().iter().flat_map(numbers).collect()
    }

    fn job(&self, sink: Webhook<Alert>) -> Driver<'_, Alert> {
        Driver::new(Promise::AtLeastOnce, Box::new(sink), alert, || self.numbers())
    }
}

fn alerts(endpoint: &str) -> Webhook<Alert> {
    webhook(format!("{endpoint}/alerts")).id(|alert: &Alert| format!("alert-{}", alert.n))
}

/// The numbers in a call: one record, an array or lines.
fn numbers(got: &Got) -> Vec<u64> {
    let text = std::str::from_utf8(&got.body).unwrap();
    if text.starts_with('[') {
        return serde_json::from_str::<Vec<Alert>>(text).unwrap().into_iter().map(|alert| alert.n).collect();
    }
    text.lines().map(|line| serde_json::from_str::<Alert>(line).unwrap().n).collect()
}

fn with_refused(sink: Webhook<Alert>) -> (Webhook<Alert>, Collected<Refused>) {
    let refused = Collected::new();
    (sink.rejected_to(refused.clone()), refused)
}
