//! A test kit for programs, and conformance suites for sources and sinks.

mod kit;

pub use kit::{Collected, Feed};
