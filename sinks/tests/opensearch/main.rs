//! The search sink against a strict stand-in for OpenSearch and Elasticsearch, and the stand-in against their own clients.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test may stop at what must not happen"
)]

mod clients;
mod conformance;
mod exact;
mod faults;
mod metrics;
mod nodes;
mod place;
mod refusals;
mod secrets;
mod start;
mod targets;
