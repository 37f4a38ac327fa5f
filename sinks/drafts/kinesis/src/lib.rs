//! Where results go: [`kinesis()`], at least once; and [`producer`], the library under it, for programs outside of a flow.

pub mod kinesis;
pub mod producer;

pub use kinesis::{KinesisSink, kinesis};
pub use producer::{Producer, ProducerSettings};
