//! shardflow: stream processing in Rust, exactly once, in event time.

pub mod decode;
mod error;
pub mod metrics;
pub mod sink;
pub mod source;
pub mod vocabulary;

pub mod event_time;
pub mod exchange;
pub mod flow;
mod operators;
pub mod runtime;
pub mod snapshot;
pub mod state;
pub mod testing;
pub mod window;

pub use decode::{Decoder, Rejected, json, lines};
pub use error::{Error, ErrorKind, Outcome, Result};
pub use event_time::Lag;
pub use flow::{Flow, KeyedStream, Stream, Untimed};
pub use operators::WindowResult;
pub use runtime::{CommitInfo, Job, JobArgs, Restart, Summary, init_logging};
pub use vocabulary::{Epoch, Event, EventTime, Key, Record, State, Window, days, hours, millis, minutes, seconds};
pub use window::{sliding, tumbling};
