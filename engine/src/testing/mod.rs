//! A test kit for programs, and conformance suites for sources and sinks.

mod kit;
pub mod sink;

pub use kit::{Collected, Feed};
