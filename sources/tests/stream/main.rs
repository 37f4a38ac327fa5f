//! Operating a stream: the library and the command, against an embedded Kinesis and a scripted one, both on loopback.
#![cfg(feature = "kinesis")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

#[cfg(feature = "cli")]
mod command;
#[cfg(feature = "cli")]
mod command_put;
mod emulator;
mod follow;
mod put;
mod put_faults;
mod reshard;
mod reshard_faults;
mod scripted;
