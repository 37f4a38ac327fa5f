//! The Kinesis source beside a bare loop of GetRecords, on the same stream of an embedded server.
//!
//! Both are processes of their own and take turns; the server runs in this one and holds the records in memory. Amazon lets
//! a shard be called 5 times a second and gives 2 MiB a second. The source keeps both. The embedded server has no such
//! limits, so the bare loop keeps them too, or it would measure what no stream allows: the same gaps between calls, the same
//! number of records a call. What is left to lose is processor time and time between calls.
//!
//! With few shards both are paced and the machine is half idle; with many the machine is the limit, and the server takes
//! the larger part of it.

mod bare;
mod ours;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use shardflow_examples::metering::demo::embedded::{Embedded, REGION, Stream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::child::{Running, Usage};
use crate::limits::names::BARE_SDK;
use crate::results::{Entry, Group, Measured, Speed};
use crate::throughput::Programs;

pub(crate) use bare::client;

/// Bytes of a record.
const RECORD_BYTES: usize = 200;
/// From call to call, of each shard, at least.
const GAP: Duration = Duration::from_millis(200);
/// What a shard gives, in bytes a second.
const BYTES_PER_SECOND: u64 = 2 << 20;
/// Records a call: what the source asks for, 2 MiB of records of this size with the 160 bytes that it counts for each.
const CALL_RECORDS: i32 = (2 << 20) / (RECORD_BYTES as i32 + 160);
/// Records of one put, as the service limits it.
const PUT_RECORDS: usize = 500;
/// Puts under way at a time.
const PUTS: usize = 4;

/// A stream that is read.
#[derive(Debug, Clone, Copy)]
struct Case {
    id: &'static str,
    title: &'static str,
    shards: i32,
    /// A multiple of the shards.
    records: u64,
}

/// Some five seconds each.
const CASES: [Case; 2] = [
    Case { id: "kinesis", title: "4 shards: what a stream allows is the limit", shards: 4, records: 200_000 },
    Case { id: "kinesis-16", title: "40 shards: the machine is the limit", shards: 40, records: 1_400_000 },
];

/// The hidden command: reads a stream.
#[derive(Debug, Args)]
pub(crate) struct Drain {
    kind: Kind,
    #[arg(long)]
    endpoint: String,
    #[arg(long)]
    stream: String,
    /// How many records to read.
    #[arg(long)]
    records: u64,
    /// Where state and the outcome go.
    #[arg(long)]
    dir: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Bare,
    Ours,
}

/// What a program read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Drained {
    records: u64,
    bytes: u64,
    /// From the program's beginning to the last record, its connections included.
    seconds: f64,
}

/// Reads a stream, and tells what came.
///
/// # Errors
/// A stream that cannot be read.
pub(crate) fn drain(args: &Drain) -> Result<()> {
    let Drain { kind, endpoint, stream, records, dir } = args;
    let drained = match kind {
        Kind::Bare => bare::run(endpoint, stream, *records),
        Kind::Ours => ours::run(endpoint, stream, *records, &dir.join("state")),
    }?;
    std::fs::write(dir.join("drained.json"), serde_json::to_vec(&drained)?).context("could not tell what was read")
}

/// Measures both programs `runs` times; on a fifth of the records where it is to be `quick`.
///
/// # Errors
/// A program that fails or loses records.
pub(crate) fn measure(programs: &Programs, scratch: &Path, runs: usize, quick: bool) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for case in CASES {
        let records = if quick { case.records / 5 } else { case.records };
        let case = Case { records, ..case };
        entries.push(of_case(programs, scratch, &case, runs).with_context(|| format!("\"{}\" failed", case.id))?);
    }
    Ok(entries)
}

fn of_case(programs: &Programs, scratch: &Path, case: &Case, runs: usize) -> Result<Entry> {
    let runtime = Runtime::new().context("could not start tokio")?;
    let server = runtime.block_on(Embedded::start())?;
    eprintln!("{}: {} records are put", case.title, case.records);
    runtime.block_on(fill(&server, case))?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        for (kind, usages) in [("bare", &mut bare), ("ours", &mut ours)] {
            eprintln!("run {run} of {runs}: {kind}, {} shards", case.shards);
            usages.push(once(programs, scratch, server.endpoint(), kind, case)?);
        }
    }
    let calls = Duration::from_secs(1).as_millis() / GAP.as_millis();
    Ok(Entry::Speed(Speed {
        id: case.id.to_owned(),
        group: Group::Kinesis,
        title: case.title.to_owned(),
        ran: format!(
            "Source → decode → count, and GetRecords with nothing behind it, each up to {calls} times and 2 MiB a \
             second and shard for {CALL_RECORDS} records at most, from an embedded server on the same two cores. {} shards, records of \
             {RECORD_BYTES} bytes,",
            case.shards
        ),
        records: case.records,
        ours: Measured::of("shardflow", &ours, case.records),
        limits: vec![Measured::of(BARE_SDK, &bare, case.records)],
    }))
}

/// Puts the records, as many into each shard.
async fn fill(server: &Embedded, case: &Case) -> Result<()> {
    let stream = Stream::create(server.client(), case.id, case.shards).await?;
    let per_shard = case.records / u64::try_from(case.shards).unwrap_or(1);
    let mut tasks = JoinSet::new();
    for shard in stream.open_shards().await? {
        for begin in (0..per_shard).step_by(PUT_RECORDS) {
            if tasks.len() == PUTS {
                tasks.join_next().await.context("no put is under way")?.context("a task died")??;
            }
            let count = (per_shard - begin).min(PUT_RECORDS as u64);
            tasks.spawn(put(stream.client().clone(), case.id, shard.first, count));
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.context("a task died")??;
    }
    Ok(())
}

async fn put(client: Client, stream: &'static str, hash_key: u128, count: u64) -> Result<()> {
    let entry = PutRecordsRequestEntry::builder().data(Blob::new(vec![b'x'; RECORD_BYTES])).partition_key("bench");
    let entry = entry.explicit_hash_key(hash_key.to_string()).build().context("could not make a record")?;
    let entries = vec![entry; usize::try_from(count).unwrap_or(0)];
    let answer = client.put_records().stream_name(stream).set_records(Some(entries)).send().await;
    match answer.context("could not put records")?.failed_record_count() {
        None | Some(0) => Ok(()),
        Some(failed) => bail!("{failed} records could not be put"),
    }
}

fn once(programs: &Programs, scratch: &Path, endpoint: &str, kind: &str, case: &Case) -> Result<Usage> {
    let dir = tempfile::tempdir_in(scratch)?;
    let mut command = Command::new(&programs.bench);
    command.args(["drain", kind, "--endpoint", endpoint, "--stream", case.id]);
    command.args(["--records", &case.records.to_string(), "--dir"]).arg(dir.path());
    command.envs([("AWS_ACCESS_KEY_ID", "bench"), ("AWS_SECRET_ACCESS_KEY", "bench"), ("AWS_REGION", REGION)]);
    let usage = Running::start(&mut command, dir.path().join("log"))?.finish()?;
    let told = std::fs::read(dir.path().join("drained.json")).context("could not read what came")?;
    let drained: Drained = serde_json::from_slice(&told).context("could not read what came")?;
    check(&drained, case)?;
    Ok(Usage { elapsed: Duration::from_secs_f64(drained.seconds), ..usage })
}

fn check(drained: &Drained, case: &Case) -> Result<()> {
    let Drained { records, bytes, .. } = *drained;
    if records != case.records || bytes != case.records.saturating_mul(RECORD_BYTES as u64) {
        bail!("{records} records of {bytes} bytes in all came, and not {}", case.records);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_get_equal_shares_also_of_a_quick_run() {
        for Case { shards, records, .. } in CASES {
            assert!(records % u64::try_from(shards).unwrap() == 0 && records / 5 % u64::try_from(shards).unwrap() == 0);
        }
    }

    #[test]
    fn a_program_that_lost_a_byte_is_found() {
        let case = Case { records: 10, ..CASES[0] };
        let drained = Drained { records: 10, bytes: 2_000, seconds: 1.0 };
        assert!(check(&drained, &case).is_ok());
        assert!(check(&Drained { bytes: 1_999, ..drained }, &case).is_err());
        assert!(check(&Drained { records: 9, ..drained }, &case).is_err());
    }

    #[test]
    fn a_call_asks_for_what_the_source_asks_for() {
        assert_eq!(CALL_RECORDS, 5_825);
    }
}
