//! How fast records go to a disk as objects, beside an encoder and a file writer alone:
//! `cargo test --release --test objects throughput -- --ignored --nocapture`. Prints figures and asserts none.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use shardflow::Epoch;
use shardflow::sink::{CommitPermit, Prepared, Sink, SinkContext, StagedHandle};
use shardflow::testing::sink::permit;
use shardflow::vocabulary::Incarnation;
use shardflow_sinks::{FileEncoder, FileFormat, Ndjson, objects};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Charge {
    account: String,
    meter: String,
    start: u64,
    end: u64,
    units: u64,
    cents: f64,
}

fn charge(number: u64) -> Charge {
    let start = number / 1000 * 60_000;
    let (account, meter) = (format!("account-{:06}", number % 5000), format!("meter-{}", number % 7));
    Charge { account, meter, start, end: start + 60_000, units: number % 977, cents: number as f64 / 8.0 }
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

/// What the encoder and a file writer take alone, into one file that is durable at the end.
fn alone<F: FileFormat<Charge>>(format: &F, charges: &[Charge]) -> (Duration, u64) {
    let dir = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let (mut file, mut bytes) = (File::create(dir.path().join("file")).unwrap(), 0);
    let mut encoder = format.encoder().unwrap();
    for charge in charges {
        encoder.write(charge).unwrap();
        if encoder.ready() >= 256 << 10 {
            let ready = encoder.take();
            bytes += ready.len() as u64;
            file.write_all(&ready).unwrap();
        }
    }
    let rest = encoder.finish().unwrap();
    file.write_all(&rest).unwrap();
    file.sync_all().unwrap();
    (begun.elapsed(), bytes + rest.len() as u64)
}

fn rate(time: Duration) -> f64 {
    RECORDS as f64 / time.as_secs_f64() / 1e6
}

fn measured<F: FileFormat<Charge>>(name: &str, format: &F, charges: &[Charge]) {
    let mut ratios = Vec::new();
    for _ in 0..3 {
        let (alone, bytes) = alone(format, charges);
        let (dir, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let sink = objects(format!("file://{}", dir.path().display())).format(format.clone());
        let sink = sink.roll_after(Duration::from_secs(3600)).roll_bytes(32 << 20);
        let (staged, visible) = run(&sink, folder.path(), charges);
        let (to_stage, to_see) = (rate(staged) / rate(alone), rate(visible) / rate(alone));
        println!(
            "{name}: encoder and file alone {:.2} M/s ({} MB); the sink's commits return at {:.2} M/s (ratio {to_stage:.2}), \
             all is visible at {:.2} M/s (ratio {to_see:.2})",
            rate(alone),
            bytes / 1_000_000,
            rate(staged),
            rate(visible),
        );
        ratios.push(to_see);
    }
    ratios.sort_by(f64::total_cmp);
    println!("{name}: median ratio {:.2}", ratios[1]);
}

#[test]
#[ignore = "a measurement"]
fn formats_on_disk() {
    let charges: Vec<Charge> = (0..RECORDS).map(charge).collect();
    measured("NDJSON", &Ndjson, &charges);
    measured("NDJSON, zstd", &Ndjson.zstd(), &charges);
    #[cfg(feature = "parquet")]
    measured("Parquet", &shardflow_sinks::Parquet::of::<Charge>(), &charges);
}
