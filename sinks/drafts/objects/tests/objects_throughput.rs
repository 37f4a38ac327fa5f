//! How fast NDJSON goes to a disk as objects, beside plain files: `cargo test --release --test objects_throughput -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, reason = "a test may stop at what must not happen")]

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use shardflow::Epoch;
use shardflow::sink::{CommitPermit, Prepared, Sink, SinkContext, StagedHandle};
use shardflow::testing::sink::permit;
use shardflow::vocabulary::Incarnation;
use shardflow_sinks::{Ndjson, objects};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Charge {
    account: String,
    meter: String,
    window: (u64, u64),
    units: u64,
    cents: f64,
}

fn charge(number: u64) -> Charge {
    let start = number / 1000 * 60_000;
    let (account, meter) = (format!("account-{:06}", number % 5000), format!("meter-{}", number % 7));
    Charge { account, meter, window: (start, start + 60_000), units: number % 977, cents: number as f64 / 8.0 }
}

const RECORDS: u64 = 2_000_000;
const EPOCHS: u64 = 20;

/// Runs a whole job on one worker. Gives the time for staging and that until all is visible.
fn run(sink: &dyn Sink<Charge>, folder: &Path, charges: &[Charge]) -> (Duration, Duration) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let context = SinkContext {
        job: "job".to_owned(),
        step: "charges".into(),
        incarnation: Incarnation::new(1),
        committed: None,
        workers: 1,
        folder: folder.to_owned(),
        runtime: runtime.handle().clone(),
    };
    let mut committer = sink.committer(&context).unwrap();
    committer.recover(None, &[]).unwrap();
    let mut writer = sink.writer(&context, 0).unwrap();
    let begun = Instant::now();
    for (epoch, charges) in (1..).map(Epoch::new).zip(charges.chunks(charges.len() / EPOCHS as usize)) {
        charges.iter().for_each(|charge| writer.stage(charge).unwrap());
        let handle = match writer.prepare(epoch).unwrap().unwrap() {
            Prepared::Staged(handle) => Some(handle),
            Prepared::Flush(flush) => flush().unwrap(),
        };
        let handles: Vec<_> = handle.into_iter().map(|handle| StagedHandle { epoch, worker: 0, handle }).collect();
        let permit: CommitPermit = permit(epoch);
        committer.commit(&permit, &handles).unwrap();
    }
    let staged = begun.elapsed();
    drop(writer);
    committer.close().unwrap();
    (staged, begun.elapsed())
}

fn told(what: &str, dir: &Path, (staged, visible): (Duration, Duration)) {
    let rate = |time: Duration| RECORDS as f64 / time.as_secs_f64() / 1e6;
    let bytes: u64 = files(dir).iter().map(|path| std::fs::metadata(path).unwrap().len()).sum();
    println!(
        "{what}: commits return after {staged:.2?} ({:.2} M/s), all visible after {visible:.2?} ({:.2} M/s), {} files, {} MB",
        rate(staged),
        rate(visible),
        files(dir).len(),
        bytes / 1_000_000
    );
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path());
    entries.filter(|path| path.is_file() && !path.file_name().unwrap().to_str().unwrap().starts_with('.')).collect()
}

#[test]
#[ignore = "a measurement"]
fn ndjson_on_disk() {
    let charges: Vec<Charge> = (0..RECORDS).map(charge).collect();
    for _ in 0..3 {
        let (dir, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let plain = plain::files(dir.path()).roll_after(Duration::from_secs(3600));
        told("plain files", dir.path(), run(&plain, folder.path(), &charges));
        let (dir, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let url = format!("file://{}", dir.path().display());
        let sink = objects(&url).roll_after(Duration::from_secs(3600)).roll_bytes(64 << 20);
        told("objects", dir.path(), run(&sink, folder.path(), &charges));
        let (dir, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let sink = objects(format!("file://{}", dir.path().display())).roll_after(Duration::from_secs(3600));
        told(
            "objects, zstd",
            dir.path(),
            run(&sink.roll_bytes(64 << 20).format(Ndjson.zstd()), folder.path(), &charges),
        );
    }
}
