//! What the tests share: a proxy that breaks connections to a server, the engine's side of a sink, a job in a process of its own, and
//! what stands in for Redshift's `COPY`.
#![allow(dead_code, reason = "another binary uses a part")]

pub(crate) mod engine;
pub(crate) mod pg_proxy;
pub(crate) mod process;
pub(crate) mod redshift;
