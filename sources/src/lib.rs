//! Sources for shardflow: [`Files`] and, with the feature `kinesis` (on by default), [`Kinesis`].
//!
//! What enters: the settings a user passes to `flow.source(name, …)`. What leaves: batches of raw records, each with
//! the position after it. What survives a crash: nothing here. The engine stores the positions with its epochs and
//! hands them back; a source is a pure function of its settings, the outside world and those positions.

pub mod files;
#[cfg(feature = "kcl")]
pub mod kcl;
#[cfg(feature = "kinesis")]
pub mod kinesis;
#[cfg(feature = "kinesis")]
pub mod stream;
#[cfg(feature = "zookeeper")]
pub mod zookeeper;

pub use files::Files;
#[cfg(feature = "kinesis")]
pub use kinesis::{Kinesis, OnExpired, Others, ReadMode, ShardStarts, Start};
#[cfg(feature = "kinesis")]
pub use shardflow_aws::kpl;
