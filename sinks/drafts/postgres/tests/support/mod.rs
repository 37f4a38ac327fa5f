//! What the tests of the postgres sink share: a real server, and a proxy that breaks connections to it.
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod pg_proxy;
pub(crate) mod postgres;
