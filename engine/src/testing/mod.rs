//! Conformance suites: what a source or a sink must keep to, as code that any implementation can run in its tests.

pub mod source;
