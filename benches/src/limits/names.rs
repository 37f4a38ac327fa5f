//! What the limits are called in results and report: goals name them.

pub(crate) const PLAIN_1: &str = "plain Rust, 1 thread";
pub(crate) const PLAIN_2: &str = "plain Rust, 2 threads";
pub(crate) const TIMELY_1: &str = "raw timely, 1 worker";
pub(crate) const TIMELY_2: &str = "raw timely, 2 workers";
/// A loop of GetRecords with the SDK alone.
pub(crate) const BARE_SDK: &str = "bare SDK loop";
/// An encoder with one file behind it.
pub(crate) const FILE_WRITER: &str = "encoder and one file";
/// COPY with the driver alone.
pub(crate) const BARE_COPY: &str = "bare COPY";
/// PutRecords with the SDK alone.
pub(crate) const BARE_PUT: &str = "bare PutRecords loop";
