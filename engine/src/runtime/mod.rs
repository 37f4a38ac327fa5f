//! Runs a job: configuration, workers, the beat, the commit, and how it is told to stop.
//!
//! What enters is a program and its settings; what leaves is committed results and, in the end, an exit code. What survives
//! a crash lies in the state folder that the settings name.

mod args;
mod attempt;
mod beat;
mod commit;
pub mod config;
mod exporter;
#[cfg(feature = "failpoints")]
mod failpoints;
mod identity;
mod job;
pub mod logging;
mod memory;
mod plan;
mod recover;
pub mod shutdown;
mod threads;
mod worker;

pub use args::JobArgs;
pub use attempt::Summary;
pub use commit::CommitInfo;
pub use config::{JobConfig, Restart};
pub use exporter::serve_metrics;
pub use job::Job;
pub use logging::init_logging;
pub use shutdown::Shutdown;
