//! Where results go: [`files()`], exactly once; [`stdout()`] and [`channel()`], which hands them to the program's own threads,
//! at least once. Your own service takes a `shardflow::sink::BatchWriter` and `at_least_once`.
//!
//! Each sink keeps the engine's three steps: *stage* out of sight, *prepare* a handle for the epoch's durable batch,
//! *commit* once that batch is written. What a crash leaves behind is settled by `recover`, before the next start reads.

pub mod channel;
pub mod files;
mod format;
mod frame;
mod stdout;

pub use channel::{ChannelSink, Receiver, channel};
pub use files::{FileSink, files};
pub use format::{Format, Lines, Ndjson};
pub use stdout::{Stdout, stdout};
