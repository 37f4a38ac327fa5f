//! Event time: how far each split has come, and how far time has come for all of them.
//!
//! *Enters*: the event times of a split's records, in order; what becomes of splits (opened, idle, ended, retired).
//! *Leaves*: each record's watermark, and the least watermark that any split still holds.
//! *Survives a crash*: a split's watermark, stored with each epoch by the event-time operator. Idleness does not: a
//! restarted job waits for an idle split as for any other, until it is found idle again.

mod board;
mod fruitless;
mod silence;
mod split_clock;

pub use board::WatermarkBoard;
pub use fruitless::Fruitless;
pub use silence::Silence;
pub use split_clock::{Lag, SplitClock};
