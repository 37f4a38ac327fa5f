//! `make bench`: how fast the metering job is on this machine, beside what the machine allows.
//!
//! *Enters*: a workload generated once and kept. *Leaves*: one table on stdout, each figure with its goal. A goal that is
//! missed is a figure, not a failure; the exit code is not 0 only where a run fails or where programs that compute the
//! same disagree on a row.
//!
//! # Rooms
//! * [`stats`], [`results`], [`report`]: pure; what was measured, and what is made of it.
//! * [`child`], [`digest`], [`input`]: a program measured, its rows compared, what it reads.
//! * [`throughput`]: records a second, beside the [`limits`]: the same job without the engine.
//! * [`paced`], [`idle`], [`start`]: latency at a steady rate, cost of doing nothing, time to begin.

mod child;
mod cli;
mod digest;
mod idle;
mod input;
mod limits;
mod memory;
mod paced;
mod report;
mod results;
mod start;
mod stats;
mod throughput;

use std::process::ExitCode;

/// The allocator of `metering`: the limits must not lose by theirs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
