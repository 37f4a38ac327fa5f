//! What sources and sinks of Amazon's services share: where the configuration comes from, what a failed call means, and the
//! format of the Kinesis Producer Library.
//!
//! The engine does not know this crate. It lies below the connectors, so that sources and sinks need not meet.
//!
//! Retries are ours and not the SDK's, which would hide throttling from the pacing and end too soon.

pub mod config;
pub mod connect;
pub mod failure;
pub mod hash;
pub mod kpl;
