//! What the tests share: real servers started for a test, and a proxy that breaks what passes through it.
//!
//! Each server is a child process that ends with the value that stands for it: keep it in the test, never in a `static`,
//! whose value is not dropped.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "for tests alone, which may panic")]
#![allow(missing_docs, reason = "not published, and what has no words says it by its name")]

pub mod azurite;
pub mod dynalite;
pub mod fault_proxy;
pub mod hook;
pub mod kill;
pub mod kinesis_local;
pub mod log;
pub mod ministack;
pub mod postgres;
pub mod redshift;
pub mod sdk;
pub mod search;
pub mod servers;
pub mod stand;
pub mod tls;
pub mod zookeeper;
