//! Checks that the records of each account come from a stream completely and in their order.
//!
//! ```sh
//! cargo run --release --bin ordered -- --stream numbered --out out --state state
//! ```
//!
//! Each record is a JSON object `{"account":"acme","n":7}`, numbered by its account from 0. Event time is the time of
//! arrival. Out go, into `out/seen/`, one line a record: the account, the number, and the number that was due. Both are the
//! same as long as nothing was lost, read twice or out of order, whatever happened to the job and to the stream's shards.

use std::path::PathBuf;

use clap::Parser;
use serde::{Deserialize, Serialize};
use shardflow::{Decoder, EventTime, Job, JobArgs, Lag, Sourced, init_logging, json, seconds};
use shardflow_sinks::files;
use shardflow_sources::{Kinesis, ReadMode};

/// Checks that the records of each account come completely and in their order.
#[derive(Debug, Parser)]
struct Args {
    /// The stream.
    #[arg(long)]
    stream: String,
    /// Kinesis' address, where it is not AWS'.
    #[arg(long)]
    endpoint: Option<String>,
    /// The consumer of enhanced fan-out; without one the shards are polled.
    #[arg(long)]
    consumer: Option<String>,
    /// Folder for seen/.
    #[arg(long)]
    out: PathBuf,
    /// The engine's own settings.
    #[command(flatten)]
    job: JobArgs,
}

/// A record.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Numbered {
    account: String,
    n: u64,
}

/// What came, and what was due.
#[derive(Debug, Clone, Serialize)]
struct Seen {
    account: String,
    n: u64,
    due: u64,
}

/// What is kept of an account: the next number, and the last record with the number that was due for it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Account {
    next: u64,
    n: u64,
    due: u64,
}

fn main() -> shardflow::Result<()> {
    init_logging()?;
    let Args { stream, endpoint, consumer, out, job } = Args::parse();
    let mut source = Kinesis::stream(stream);
    if let Some(endpoint) = endpoint {
        source = source.endpoint(endpoint);
    }
    if let Some(consumer) = consumer {
        source = source.read_mode(ReadMode::FanOut { consumer });
    }
    let summary = Job::named("ordered").args(job).run(move |flow| {
        let (records, rejected) = flow.source("records", source.clone()).decode(json::<Numbered>().sourced());
        rejected.sink("rejected", files(&out).prefix("rejected"));
        records
            .event_time(|record| record.meta.arrived.unwrap_or(EventTime::MIN), Lag::of(seconds(1)))
            .key_by(|record: &Sourced<Numbered>| record.value.account.clone())
            .running()
            .fold("in-order", Account::default, |account, record| {
                (account.n, account.due) = (record.value.n, account.next);
                account.next = record.value.n.saturating_add(1);
            })
            .map(|result| Seen { account: result.key, n: result.value.n, due: result.value.due })
            .sink("seen", files(&out).prefix("seen"));
    })?;
    tracing::info!(committed = ?summary.committed, "stopped");
    Ok(())
}
