//! What a job costs that has nothing to do: part of a core over some seconds, after its first commit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use shardflow::{Job, init_logging};
use shardflow_examples::metering::decode::UsageDecoder;
use shardflow_examples::metering::demo::embedded::{Embedded, REGION, Stream};
use shardflow_examples::metering::reference::Semantics;
use shardflow_examples::metering::report::Reporter;
use shardflow_examples::metering::run::charges;
use shardflow_sources::Files;

use crate::child::Running;
use crate::results::{Entry, Figure, Group, Unit};
use crate::stats::{Spread, ratio};
use crate::throughput::Programs;

const STREAM: &str = "idle";
/// A small stream, and one of which calls that cost anything would be felt.
const SHARDS: [i32; 2] = [4, 200];
/// How long a job may take to its first commit.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// What the first commit leaves behind is done by then, and quiet shards are called once a second.
const SETTLES: Duration = Duration::from_secs(5);

/// The hidden command: the job on a folder that it follows.
#[derive(Debug, Args)]
pub(crate) struct Follow {
    /// The folder.
    #[arg(long)]
    input: PathBuf,
    /// Where output, state and the report go.
    #[arg(long)]
    dir: PathBuf,
}

/// Runs the job until it is asked to stop.
///
/// # Errors
/// What the engine says.
pub(crate) fn follow(args: &Follow) -> Result<()> {
    init_logging()?;
    let reporter = Arc::new(Reporter::new(args.dir.join("report.json")));
    let source = Files::new(&args.input).following(Duration::from_secs(1));
    let (out, semantics) =
        (args.dir.join("out"), Semantics { window: 60_000, lag: 5_000, grace: 0, dedupe: 86_400_000 });
    Job::named("idle")
        .workers(2)
        .state(args.dir.join("state"))
        .on_commit(move |info| reporter.committed(info.latency))
        .run(move |flow| charges(flow.source("usage", source.clone()), UsageDecoder::new(), &semantics, &out))?;
    Ok(())
}

/// Measures both for `length`.
///
/// # Errors
/// A job that fails.
pub(crate) fn measure(programs: &Programs, scratch: &Path, length: Duration) -> Result<Vec<Entry>> {
    let mut entries = vec![following(programs, scratch, length)?];
    for shards in SHARDS {
        entries.push(kinesis(programs, scratch, length, shards)?);
    }
    Ok(entries)
}

fn following(programs: &Programs, scratch: &Path, length: Duration) -> Result<Entry> {
    eprintln!("idle for {} s, following a folder", length.as_secs());
    let dir = tempfile::tempdir_in(scratch)?;
    let input = dir.path().join("in");
    fs::create_dir(&input)?;
    fs::write(input.join("one.ndjson"), "{\"id\":\"u\",\"account\":\"a\",\"meter\":\"m\",\"qty\":1,\"at\":5}\n")?;
    let mut command = Command::new(&programs.bench);
    command.arg("follow").arg("--input").arg(&input).arg("--dir").arg(dir.path());
    watch("idle-folder", "following a folder", command, dir.path(), length)
}

fn kinesis(programs: &Programs, scratch: &Path, length: Duration, shards: i32) -> Result<Entry> {
    eprintln!("idle for {} s, on a Kinesis stream of {shards} shards", length.as_secs());
    let dir = tempfile::tempdir_in(scratch)?;
    let runtime = tokio::runtime::Runtime::new().context("could not start tokio")?;
    // The server runs on the runtime's threads, and its work is not the job's.
    let server = runtime.block_on(Embedded::start())?;
    runtime.block_on(Stream::create(server.client(), STREAM, shards))?;
    let mut command = Command::new(&programs.metering);
    command.args(["run", "--workers", "2", "--start", "latest", "--source", &format!("kinesis:{STREAM}")]);
    command.args(["--endpoint", server.endpoint(), "--out"]).arg(dir.path().join("out"));
    command.arg("--state").arg(dir.path().join("state")).arg("--report").arg(dir.path().join("report.json"));
    command.envs([("AWS_ACCESS_KEY_ID", "bench"), ("AWS_SECRET_ACCESS_KEY", "bench"), ("AWS_REGION", REGION)]);
    watch(&format!("idle-kinesis-{shards}"), &format!("Kinesis, {shards} shards"), command, dir.path(), length)
}

fn watch(id: &str, title: &str, mut command: Command, dir: &Path, length: Duration) -> Result<Entry> {
    let mut job = Running::start(&mut command, dir.join("log"))?;
    job.wait_for(&dir.join("report.json"), READY_WITHIN)?;
    thread::sleep(SETTLES);
    let (started, before) = (Instant::now(), job.cpu()?);
    thread::sleep(length);
    let (elapsed, used) = (started.elapsed(), job.cpu()?.saturating_sub(before));
    job.stop()?;
    Ok(Entry::Figure(Figure {
        id: id.to_owned(),
        group: Group::Idle,
        title: title.to_owned(),
        value: Spread::once(ratio(used.as_secs_f64(), elapsed.as_secs_f64())),
        unit: Unit::Core,
        notes: format!("{} ms in {:.0} s, epochs of 200 ms", used.as_millis(), elapsed.as_secs_f64()),
    }))
}
