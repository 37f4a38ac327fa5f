//! A test kit for programs, and conformance suites: what a source or a sink must keep to, as code that any implementation
//! can run in its tests.

mod kit;
pub mod sink;
pub mod source;

pub use kit::{Collected, Feed};
