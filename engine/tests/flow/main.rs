//! The engine as a user's program sees it: jobs on sources and sinks in memory, run, stopped, broken and started again.
//!
//! One crate with a module a topic, so that the engine is linked once. Nothing here sleeps to wait for something: a test
//! waits for a commit ([`support::Running::until`]) or for its sink or source ([`support::sink`], [`support::source`]), and
//! every wait ends with a failure after [`support::DEADLINE`].
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "in a test a panic is the report")]

mod support;

mod aggregates;
mod backpressure;
mod dedupe;
mod epochs;
mod explain;
mod grace;
mod idle;
mod ids;
mod metrics;
mod operators;
mod panes;
mod panics;
mod process;
mod random;
mod restart_policy;
mod restarts;
mod running;
mod sink_failures;
mod source_failures;
mod start;
mod store_lost;
