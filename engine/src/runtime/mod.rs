//! Runs a job: its configuration, its metrics endpoint, its logs and how it is told to stop.
//!
//! What enters is the program's settings, what leaves is a running job and, in the end, an exit code. Nothing here
//! survives a crash but the state folder that the settings name.

mod args;
pub mod config;
pub mod exporter;
pub mod logging;
pub mod shutdown;

pub use args::JobArgs;
pub use config::{JobConfig, Restart};
pub use exporter::serve_metrics;
pub use logging::init_logging;
pub use shutdown::Shutdown;
