//! A test kit for programs, and conformance suites: what a source or a sink must keep to, as code that any implementation
//! can run in its tests.
//!
//! Public, and in every build, so that the tests of a user's program and of a user's own source or sink have it. It is for tests:
//! what a job relies on, such as the right to commit ([`sink::permit`]), is made here for the asking.

mod kit;
pub mod sink;
pub mod source;

pub use kit::{Collected, Feed};
