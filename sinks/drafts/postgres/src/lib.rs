//! Sinks that write to PostgreSQL and Redshift.

mod frame;
pub mod postgres;
pub mod redshift;

pub use postgres::{Postgres, PostgresSink, postgres};
