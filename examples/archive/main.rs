//! Archives what an application has logged as Parquet, a folder a day, exactly once.
//!
//! ```sh
//! cargo run --release --bin archive -- --input usage --to s3://archive/usage --state state
//! ```
//!
//! The files in `usage/` hold lines like `{"account":"acme","at":1767225600000,"units":7}`. They become objects like
//! `dt=2026-01-01/archive.days-….parquet`: each with the records of many commits, complete when it appears, and none of
//! them twice, whatever happens to the job. What cannot be read goes, with the reason, into `_unread/` beside them, which such readers skip.
//!
//! `--to` may be `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` or `file:///folder`, with credentials as the
//! clouds' own tools have them. Any reader of data lakes takes the folder as a table:
//!
//! ```sql
//! SELECT dt, sum(units) FROM read_parquet('archive/dt=*/*.parquet', hive_partitioning = true) GROUP BY dt;
//! ```

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use serde::{Deserialize, Serialize};
use shardflow::{EventTime, Job, JobArgs, init_logging, json, seconds};
use shardflow_sinks::encode::arrow_schema::{DataType, TimeUnit};
use shardflow_sinks::{Ndjson, Parquet, objects};
use shardflow_sources::Files;

/// Archives what an application has logged as Parquet, a folder a day, exactly once.
#[derive(Debug, Parser)]
struct Args {
    /// The folder with the input.
    #[arg(long)]
    input: PathBuf,
    /// Watch the folder for new files, instead of ending when all are read.
    #[arg(long)]
    follow: bool,
    /// Where the archive is: s3://bucket/prefix, gs://…, az://… or file:///folder.
    #[arg(long)]
    to: String,
    /// The store's address, where it is not the cloud's own.
    #[arg(long)]
    endpoint: Option<String>,
    /// For how many seconds records are collected into one file.
    #[arg(long, default_value_t = 300)]
    collect: u64,
    /// The engine's own settings.
    #[command(flatten)]
    job: JobArgs,
}

/// A record.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Usage {
    account: String,
    at: EventTime,
    units: u64,
}

fn main() -> shardflow::Result<()> {
    init_logging()?;
    let Args { input, follow, to, endpoint, collect, job } = Args::parse();
    let source = if follow { Files::new(input).following(Duration::from_secs(1)) } else { Files::new(input) };
    let millis = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let mut archive = objects(&to)
        .partitioned_by("dt={yyyy-MM-dd}")
        .event_time(|usage: &Usage| usage.at)
        .format(Parquet::of::<Usage>().column("at", millis))
        .roll_after(seconds(collect));
    let mut rejected = objects(format!("{}/_unread", to.trim_end_matches('/'))).format(Ndjson.gzip());
    if let Some(endpoint) = endpoint {
        archive = archive.endpoint(&endpoint);
        rejected = rejected.endpoint(endpoint);
    }
    let summary = Job::named("archive").args(job).run(move |flow| {
        let (records, bad) = flow.source("usage", source.clone()).decode(json::<Usage>());
        bad.sink("rejected", rejected.clone());
        records.sink("days", archive.clone());
    })?;
    tracing::info!(committed = ?summary.committed, "stopped");
    Ok(())
}
