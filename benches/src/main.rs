//! `make bench`: how fast the engine is on this machine, beside what the machine allows.
//!
//! *Enters*: workloads generated once and kept, and records made in memory. *Leaves*: results as data beside the build, the
//! report in `docs`, a table on stdout. A goal that is missed is a figure, not a failure; the exit code is not 0 only where a
//! run fails or where programs that compute the same disagree on a row.
//!
//! # Rooms
//! * [`stats`], [`results`], [`report`]: pure; what was measured, and what is made of it.
//! * [`child`], [`digest`], [`input`]: a program measured, its rows compared, what it reads.
//! * [`throughput`]: programs that do the same work, run in turns. [`made`]: records made in memory, and the engine's jobs over
//!   them. [`limits`]: the same jobs without the engine.
//! * [`suite`]: the rows that are speeds, group by group. [`kinesis`]: the source beside a bare loop.
//! * [`paced`], [`recovery`], [`idle`], [`start`]: latency at a steady rate, time from a crash to the first new result, cost
//!   of doing nothing, time to begin.
//! * [`parts`]: what the micro-benchmarks of `make bench-parts` said.
//! * [`records`], [`nothing`]: small things that jobs of several rooms read and write.

mod child;
mod cli;
mod digest;
mod idle;
mod input;
mod kinesis;
mod limits;
mod made;
mod nothing;
mod paced;
mod parts;
mod records;
mod recovery;
mod report;
mod results;
mod sinks;
mod start;
mod stats;
mod suite;
mod throughput;

use std::process::ExitCode;

/// The allocator of `metering`: the limits must not lose by theirs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
