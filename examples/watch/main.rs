//! Shows on the console which account used most in each minute: results in the program's own thread, committed ones alone.
//!
//! ```sh
//! cargo run --release --bin watch -- --input usage --state state
//! ```
//!
//! The files in `usage/` hold lines like `{"account":"acme","at":1700000000000,"units":7}`, with `at` in milliseconds since
//! 1970. Every total goes to standard output as a line of JSON, and the leaders to standard error.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;

use clap::Parser;
use serde::{Deserialize, Serialize};
use shardflow::{EventTime, Job, JobArgs, Lag, init_logging, json, minutes, seconds, tumbling};
use shardflow_sinks::{Receiver, channel, files, stdout};
use shardflow_sources::Files;

/// Shows which account used most in each minute.
#[derive(Debug, Parser)]
struct Args {
    /// The folder with the input.
    #[arg(long)]
    input: PathBuf,
    /// The folder for lines that are no usage.
    #[arg(long, default_value = "rejected")]
    rejected: PathBuf,
    /// The engine's own settings.
    #[command(flatten)]
    job: JobArgs,
}

/// A record.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Usage {
    account: String,
    at: u64,
    units: u64,
}

/// A minute of an account.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Total {
    minute: u64,
    account: String,
    units: u128,
}

fn main() -> shardflow::Result<()> {
    init_logging()?;
    let Args { input, rejected, job } = Args::parse();
    let (totals, receiver) = channel(10_000);
    let watching = thread::spawn(move || watch(receiver));
    let summary = Job::named("watch").args(job).run(move |flow| {
        let (usage, rejects) = flow.source("usage", Files::new(&input)).decode(json::<Usage>());
        rejects.sink("rejected", files(&rejected));
        let minutes = usage
            .event_time(|usage| EventTime::from_millis(usage.at), Lag::of(seconds(5)))
            .key_by(|usage| usage.account.clone())
            .window(tumbling(minutes(1)).grace(seconds(0)))
            .discard_late()
            .sum("minutes", |usage| usage.units)
            .map(|w| Total { minute: w.window.start().as_millis(), account: w.key, units: w.value });
        minutes.clone().sink("console", stdout());
        minutes.sink("watched", totals.clone());
    })?;
    tracing::info!(committed = ?summary.committed, "stopped");
    // The job is over, and with it the channel: the thread sees its end.
    if watching.join().is_err() {
        tracing::error!("the thread that watches has panicked");
    }
    Ok(())
}

/// Tells who leads a minute, each time that somebody else does.
fn watch(mut receiver: Receiver<Total>) {
    let mut leaders: BTreeMap<u64, u128> = BTreeMap::new();
    for Total { minute, account, units } in receiver.records() {
        let most = leaders.entry(minute).or_default();
        if units > *most {
            *most = units;
            eprintln!("minute {minute}: {account} leads with {units}");
        }
    }
}
