//! Copies a Kinesis stream into another: the records of one account, packed as the Kinesis Producer Library packs them.
//!
//! ```sh
//! cargo run --release --bin forward -- --from usage --to usage-of-acme --account acme --state state
//! ```
//!
//! Records keep their partition key and their order under it, through splits and merges of both streams. A crash may put some
//! again; each carries an id of its place in the first stream, `{"id":"8d758d751a3d9e2c370aa49284a45e41","usage":{…}}`, by which a
//! reader drops repeats (`.dedupe`). Records that the stream does not take lie in `refused/`, with the reason.

use std::path::PathBuf;

use clap::Parser;
use serde::{Deserialize, Serialize};
use shardflow::decode::Sourced;
use shardflow::{Decoder, EventTime, Job, JobArgs, Lag, RecordId, init_logging, json, seconds};
use shardflow_sinks::producer::Aggregation;
use shardflow_sinks::{files, kinesis};
use shardflow_sources::Kinesis;

/// Copies the records of one account from a stream into another.
#[derive(Debug, Parser)]
struct Args {
    /// The stream that is read, by name or ARN.
    #[arg(long)]
    from: String,
    /// The stream that is written to, by name or ARN.
    #[arg(long)]
    to: String,
    /// Whose records.
    #[arg(long)]
    account: String,
    /// Kinesis' address, where it is not AWS'.
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
    units: u64,
}

/// What is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Forwarded {
    id: RecordId,
    #[serde(skip)]
    key: String,
    usage: Usage,
}

impl From<Sourced<Usage>> for Forwarded {
    fn from(sourced: Sourced<Usage>) -> Self {
        let id = sourced.id();
        let key = sourced.meta.partition_key.map_or_else(|| sourced.value.account.clone(), |key| key.to_string());
        Self { id, key, usage: sourced.value }
    }
}

fn main() -> shardflow::Result<()> {
    init_logging()?;
    let Args { from, to, account, endpoint, refused, job } = Args::parse();
    let mut source = Kinesis::stream(from);
    let mut sink = kinesis(to).partition_key(|record: &Forwarded| record.key.clone());
    if let Some(endpoint) = endpoint {
        source = source.endpoint(&endpoint);
        sink = sink.endpoint(endpoint);
    }
    let sink = sink.ordered().aggregate(Aggregation::default()).rejected_to(files(&refused));
    let summary = Job::named("forward").args(job).run(move |flow| {
        let account = account.clone();
        let (usage, rejected) = flow.source("usage", source.clone()).decode(json::<Usage>().sourced());
        rejected.sink("rejected", files(&refused).prefix("rejected"));
        usage
            .event_time(|_| EventTime::MIN, Lag::of(seconds(0)))
            .filter(move |sourced| sourced.value.account == account)
            .map(Forwarded::from)
            .sink("forwarded", sink.clone());
    })?;
    tracing::info!(committed = ?summary.committed, "stopped");
    Ok(())
}
