//! shardflow: stream processing in Rust, exactly once, in event time.
//!
//! # One record's journey
//! A program describes its job on a [`Flow`]; [`Job::run`] builds it on every worker.
//!
//! 1. A [`source`] is cut into splits (files, shards), each read in order by one reader on one worker. Records come in
//!    batches, and go into the epoch that is open.
//! 2. A [`Decoder`] makes a value of the bytes, or a [`Rejected`] that says why not and where.
//! 3. [`event_time`] stamps each record with its time and its split's watermark. How far time has come for the whole job
//!    is the least watermark of all splits, and travels in timely's timestamps: `(epoch, event time)`.
//! 4. [`Stream::key_by`] hashes the key; the [`exchange`] sends the record to the worker that owns its key group.
//! 5. Stateful steps ([`KeyedStream::dedupe`], [windows](window), [`KeyedStream::running`], [`KeyedStream::process`]) take epochs in order. What they
//!    keep lies in typed maps ([`state`]) that know what changed.
//! 6. A [`sink`] stages results out of sight.
//! 7. When an epoch is over, positions, changes and handles of what was staged go into one durable batch ([`snapshot`]).
//!    Only then do results become visible, and only then is the epoch free: at most three are open, unless the job says more ([`runtime`]).
//!
//! After a crash the job goes on from the last batch, with any number of workers.
//!
//! # Examples
//! ```
//! use shardflow::testing::{Collected, Feed};
//! use shardflow::{EventTime, Job, Lag, lines, millis, tumbling};
//!
//! let feed = Feed::new();
//! for line in ["1 a", "4 b", "12 a", "13 a"] {
//!     feed.push("split-0", line);
//! }
//! feed.close();
//! let totals = Collected::new();
//! let (source, sink) = (feed.clone(), totals.clone());
//! let state = tempfile::tempdir().expect("a temporary folder");
//! Job::named("letters").workers(2).state(state.path()).run(move |flow| {
//!     let (letters, rejected) = flow.source("letters", source.clone()).decode(lines());
//!     rejected.sink("rejected", Collected::new());
//!     letters
//!         .event_time(|line| EventTime::from_millis(line[..line.len() - 2].parse().unwrap_or(0)), Lag::of(millis(5)))
//!         .key_by(|line| line[line.len() - 1..].to_owned())
//!         .window(tumbling(millis(10)).grace(millis(0)))
//!         .discard_late()
//!         .count("totals")
//!         .map(|result| (result.key, result.window.start().as_millis(), result.value))
//!         .sink("counts", sink.clone());
//! })?;
//! let mut counts = totals.values();
//! counts.sort();
//! assert_eq!(counts, [("a".to_owned(), 0, 1), ("a".to_owned(), 10, 2), ("b".to_owned(), 0, 1)]);
//! # Ok::<(), shardflow::Error>(())
//! ```

pub mod decode;
mod error;
pub mod metrics;
pub mod retry;
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

pub use decode::{Decoder, RawRecord, Rejected, Sourced, json, lines};
pub use error::{Error, ErrorKind, Outcome, Result};
pub use event_time::Lag;
pub use flow::{Flow, KeyedStream, Stream, Untimed};
pub use operators::{KeyContext, KeyedLogic, RunningResult, WindowResult};
pub use runtime::{CommitInfo, Job, JobArgs, Restart, Summary, init_logging};
pub use vocabulary::{
    Epoch, Event, EventTime, Key, Record, RecordId, State, Window, days, hours, millis, minutes, seconds,
};
pub use window::{sliding, tumbling};
