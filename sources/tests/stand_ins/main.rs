//! The Kinesis source against stand-ins by other people, and through a proxy that breaks what passes; and that proxy itself.
#![cfg(feature = "kinesis")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod exactly;
mod fan_out_faults;
mod fault_proxy;
mod job;
mod large;
#[cfg(feature = "kcl")]
mod leases;
mod reshards;
mod servers;
#[cfg(feature = "zookeeper")]
mod spout;
