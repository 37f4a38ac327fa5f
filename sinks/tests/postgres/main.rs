//! The sinks for PostgreSQL and Redshift on a real PostgreSQL, whole, through a proxy that breaks connections, and killed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at what must not happen")]

mod faults;
mod job;
mod metrics;
mod port;
mod random;
mod redshift;
mod redshift_job;
mod refused;
mod rows;
mod start;
mod support;
