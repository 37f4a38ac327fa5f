//! Where results go: [`files()`], exactly once, and [`stdout()`], at least once.
//!
//! Each sink keeps the engine's three steps: *stage* out of sight, *prepare* a handle for the epoch's durable batch,
//! *commit* once that batch is written. What a crash leaves behind is settled by `recover`, before the next start reads.

pub mod files;
mod format;
mod frame;
mod stdout;

pub use files::{FileSink, files};
pub use format::{Format, Lines, Ndjson};
pub use stdout::{Stdout, stdout};
