//! What the tests share: real servers started for a test, and a proxy that breaks what passes through it.
//!
//! Each server is a child process that ends with the value that stands for it: keep it in the test, never in a `static`,
//! whose value is not dropped.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]

pub(crate) mod fault_proxy;
pub(crate) mod kinesis_local;
pub(crate) mod ministack;
pub(crate) mod sdk;
pub(crate) mod servers;
pub(crate) mod stand;
pub(crate) mod tls;
pub(crate) mod zookeeper;
