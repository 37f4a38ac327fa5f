//! What the tests share: stand-ins for Kinesis, and a proxy that breaks what passes through it.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]

pub(crate) mod fault_proxy;
pub(crate) mod kinesis_local;
pub(crate) mod large;
pub(crate) mod sdk;
pub(crate) mod servers;
pub(crate) mod streams;
pub(crate) mod tls;
