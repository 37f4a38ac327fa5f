//! The small programs, one for each sink, as processes that are killed in the midst of their work.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod forward;
mod programs;
mod redshift;
mod search;
mod watch;
mod webhook;
