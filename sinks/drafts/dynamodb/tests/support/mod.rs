//! What the tests share: real servers started for a test, and a proxy that breaks what passes through it.
#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]

pub(crate) mod dynalite;
pub(crate) mod fault_proxy;
#[path = "../../sources/tests/support/ministack.rs"]
pub(crate) mod ministack;
#[path = "../../sources/tests/support/servers.rs"]
pub(crate) mod servers;
#[path = "../../sources/tests/support/tls.rs"]
pub(crate) mod tls;
