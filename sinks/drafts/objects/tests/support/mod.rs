//! What the tests share: real servers started for a test, and a proxy that breaks what passes through it.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]

pub(crate) mod fault_proxy;
pub(crate) mod ministack;
pub(crate) mod servers;
pub(crate) mod tls;
