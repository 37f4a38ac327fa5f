//! Trying again: how long to wait after a failed call, when to give up, and what to tell of it. For sources and sinks.
//!
//! What enters: failures, each with its kind. What leaves: waits that grow, with chance in them, or the failure given back.
//! What survives a crash: nothing; a new start tries anew.

mod backoff;
mod retries;

pub use backoff::{Backoff, Failed};
pub use retries::{Clock, Failing, Retries, WallClock, counter};
