//! The metering job: `metering run`, `metering generate`, `metering demo`.

use std::process::ExitCode;

/// Small records from many threads: made on one worker and freed on another, which the system's allocator does slowly.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    shardflow_examples::metering::cli::main()
}
