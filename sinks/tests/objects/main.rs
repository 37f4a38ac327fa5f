//! The object sink: its promise on stores in memory, on a disk and on S3, its formats, and what it refuses.
#![cfg(feature = "objects")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at what must not happen")]

mod azure;
mod common;
mod faults;
#[cfg(all(feature = "avro", feature = "parquet"))]
mod foreign;
#[cfg(all(feature = "avro", feature = "parquet"))]
mod formats;
mod metrics;
mod port;
mod random;
#[cfg(all(feature = "avro", feature = "parquet"))]
mod readers;
mod s3;
mod throughput;
mod wide;
