//! Puts the lines of standard input into a stream, each under the key before its first blank, in the order of each key.
//!
//! ```sh
//! printf 'acme {"n":1}\nacme {"n":2}\nglobex {"n":1}\n' | cargo run --release --bin produce -- --stream numbered --aggregate
//! ```
//!
//! A line that the stream does not take is told on standard error, with the reason, and holds up no other. At the end stands
//! how many were put. The exit code is 0 only if all of them were.

use std::process::ExitCode;

use clap::Parser;
use shardflow::Error;
use shardflow_sinks::ProducerSettings;
use shardflow_sinks::producer::{Aggregation, Producer, Receipt, Record};
use tokio::sync::mpsc;

/// Puts the lines of standard input into a stream.
#[derive(Debug, Parser)]
struct Args {
    /// The stream's name or ARN.
    #[arg(long)]
    stream: String,
    /// Kinesis' address, where it is not AWS'.
    #[arg(long)]
    endpoint: Option<String>,
    /// Pack records, as the Kinesis Producer Library does.
    #[arg(long)]
    aggregate: bool,
}

#[tokio::main]
async fn main() -> shardflow::Result<ExitCode> {
    let Args { stream, endpoint, aggregate } = Args::parse();
    let mut settings = ProducerSettings::stream(stream).ordered();
    if let Some(endpoint) = endpoint {
        settings = settings.endpoint(endpoint);
    }
    if aggregate {
        settings = settings.aggregate(Aggregation::default());
    }
    let producer = Producer::open(settings).await?;
    // Receipts are looked at while more is put: a put does not wait for them.
    let (receipts, told) = mpsc::unbounded_channel();
    let telling = tokio::spawn(tell(told));
    let (read, mut lines) = mpsc::channel(1_000);
    // It ends when nobody takes the lines any more.
    tokio::task::spawn_blocking(move || std::io::stdin().lines().try_for_each(|line| read.blocking_send(line)));
    let mut number = 0_u64;
    while let Some(line) = lines.recv().await {
        let line = line.map_err(|error| Error::source("could not read standard input").caused_by(error))?;
        number += 1;
        let (key, data) = line.split_once(' ').unwrap_or(("", &line));
        let receipt = producer.put(Record::new(key, data)).await;
        // The other side ends after this one.
        let _ = receipts.send((number, receipt));
    }
    drop(receipts);
    producer.close().await?;
    let (put, not_put) = telling.await.unwrap_or_default();
    eprintln!("{put} lines put, {not_put} not put");
    Ok(if not_put == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tells of what was not put; gives how many were, and how many were not.
async fn tell(mut told: mpsc::UnboundedReceiver<(u64, Receipt)>) -> (u64, u64) {
    let (mut put, mut not_put) = (0, 0);
    while let Some((line, receipt)) = told.recv().await {
        match receipt.await {
            Ok(_) => put += 1,
            Err(error) => {
                not_put += 1;
                eprintln!("line {line}: {error}");
            }
        }
    }
    (put, not_put)
}
