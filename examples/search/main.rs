//! Keeps a running total of each account in a search index, exact whatever happens to the job.
//!
//! ```sh
//! cargo run --release --bin search -- --input usage --node http://127.0.0.1:9200 --index totals --state state
//! ```
//!
//! The files in `usage/` hold lines like `{"account":"acme","units":7}`. The index ends with one document an account: what it
//! has used, and of how many records. Each record gives a new document of its account under the same id, with the number of
//! records as its version: whatever order calls arrive in, and whatever a restart repeats, the latest stays. What the index
//! refuses lies in `refused/`, with the reason.
//!
//! With `SEARCH_API_KEY` set, that is the login.

use std::path::PathBuf;

use clap::Parser;
use serde::{Deserialize, Serialize};
use shardflow::{EventTime, Job, JobArgs, Lag, init_logging, json, seconds};
use shardflow_sinks::{files, opensearch};
use shardflow_sources::Files;

/// Keeps a running total of each account in a search index.
#[derive(Debug, Parser)]
struct Args {
    /// The folder with the input.
    #[arg(long)]
    input: PathBuf,
    /// A node's URL; several of them, for a cluster.
    #[arg(long, required = true)]
    node: Vec<String>,
    /// The index.
    #[arg(long)]
    index: String,
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
    units: u64,
}

/// What is kept of an account.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Sum {
    units: u64,
    records: u64,
}

/// A document.
#[derive(Debug, Clone, Serialize)]
struct Total {
    account: String,
    units: u64,
    records: u64,
}

fn main() -> shardflow::Result<()> {
    init_logging()?;
    let Args { input, node, index, refused, job } = Args::parse();
    let mut totals =
        opensearch(node, |total: &Total| total.account.clone()).index(index).version(|total| total.records);
    if let Ok(key) = std::env::var("SEARCH_API_KEY") {
        totals = totals.api_key(key);
    }
    let totals = totals.rejected_to(files(&refused));
    let summary = Job::named("search").args(job).run(move |flow| {
        let (usage, rejected) = flow.source("usage", Files::new(&input)).decode(json::<Usage>());
        rejected.sink("rejected", files(&refused).prefix("rejected"));
        usage
            .event_time(|_| EventTime::MIN, Lag::of(seconds(0)))
            .key_by(|usage| usage.account.clone())
            .running()
            .fold("totals", Sum::default, |sum, usage| {
                sum.units = sum.units.saturating_add(usage.units);
                sum.records = sum.records.saturating_add(1);
            })
            .map(|result| Total { account: result.key, units: result.value.units, records: result.value.records })
            .sink("index", totals.clone());
    })?;
    tracing::info!(committed = ?summary.committed, "stopped");
    Ok(())
}
