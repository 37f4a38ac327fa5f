//! `shardflow stream …`: look at an Amazon Kinesis data stream, follow it, fill it, reshard it.
//!
//! What is asked for goes to standard output, everything else (progress, summaries, errors) to standard error. Exit code 0:
//! done; 1: it failed, and one line says what; 2: the command line is wrong. Standard output that is closed (by `head`) ends
//! the command without a word.

mod args;
mod consumers;
mod describe;
mod json;
mod lines;
mod out;
mod put;
mod reading;
mod reshard;
mod tail;

use std::process::ExitCode;

use clap::Parser;
use shardflow_sources::stream::Stream;
use tracing_subscriber::EnvFilter;

use args::{Cli, Of, Task};
use out::Stop;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let Of::Stream(task) = cli.of;
    match run(task).await {
        Ok(()) | Err(Stop::NobodyReads) => ExitCode::SUCCESS,
        Err(Stop::Failed(why)) => {
            eprintln!("shardflow: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn run(task: Task) -> Result<(), Stop> {
    let open = async |place: &args::Place| Stream::open(&place.settings()).await;
    match task {
        Task::Describe(args) => describe::run(&open(&args.place).await?, &args).await,
        Task::Tail(args) => tail::run(&open(&args.place).await?, &args).await,
        Task::Put(args) => put::run(&open(&args.place).await?, &args).await,
        Task::Reshard(args) => reshard::run(&open(&args.place).await?, &args).await,
        Task::Consumers { task } => consumers::run(&open(&task.place().clone()).await?, &task).await,
    }
}
