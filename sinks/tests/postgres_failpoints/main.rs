//! The sinks for PostgreSQL and Redshift stopped at each of their named points, then started again. Points are a process's, so
//! these tests have one of their own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at what must not happen")]

mod postgres;
mod redshift;
#[path = "../postgres/support/mod.rs"]
mod support;
