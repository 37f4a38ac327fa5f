//! Runs a job: configuration, workers, the beat, the commit.

mod attempt;
mod beat;
mod commit;
mod config;
mod job;
mod metrics_exporter;
mod shutdown;
mod worker;

pub use attempt::Summary;
pub use commit::CommitInfo;
pub use config::{JobArgs, JobConfig, Restart};
pub use job::Job;
pub use shutdown::Shutdown;
