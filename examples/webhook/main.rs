//! Calls a URL for each account that has used more than it may within a minute.
//!
//! ```sh
//! WEBHOOK_KEY=a-key cargo run --release --bin webhook -- --input usage --url http://127.0.0.1:8080/alerts --limit 100 --state state
//! ```
//!
//! The files in `usage/` hold lines like `{"account":"acme","at":1700000000000,"units":7}`, with `at` in milliseconds since
//! 1970. Each call carries one alert, `{"account":"acme","minute":1700000000000,"units":230}`, with an idempotency key, the result's
//! id, that is the same when the call is made again, and the HMAC-SHA256 of its body under `WEBHOOK_KEY`. Alerts that the receiver refuses
//! lie in `refused/`, with the reason.

use std::path::PathBuf;

use clap::Parser;
use serde::{Deserialize, Serialize};
use shardflow::{EventTime, Job, JobArgs, Lag, RecordId, init_logging, json, minutes, seconds, tumbling};
use shardflow_sinks::{files, webhook};
use shardflow_sources::Files;

/// Calls a URL for each account that has used more than it may within a minute.
#[derive(Debug, Parser)]
struct Args {
    /// The folder with the input.
    #[arg(long)]
    input: PathBuf,
    /// What is called.
    #[arg(long)]
    url: String,
    /// The units a minute that are one too many.
    #[arg(long)]
    limit: u64,
    /// The folder for what is refused.
    #[arg(long, default_value = "refused")]
    refused: PathBuf,
    /// The key that calls are signed with.
    #[arg(long, env = "WEBHOOK_KEY", hide_env_values = true)]
    key: Option<String>,
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

/// What is sent.
#[derive(Debug, Clone, Serialize)]
struct Alert {
    #[serde(skip)]
    id: RecordId,
    account: String,
    minute: u64,
    units: u64,
}

fn main() -> shardflow::Result<()> {
    init_logging()?;
    let Args { input, url, limit, refused, key, job } = Args::parse();
    let mut alerts = webhook(url).id(|alert: &Alert| alert.id.to_string());
    if let Some(key) = key {
        alerts = alerts.hmac_sha256("X-Signature-256", key);
    }
    let alerts = alerts.rejected_to(files(&refused));
    let summary = Job::named("webhook").args(job).run(move |flow| {
        let (usage, rejected) = flow.source("usage", Files::new(&input)).decode(json::<Usage>());
        rejected.sink("rejected", files(&refused).prefix("rejected"));
        usage
            .event_time(|usage| EventTime::from_millis(usage.at), Lag::of(seconds(5)))
            .key_by(|usage| usage.account.clone())
            .window(tumbling(minutes(1)).grace(seconds(0)))
            .discard_late()
            .fold("units", || 0_u64, |units, usage| *units = units.saturating_add(usage.units))
            .filter(move |result| result.value > limit)
            .map(|result| Alert {
                id: result.id(),
                account: result.key,
                minute: result.window.start().as_millis(),
                units: result.value,
            })
            .sink("alerts", alerts.clone());
    })?;
    tracing::info!(committed = ?summary.committed, "stopped");
    Ok(())
}
