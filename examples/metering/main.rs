//! The metering job.
fn main() {}
