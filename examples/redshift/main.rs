//! Loads what each account has to pay for an hour into a table in Amazon Redshift, by way of S3, exactly once.
//!
//! ```sh
//! export DATABASE_URL=postgres://loader@billing.abc.eu-west-1.redshift.amazonaws.com:5439/billing DATABASE_PASSWORD=…
//! psql "$DATABASE_URL" -c 'CREATE TABLE charges (account varchar(64) NOT NULL, hour bigint NOT NULL, cents bigint NOT NULL)'
//! cargo run --release --bin redshift -- --input usage --follow --staged-in s3://staging/charges --state state
//! ```
//!
//! The files in `usage/` hold lines like `{"account":"acme","at":1767225600000,"cents":3}`, with `at` in milliseconds since 1970. The
//! table gets one row an account and hour, once the hour is over and ten minutes more. A load takes Redshift seconds, so there is one a
//! minute (`--epoch`). What Redshift refuses goes to the table `charges_rejected`; usage that comes too late, and lines that are no
//! usage, lie in `aside/`.
//!
//! This program needs to read, write, list and remove below `--staged-in`, with credentials as Amazon's own tools find them; the
//! cluster needs to read there, by `--iam-role` or a role that is its default.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use serde::{Deserialize, Serialize};
use shardflow::{EventTime, Job, JobArgs, Lag, hours, init_logging, json, minutes, seconds, tumbling};
use shardflow_sinks::{files, redshift};
use shardflow_sources::Files;

/// Loads what each account has to pay for an hour into a table in Amazon Redshift.
#[derive(Parser)]
struct Args {
    /// The folder with the input.
    #[arg(long)]
    input: PathBuf,
    /// Watch the folder for new files, instead of ending when all are read.
    #[arg(long)]
    follow: bool,
    /// The database: a URL, or key=value pairs as psql takes them.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database: String,
    /// Its password, where the URL has none.
    #[arg(long, env = "DATABASE_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// The table.
    #[arg(long, default_value = "charges")]
    table: String,
    /// Where files lie until they are loaded: s3://bucket/prefix.
    #[arg(long)]
    staged_in: String,
    /// The address of S3, where it is not Amazon's own.
    #[arg(long)]
    staging_endpoint: Option<String>,
    /// The role (ARN) with which the cluster reads them.
    #[arg(long)]
    iam_role: Option<String>,
    /// The folder for what comes too late and what cannot be read.
    #[arg(long, default_value = "aside")]
    aside: PathBuf,
    /// The engine's own settings.
    #[command(flatten)]
    job: JobArgs,
}

/// A record.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Usage {
    account: String,
    at: EventTime,
    cents: u64,
}

/// A row.
#[derive(Debug, Clone, Serialize)]
struct Charge {
    account: String,
    hour: u64,
    cents: u128,
}

fn main() -> shardflow::Result<()> {
    init_logging()?;
    let Args { input, follow, database, password, table, staged_in, staging_endpoint, iam_role, aside, job } =
        Args::parse();
    let source = if follow { Files::new(input).following(Duration::from_secs(1)) } else { Files::new(input) };
    let mut cluster = redshift(database);
    if let Some(password) = password {
        cluster = cluster.password(password);
    }
    let rejected_table = format!("{table}_rejected");
    let mut charges = cluster.table(table).staged_in(staged_in).fields(["account", "hour", "cents"]);
    charges = charges.rejected_to_table(rejected_table);
    if let Some(endpoint) = staging_endpoint {
        charges = charges.staging_endpoint(endpoint);
    }
    if let Some(role) = iam_role {
        charges = charges.iam_role(role);
    }
    let summary = Job::named("charges").epoch(minutes(1)).args(job).run(move |flow| {
        let (usage, bad) = flow.source("usage", source.clone()).decode(json::<Usage>());
        bad.sink("bad-lines", files(&aside).prefix("bad-lines"));
        usage
            .event_time(|usage| usage.at, Lag::of(seconds(5)))
            .key_by(|usage| usage.account.clone())
            .window(tumbling(hours(1)).grace(minutes(10)))
            .late_to("late", files(&aside).prefix("late"))
            .sum("hours", |usage| usage.cents)
            .map(|w| Charge { hour: w.window.start().as_millis(), account: w.key, cents: w.value })
            .sink("charges", charges.clone());
    })?;
    tracing::info!(committed = ?summary.committed, "stopped");
    Ok(())
}
