//! Keeps the bill of each account in a PostgreSQL table, exact whatever happens to the job or to the server.
//!
//! ```sh
//! export DATABASE_URL=postgres://billing@localhost/billing DATABASE_PASSWORD=…
//! psql "$DATABASE_URL" -c 'CREATE TABLE bills (account text PRIMARY KEY, cents bigint NOT NULL, charges bigint NOT NULL)'
//! psql "$DATABASE_URL" -c 'CREATE TABLE bad_lines (line text, error text)'
//! cargo run --release --bin postgres -- --input charges --table bills --state state
//! ```
//!
//! The files in `charges/` hold lines like `{"account":"acme","cents":17}`. The table ends with one row an account: what it owes,
//! and for how many charges. A row is overwritten each time that its account has new charges; what is in the table is at any
//! moment the sum of the charges up to one point of the input. What the server refuses lies in the table `bills_rejected`, and what
//! is no charge in `bad_lines`.

use std::path::PathBuf;

use clap::Parser;
use serde::{Deserialize, Serialize};
use shardflow::{EventTime, Job, JobArgs, Lag, Rejected, init_logging, json, seconds};
use shardflow_sinks::postgres;
use shardflow_sources::Files;

/// Keeps the bill of each account in a PostgreSQL table.
#[derive(Parser)]
struct Args {
    /// The folder with the input.
    #[arg(long)]
    input: PathBuf,
    /// The database: a URL, or key=value pairs as psql takes them.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database: String,
    /// Its password, where the URL has none.
    #[arg(long, env = "DATABASE_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// The table.
    #[arg(long, default_value = "bills")]
    table: String,
    /// The engine's own settings.
    #[command(flatten)]
    job: JobArgs,
}

/// A record.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Charge {
    account: String,
    cents: i64,
}

/// What is kept of an account.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Sum {
    cents: i64,
    charges: u64,
}

/// A row.
#[derive(Debug, Clone, Serialize)]
struct Bill {
    account: String,
    cents: i64,
    charges: u64,
}

fn main() -> shardflow::Result<()> {
    init_logging()?;
    let Args { input, database, password, table, job } = Args::parse();
    let mut server = postgres(database);
    if let Some(password) = password {
        server = server.password(password);
    }
    let rejected_table = format!("{table}_rejected");
    let bills = server.table(table).fields(["account", "cents", "charges"]).upsert_by(["account"]);
    let bills = bills.rejected_to_table(rejected_table);
    let bad_lines =
        server.table("bad_lines").column("line", |bad: &Rejected| &bad.raw).column("error", |bad| &bad.error);
    let summary = Job::named("bills").args(job).run(move |flow| {
        let (charges, bad) = flow.source("input", Files::new(&input)).decode(json::<Charge>());
        bad.sink("bad-lines", bad_lines.clone());
        charges
            .event_time(|_| EventTime::MIN, Lag::of(seconds(0)))
            .key_by(|charge| charge.account.clone())
            .running()
            .fold("sums", Sum::default, |sum, charge| {
                sum.cents = sum.cents.saturating_add(charge.cents);
                sum.charges = sum.charges.saturating_add(1);
            })
            .map(|result| Bill { account: result.key, cents: result.value.cents, charges: result.value.charges })
            .sink("bills", bills.clone());
    })?;
    tracing::info!(committed = ?summary.committed, "stopped");
    Ok(())
}
