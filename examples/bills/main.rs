//! Keeps a running bill of each account in a table of DynamoDB, exact whatever happens to the job.
//!
//! ```sh
//! cargo run --release --bin bills -- --input usage --table bills --state state
//! ```
//!
//! The files in `usage/` hold lines like `{"account":"acme","cents":7}`. The table, whose partition key is the text `account`,
//! ends with one item an account: what it owes, and of how many records. That number is the item's version: an item is
//! replaced only by one of more records, so that neither a replay nor a process that should be dead takes it back. What the
//! table refuses lies in `refused/`, with the reason.

use std::path::PathBuf;

use clap::Parser;
use serde::{Deserialize, Serialize};
use shardflow::sink::at_least_once;
use shardflow::{EventTime, Job, JobArgs, Lag, init_logging, json, seconds};
use shardflow_sinks::{dynamodb, files};
use shardflow_sources::Files;

/// Keeps a running bill of each account in a table of DynamoDB.
#[derive(Debug, Parser)]
struct Args {
    /// The folder with the input.
    #[arg(long)]
    input: PathBuf,
    /// The table, by name or ARN.
    #[arg(long)]
    table: String,
    /// DynamoDB's address, where it is not AWS'.
    #[arg(long)]
    endpoint: Option<String>,
    /// The folder for what is refused.
    #[arg(long, default_value = "refused")]
    refused: PathBuf,
    /// The engine's own settings.
    #[command(flatten)]
    job: JobArgs,
}

/// A record.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Usage {
    account: String,
    cents: u64,
}

/// What is kept of an account.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Sum {
    cents: u64,
    records: u64,
}

/// An item.
#[derive(Debug, Clone, Serialize)]
struct Bill {
    account: String,
    cents: u64,
    records: u64,
}

fn main() -> shardflow::Result<()> {
    init_logging()?;
    let Args { input, table, endpoint, refused, job } = Args::parse();
    let mut table = dynamodb(table).key("account");
    if let Some(endpoint) = endpoint {
        table = table.endpoint(endpoint);
    }
    let summary = Job::named("bills").args(job).run(move |flow| {
        let (usage, rejected) = flow.source("usage", Files::new(&input)).decode(json::<Usage>());
        rejected.sink("rejected", files(&refused).prefix("rejected"));
        let bills = table.clone().newest_by("records", |bill: &Bill| bill.records);
        usage
            .event_time(|_| EventTime::MIN, Lag::of(seconds(0)))
            .key_by(|usage| usage.account.clone())
            .running()
            .fold("sums", Sum::default, |sum, usage| {
                sum.cents = sum.cents.saturating_add(usage.cents);
                sum.records = sum.records.saturating_add(1);
            })
            .map(|result| Bill { account: result.key, cents: result.value.cents, records: result.value.records })
            .sink("table", at_least_once(bills).rejected_to(files(&refused)));
    })?;
    tracing::info!(committed = ?summary.committed, "stopped");
    Ok(())
}
