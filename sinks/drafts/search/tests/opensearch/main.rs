//! The search sink against a strict stand-in for OpenSearch and Elasticsearch, and the stand-in against their own clients.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test may stop at what must not happen"
)]

#[path = "../support/log.rs"]
mod log;
#[path = "../support/search_stub/mod.rs"]
mod search_stub;
#[path = "../../sources/tests/support/mod.rs"]
mod support;

mod clients;
mod conformance;
mod exact;
mod example;
mod faults;
mod nodes;
mod place;
mod refusals;
mod secrets;
mod start;
mod targets;
