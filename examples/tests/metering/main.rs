//! The programs `metering` and `ordered` as processes: whole runs against the reference, SIGKILL at named points and at random times, on
//! files and on an embedded Kinesis, refusals, and stops.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "in a test a panic is the report")]

mod books;
mod crash;
mod explain;
mod kinesis;
mod ordered;
mod process;
mod producer;
mod random;
mod refusals;
mod refused_streams;
mod sinks;
mod stops;
mod whole;
