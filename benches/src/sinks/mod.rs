//! Sinks beside the least that could do their work: the producer beside a loop of PutRecords, objects beside their encoder and one
//! file, rows beside a bare COPY.
//!
//! Each program is a process of its own and they take turns; servers run beside them on the same machine.

mod drive;
mod postgres;
mod producer;
mod stores;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use shardflow_examples::metering::demo::embedded::REGION;

use crate::child::{Running, Usage};
use crate::results::Entry;
use crate::throughput::Programs;

/// The hidden command: writes records.
#[derive(Debug, Args)]
pub(crate) struct Write {
    kind: Kind,
    /// Where it writes: an endpoint, a connection string, a folder.
    #[arg(long)]
    to: String,
    /// What it writes to there: a stream, a table.
    #[arg(long, default_value = "")]
    name: String,
    /// How many records to write.
    #[arg(long)]
    records: u64,
    /// Where the outcome goes.
    #[arg(long)]
    dir: PathBuf,
}

/// A program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// PutRecords with the SDK alone.
    PutRecords,
    /// The producer.
    Producer,
    /// The producer, packing.
    ProducerPacking,
    /// NDJSON into one file.
    EncodeNdjson,
    /// NDJSON into an object store.
    StoreNdjson,
    /// Parquet into one file.
    EncodeParquet,
    /// Parquet into an object store.
    StoreParquet,
    /// COPY with the driver alone.
    Copy,
    /// The PostgreSQL sink.
    Postgres,
}

impl Kind {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// What a program wrote.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Wrote {
    records: u64,
    /// From the first record until all are acknowledged: without the program's start and its connections.
    seconds: f64,
}

/// Writes records, and tells how long that took.
///
/// # Errors
/// A record that could not be written.
pub(crate) fn write(args: &Write) -> Result<()> {
    let Write { kind, to, name, records, dir } = args;
    let wrote = match kind {
        Kind::PutRecords => producer::put_records(to, name, *records),
        Kind::Producer => producer::produce(to, name, *records, false),
        Kind::ProducerPacking => producer::produce(to, name, *records, true),
        Kind::EncodeNdjson => stores::encode(false, to, *records),
        Kind::StoreNdjson => stores::store(false, to, *records),
        Kind::EncodeParquet => stores::encode(true, to, *records),
        Kind::StoreParquet => stores::store(true, to, *records),
        Kind::Copy => postgres::copy(to, name, *records),
        Kind::Postgres => postgres::sink(to, name, *records, dir),
    }?;
    std::fs::write(dir.join("wrote.json"), serde_json::to_vec(&wrote)?).context("could not tell what was written")
}

/// Measures all programs `runs` times; on a tenth of the records where it is to be `quick`.
///
/// # Errors
/// A program that fails, or records that are missing.
pub(crate) fn measure(programs: &Programs, scratch: &Path, runs: usize, quick: bool) -> Result<Vec<Entry>> {
    let mut entries = producer::measure(programs, scratch, runs, quick)?;
    entries.extend(stores::measure(programs, scratch, runs, quick)?);
    entries.extend(postgres::measure(programs, scratch, runs, quick)?);
    Ok(entries)
}

/// Runs a program once.
fn once(programs: &Programs, scratch: &Path, kind: Kind, to: &str, name: &str, records: u64) -> Result<Usage> {
    let dir = tempfile::tempdir_in(scratch)?;
    let mut command = Command::new(&programs.bench);
    command.args(["write", &kind.name(), "--to", to, "--name", name]);
    command.args(["--records", &records.to_string(), "--dir"]).arg(dir.path());
    command.envs([("AWS_ACCESS_KEY_ID", "bench"), ("AWS_SECRET_ACCESS_KEY", "bench"), ("AWS_REGION", REGION)]);
    let usage = Running::start(&mut command, dir.path().join("log"))?.finish()?;
    let told = std::fs::read(dir.path().join("wrote.json")).context("could not read what was written")?;
    let wrote: Wrote = serde_json::from_slice(&told).context("could not read what was written")?;
    anyhow::ensure!(wrote.records == records, "{} records were written, and not {records}", wrote.records);
    Ok(Usage { elapsed: Duration::from_secs_f64(wrote.seconds), ..usage })
}
