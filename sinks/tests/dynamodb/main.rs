//! The DynamoDB sink against real servers, through a proxy that breaks calls, and through its port.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at what must not happen")]

mod conformance;
mod exactly;
mod faults;
mod hot_keys;
mod job;
mod metrics;
mod reader;
mod refused;
mod stand;
mod start;
