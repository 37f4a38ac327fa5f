//! Charges from usage records: what a team that bills by the minute would run.
//!
//! In comes a JSON object a line or a record, `{"id","account","meter","qty","at"}`. Out go, committed only, the charges
//! of each account, meter and window of event time; the records that came too late; and those that are no usage
//! records, with the reason. A crash at any moment changes none of the three.
//!
//! # Rooms
//! * [`types`], [`decode`]: what flows.
//! * [`cli`], [`config`], [`stream`], [`run`]: the program. [`outputs`], [`connect`], [`archive`]: its other sinks.
//! * [`workload`], [`generate`]: records made from a seed, with duplicates, disorder, late and broken ones.
//! * [`mod@reference`]: the same results computed again from the input files, without the engine, and compared.
//! * [`report`], [`demo`]: the job as a child process on an embedded Kinesis, killed and audited.

pub mod archive;
pub mod cli;
pub mod config;
pub mod connect;
pub mod decode;
pub mod demo;
pub mod generate;
pub mod output;
pub mod outputs;
pub mod reference;
pub mod report;
pub mod run;
pub mod stream;
pub mod types;
pub mod workload;
