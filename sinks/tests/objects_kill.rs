//! A whole job, from files over the engine into objects, killed with SIGKILL at every named point (with `--features failpoints`)
//! and at random times, on a disk and on S3; then started again until it ends. Each record is there once.
#![cfg(all(feature = "objects", feature = "avro", feature = "parquet"))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at what must not happen")]

#[path = "objects/common/mod.rs"]
mod common;

use std::env;
use std::fmt::Write as _;
use std::fs;
#[cfg(feature = "failpoints")]
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::usage::{Usage, read_all, usage};
use common::{assert_told, files_below, wait};
use object_store::ObjectStore;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::local::LocalFileSystem;
use object_store::signer::{Method, SignedUrlOptions, Signer};
use rand::{RngExt, SeedableRng};
use shardflow::{Job, json, millis};
use shardflow_sinks::{ObjectSink, Parquet, objects};
use shardflow_sources::Files;
#[cfg(feature = "failpoints")]
use shardflow_stand_ins::kill::{Kill, KilledAt, killed_at, kills};
use shardflow_stand_ins::ministack::Ministack;
use tempfile::TempDir;

/// Bytes of an account: small objects on a disk, yet several reads of the source for each file, and so several epochs.
const ACCOUNT: usize = 210;

/// More than enough for a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

const BUCKET: &str = "results";

/// What a child is told of its place, workers and server.
const PLACE: &str = "OBJECTS_TEST_PLACE";
const WORKERS: &str = "OBJECTS_TEST_WORKERS";
const ENDPOINT: &str = "OBJECTS_TEST_ENDPOINT";
/// Set where it writes lines, whose spool file becomes the pack.
const LINES: &str = "OBJECTS_TEST_LINES";

/// What a child writes: Parquet in two partitions, unless it is told to write lines.
fn sink(place: &Path) -> ObjectSink<Usage, Parquet> {
    let sink = base(place).partitioned_by("kind={kind}").partition_field("kind", |usage: &Usage| (usage.n % 2).into());
    sink.format(Parquet::of::<Usage>().compression(shardflow_sinks::ParquetCompression::None))
}

fn base(place: &Path) -> ObjectSink<Usage> {
    let sink = match env::var(ENDPOINT) {
        Ok(endpoint) => objects(format!("s3://{BUCKET}/out"))
            .endpoint(endpoint)
            .region("us-east-1")
            .option("aws_access_key_id", "test")
            .option("aws_secret_access_key", "test")
            .part_bytes(5 << 20)
            .roll_bytes(16 << 20),
        Err(_) => objects(format!("file://{}/out", place.display())).part_bytes(120_000).roll_records(3000),
    };
    sink.roll_after(millis(if env::var(ENDPOINT).is_ok() { 1000 } else { 40 }))
}

/// The longer a record takes, the more epochs there are.
fn paced(usage: Usage) -> Usage {
    if usage.n.is_multiple_of(250) {
        std::thread::sleep(Duration::from_millis(5));
    }
    usage
}

#[test]
#[ignore = "the process that the other tests start and kill"]
fn child() {
    let Some(place) = env::var_os(PLACE).map(std::path::PathBuf::from) else { return };
    let (workers, input) = (env::var(WORKERS).unwrap().parse().unwrap(), place.join("in"));
    let rejected = objects(format!("file://{}/rejected", place.display()));
    let job = Job::named("archive").workers(workers).state(place.join("state")).epoch(millis(10));
    // However slow the disk is, no commit has more than two epochs, so there are several.
    let job = job.max_open_epochs(2);
    let ran = job.run(move |flow| {
        let (records, bad) = flow.source("usage", Files::new(&input)).decode(json::<Usage>());
        bad.sink("rejected", rejected.clone());
        match env::var(LINES) {
            Ok(_) => records.map(paced).sink("archive", base(&place)),
            Err(_) => records.map(paced).sink("archive", sink(&place)),
        };
    });
    ran.unwrap();
}

/// Folders of one job, with generated records.
struct Place {
    dir: TempDir,
    records: u64,
    endpoint: Option<String>,
    writes_lines: bool,
}

impl Place {
    /// Two files of records whose accounts have so many bytes.
    fn new(records: u64, account: usize, endpoint: Option<String>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("in")).unwrap();
        for file in 0..2 {
            let mut text = String::new();
            for n in (0..records).filter(|n| n % 2 == file) {
                let mut usage = usage(n);
                // Each its own, or Parquet would keep it once.
                usage.account = format!("{n:07}").repeat(account.div_ceil(7));
                writeln!(text, "{}", serde_json::to_string(&usage).unwrap()).unwrap();
            }
            fs::write(dir.path().join(format!("in/{file}.ndjson")), text).unwrap();
        }
        Self { dir, records, endpoint, writes_lines: false }
    }

    /// A process of the job, that the named points may kill.
    fn start(&self, workers: usize, points: &str) -> Child {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(PLACE, self.dir.path()).env(WORKERS, workers.to_string());
        command.envs(self.endpoint.iter().map(|endpoint| (ENDPOINT, endpoint)));
        command.envs(self.writes_lines.then_some((LINES, "1")));
        command.env("FAILPOINTS", points);
        let log = fs::File::create(self.dir.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    fn run(&self, workers: usize, points: &str) -> ExitStatus {
        let mut child = self.start(workers, points);
        self.ends(&mut child, PATIENCE).unwrap_or_else(|| {
            child.kill().unwrap();
            panic!("a job hangs (at \"{points}\"): {}", self.log())
        })
    }

    /// A process that kills itself at a point.
    #[cfg(feature = "failpoints")]
    fn dies(&self, workers: usize, kill: Kill) {
        let status = self.run(workers, &kill.to_string());
        assert!(is_killed(status), "{kill} did not strike: {status}: {}", self.log());
    }

    fn ends(&self, child: &mut Child, within: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn finishes(&self, workers: usize, after: &str) {
        let status = self.run(workers, "");
        assert!(status.success(), "after {after}: {status}: {}", self.log());
    }

    /// Each record once, manifests of exactly what is there, and nothing left in the spool.
    fn assert_exact(&self, store: &dyn ObjectStore, after: &str) {
        let mut found = read_all(store);
        found.sort_unstable();
        let doubled = found.windows(2).filter(|pair| pair.first() == pair.last()).count();
        assert_eq!((found.len() as u64, doubled), (self.records, 0), "after {after}");
        assert_told(store);
        let spooled = files_below(&self.dir.path().join("state")).into_iter();
        let left: Vec<_> = spooled
            .filter(|name| [".staged", ".held", ".sealed", ".pack", ".packing"].iter().any(|end| name.ends_with(end)))
            .collect();
        assert!(left.is_empty(), "after {after}: {left:?}");
        // What a broken write to a disk leaves has such a name.
        let staged: Vec<_> =
            files_below(&self.dir.path().join("out")).into_iter().filter(|name| name.contains('#')).collect();
        assert!(staged.is_empty(), "after {after}: {staged:?}");
    }

    fn disk(&self) -> LocalFileSystem {
        LocalFileSystem::new_with_prefix(self.dir.path().join("out")).unwrap()
    }
}

#[cfg(feature = "failpoints")]
fn is_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

/// Points at which a first start dies, each at its nth time.
#[cfg(feature = "failpoints")]
const FIRST: [KilledAt; 25] = [
    killed_at("sink-objects::after-stage", &[1, 900]),
    killed_at("sink-objects::before-prepare", &[1, 2]),
    killed_at("sink-objects::before-rename", &[1, 2]),
    killed_at("sink-objects::between-renames", &[1, 2]),
    killed_at("sink-objects::after-rename", &[1, 2]),
    killed_at("sink-objects::after-mark", &[1, 2]),
    killed_at("sink-objects::before-pack", &[1, 3]),
    killed_at("sink-objects::before-pack-is-named", &[1, 3]),
    killed_at("sink-objects::after-pack", &[1, 3]),
    killed_at("sink-objects::before-upload", &[1, 3]),
    killed_at("sink-objects::before-put", &[1, 4]),
    killed_at("sink-objects::before-complete", &[1, 4]),
    killed_at("sink-objects::after-put", &[1, 2, 5]),
    killed_at("sink-objects::before-manifest", &[1, 3]),
    killed_at("sink-objects::after-manifest", &[1, 3]),
    killed_at("sink-objects::after-remove", &[1, 3]),
    killed_at("sink-objects::recovery-settled", &[1]),
    killed_at("commit::before-flush", &[2]),
    killed_at("commit::after-flush", &[2]),
    killed_at("commit::before-durable", &[2]),
    killed_at("commit::after-durable", &[2]),
    killed_at("commit::after-sink", &[2]),
    killed_at("commit::after-visible", &[2]),
    killed_at("commit::after-acknowledge", &[2]),
    killed_at("commit::before-close", &[1]),
];

/// Points at which the start after one that died dies too.
#[cfg(feature = "failpoints")]
const SECOND: [KilledAt; 13] = [
    killed_at("sink-objects::before-recovery", &[1]),
    killed_at("sink-objects::before-rename", &[1]),
    killed_at("sink-objects::after-rename", &[1]),
    killed_at("sink-objects::after-mark", &[1]),
    killed_at("sink-objects::recovery-settled", &[1]),
    killed_at("sink-objects::before-pack", &[1]),
    killed_at("sink-objects::after-pack", &[1]),
    killed_at("sink-objects::after-put", &[1]),
    killed_at("sink-objects::before-manifest", &[1]),
    killed_at("sink-objects::after-manifest", &[1]),
    killed_at("sink-objects::after-remove", &[1]),
    killed_at("recover::before-sinks", &[1]),
    killed_at("recover::after-sink", &[1]),
];

#[cfg(feature = "failpoints")]
#[test]
fn a_kill_at_any_point_on_a_disk_leaves_each_record_once() {
    for kill in kills(&FIRST) {
        let place = Place::new(30_000, ACCOUNT, None);
        place.dies(2, kill);
        place.finishes(1 + (kill.time() as usize % 3), &kill.to_string());
        place.assert_exact(&place.disk(), &kill.to_string());
    }
}

#[cfg(feature = "failpoints")]
#[test]
fn a_kill_during_recovery_leaves_each_record_once() {
    let mut struck = std::collections::BTreeSet::new();
    for first in kills(&[
        killed_at("commit::after-durable", &[2]),
        killed_at("sink-objects::after-rename", &[2]),
        killed_at("sink-objects::after-pack", &[1]),
        killed_at("sink-objects::after-put", &[1]),
    ]) {
        for kill in kills(&SECOND) {
            let (place, at) = (Place::new(30_000, ACCOUNT, None), format!("{first}, then {kill}"));
            place.dies(2, first);
            if is_killed(place.run(3, &kill.to_string())) {
                struck.insert(kill.point());
            }
            place.finishes(1, &at);
            place.assert_exact(&place.disk(), &at);
        }
    }
    assert_eq!(struck, SECOND.map(KilledAt::point).into_iter().collect(), "each must strike");
}

#[cfg(feature = "failpoints")]
#[test]
fn a_kill_around_the_packing_of_lines_leaves_each_record_once() {
    let points = [
        killed_at("sink-objects::after-rename", &[2]),
        killed_at("sink-objects::after-mark", &[2]),
        killed_at("sink-objects::before-pack", &[2]),
        killed_at("sink-objects::before-pack-is-named", &[2]),
        killed_at("sink-objects::after-pack", &[2]),
        killed_at("sink-objects::before-complete", &[1]),
        killed_at("sink-objects::after-put", &[2]),
        killed_at("commit::after-durable", &[3]),
    ];
    // A spool file that an attempt to pack it has made longer is packed once more.
    let again = ["before-pack-is-named", "after-pack", "before-put"].into_iter().cycle();
    for (kill, again) in kills(&points).zip(again) {
        let place = Place { writes_lines: true, ..Place::new(30_000, ACCOUNT, None) };
        place.dies(2, kill);
        place.run(1, &format!("sink-objects::{again}=kill(1)"));
        place.finishes(3, &kill.to_string());
        place.assert_exact(&place.disk(), &kill.to_string());
    }
}

#[test]
fn kills_at_random_times_on_a_disk_leave_each_record_once() {
    let seed =
        env::var("SHARDFLOW_KILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>);
    eprintln!("kills are drawn with SHARDFLOW_KILL_SEED={seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let mut killed = 0;
    for round in 0..3 {
        let place = Place::new(60_000, ACCOUNT, None);
        for _ in 0..8 {
            let mut child = place.start(random.random_range(1..4), "");
            let after = Duration::from_millis(random.random_range(20..500));
            if place.ends(&mut child, after).is_some() {
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            killed += 1;
        }
        place.finishes(2, &format!("random kills, round {round}, seed {seed}"));
        place.assert_exact(&place.disk(), &format!("random kills, round {round}, seed {seed}"));
    }
    eprintln!("{killed} processes were killed");
    assert!(killed > 5, "{killed} processes were killed");
}

fn client(server: &Ministack) -> AmazonS3 {
    let s3 = AmazonS3Builder::new().with_bucket_name(BUCKET).with_region("us-east-1").with_endpoint(server.endpoint());
    s3.with_access_key_id("test").with_secret_access_key("test").with_allow_http(true).build().unwrap()
}

/// A running server with an empty bucket; `None` where it is not installed.
fn server() -> Option<Ministack> {
    wait(async {
        let server = Ministack::start().await?;
        let answer = reqwest::Client::new().put(format!("{}/{BUCKET}", server.endpoint())).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        Some(server)
    })
}

/// Uploads in parts that were begun and neither completed nor aborted.
fn open_uploads(server: &Ministack) -> usize {
    let s3 = client(server);
    wait(async {
        let (root, options) =
            (object_store::path::Path::default(), SignedUrlOptions::new().with_query([("uploads", "")]));
        let url = s3.signed_url_opts(Method::GET, &root, Duration::from_secs(60), &options).await.unwrap();
        reqwest::get(url).await.unwrap().text().await.unwrap().matches("<UploadId>").count()
    })
}

#[cfg(feature = "failpoints")]
#[test]
fn a_kill_at_any_point_of_an_upload_to_s3_leaves_each_record_once_and_no_upload() {
    let mut left_open = 0;
    for kill in kills(&[
        killed_at("sink-objects::before-put", &[1]),
        killed_at("sink-objects::before-part", &[2, 3]),
        killed_at("sink-objects::before-complete", &[1]),
        killed_at("sink-objects::after-put", &[1, 2]),
        killed_at("sink-objects::before-manifest", &[1]),
        killed_at("sink-objects::after-manifest", &[1]),
    ]) {
        let Some(server) = server() else { return };
        // 24 MB, in objects of more than one part.
        let place = Place::new(1200, 20_000, Some(server.endpoint()));
        place.dies(1, kill);
        left_open += open_uploads(&server);
        place.finishes(2, &kill.to_string());
        place.assert_exact(&client(&server), &kill.to_string());
        assert_eq!(open_uploads(&server), 0, "after {kill}");
    }
    assert!(left_open > 0, "a kill between two parts leaves an upload");
}

#[test]
fn kills_at_random_times_on_s3_leave_each_record_once_and_no_upload() {
    let Some(server) = server() else { return };
    let seed =
        env::var("SHARDFLOW_KILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>);
    eprintln!("kills are drawn with SHARDFLOW_KILL_SEED={seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let place = Place::new(9000, 10_000, Some(server.endpoint()));
    let mut killed = 0;
    for _ in 0..12 {
        let mut child = place.start(random.random_range(1..4), "");
        if place.ends(&mut child, Duration::from_millis(random.random_range(50..300))).is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        killed += 1;
    }
    place.finishes(2, &format!("random kills, seed {seed}"));
    place.assert_exact(&client(&server), &format!("random kills, seed {seed}"));
    assert_eq!(open_uploads(&server), 0);
    eprintln!("{killed} processes were killed");
    assert!(killed > 2, "{killed} processes were killed");
}
