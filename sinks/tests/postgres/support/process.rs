//! A job over PostgreSQL in a process of its own, that can be killed: the test binary itself, asked for one ignored test, `job::the_job`.
//!
//! The job reads numbered charges from files and writes them twice: each as a row of `charges`, and the sum of each account as
//! a row of `totals`, over and over. The server refuses some of the charges.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use serde::{Deserialize, Serialize};
use shardflow::sink::Sink;
use shardflow::{EventTime, Job, JobArgs, Lag, json, seconds};
use shardflow_sinks::{PostgresSink, RedshiftSink, postgres, redshift};
use shardflow_sources::Files;
use tempfile::TempDir;

use super::redshift::Shared;
use shardflow_stand_ins::kill::Kill;
use shardflow_stand_ins::postgres::Database;
use shardflow_stand_ins::redshift::{Copies, SYSTEM};

/// A process that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// In how many files the charges lie.
const FILES: u64 = 3;

const ACCOUNTS: u64 = 50;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Charge {
    n: u64,
    account: String,
    cents: i64,
}

impl Charge {
    fn number(n: u64) -> Self {
        // The server refuses what is below zero.
        let cents = if is_refused(n) { -1 } else { i64::try_from(n % 90).unwrap() };
        Self { n, account: format!("a{}", n % ACCOUNTS), cents }
    }
}

fn is_refused(n: u64) -> bool {
    n % 997 == 5
}

/// An account's sum.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Sum {
    cents: i64,
    charges: u64,
}

/// What the process does: the job that its environment describes.
pub(crate) fn run_job() {
    let Ok(database) = std::env::var("JOB_DATABASE") else { return };
    let input = PathBuf::from(std::env::var_os("JOB_INPUT").unwrap());
    let bucket = std::env::var_os("JOB_BUCKET").map(PathBuf::from);
    let done = JobArgs::from_env().and_then(|args| match bucket {
        None => {
            let (charges, totals) = to_postgres(&database);
            job(input, args, charges, totals)
        }
        Some(bucket) => {
            let (charges, totals) = to_redshift(&database, &bucket);
            job(input, args, charges, totals)
        }
    });
    let code = done.map_or_else(
        |error| {
            eprintln!("{error}");
            3
        },
        |()| 0,
    );
    std::process::exit(code);
}

fn to_postgres(database: &str) -> (PostgresSink<Charge>, PostgresSink<Total>) {
    let server = postgres(database);
    let charges = server.table("charges").fields(["n", "account", "cents"]).rejected_to_table("rejected");
    let totals = server.table("totals").column("account", |total: &Total| &total.0);
    let totals = totals.column("cents", |total| &total.1.cents).column("charges", |total| &total.1.charges);
    // A process that stands still in the middle of a commit is not waited for longer.
    let charges = charges.call_timeout(Duration::from_secs(3));
    (charges, totals.upsert_by(["account"]).call_timeout(Duration::from_secs(3)))
}

/// Each sink with a table of loads of its own, so that they do not wait for each other.
fn to_redshift(database: &str, bucket: &Path) -> (RedshiftSink<Charge>, RedshiftSink<Total>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let bucket: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new_with_prefix(bucket).unwrap());
    let copies = || {
        let log = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(database, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client
        });
        Shared(Arc::new(Copies::new(log)), Arc::clone(&bucket))
    };
    let cluster = redshift(database);
    let charges = cluster.table("charges").fields(["n", "account", "cents"]).rejected_to_table("rejected");
    let charges = charges.staged_in("s3://staging/red").staging_store(Arc::clone(&bucket)).copy_with(copies());
    let totals = cluster.table("totals").column("account", |total: &Total| &total.0);
    let totals = totals.column("cents", |total| &total.1.cents).column("charges", |total| &total.1.charges);
    let totals = totals.staged_in("s3://staging/red").staging_store(Arc::clone(&bucket)).copy_with(copies());
    // Lives as long as the process.
    std::mem::forget(runtime);
    (charges, totals.upsert_by(["account"]).loads_table("totals_loads"))
}

/// An account with its sum.
type Total = (String, Sum);

fn job(
    input: PathBuf,
    args: JobArgs,
    charges: impl Sink<Charge> + Clone,
    totals: impl Sink<Total> + Clone,
) -> shardflow::Result<()> {
    let summary = Job::named("billing").args(args).run(move |flow| {
        let (read, bad) = flow.source("read", Files::new(&input)).decode(json::<Charge>());
        bad.sink("bad", shardflow::testing::Collected::new());
        let read = read.event_time(|_| EventTime::MIN, Lag::of(seconds(0)));
        read.clone().sink("charges", charges.clone());
        read.key_by(|charge| charge.account.clone())
            .running()
            .fold("sums", Sum::default, |sum, charge| {
                sum.cents += charge.cents;
                sum.charges += 1;
            })
            .map(|result| (result.key, result.value))
            .sink("totals", totals.clone());
    });
    summary.map(drop)
}

/// The job's input, its state, its database, and what has to come out.
pub(crate) struct Place {
    folder: TempDir,
    pub(crate) db: Database,
    charges: u64,
    is_redshift: bool,
}

impl Place {
    /// For the postgres sink.
    pub(crate) fn new(charges: u64) -> Option<Self> {
        Self::of(charges, false)
    }

    /// For the redshift sink.
    pub(crate) fn redshift(charges: u64) -> Option<Self> {
        let place = Self::of(charges, true)?;
        place.db.run(SYSTEM);
        Some(place)
    }

    fn of(charges: u64, is_redshift: bool) -> Option<Self> {
        let place = Self { folder: tempfile::tempdir().unwrap(), db: Database::fresh()?, charges, is_redshift };
        fs::create_dir(place.path("in")).unwrap();
        for file in 0..FILES {
            let mut text = String::new();
            for n in (file..charges).step_by(FILES as usize) {
                writeln!(text, "{}", serde_json::to_string(&Charge::number(n)).unwrap()).unwrap();
            }
            fs::write(place.path("in").join(format!("{file}.ndjson")), text).unwrap();
        }
        place.reset();
        Some(place)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As before the first start.
    pub(crate) fn reset(&self) {
        for folder in ["state", "bucket"] {
            let _ = fs::remove_dir_all(self.path(folder));
        }
        fs::create_dir(self.path("bucket")).unwrap();
        self.db.run(
            "DROP TABLE IF EXISTS charges, rejected, totals, shardflow_commits, shardflow_loads, totals_loads;
             CREATE TABLE charges (n bigint, account text, cents bigint CHECK (cents >= 0));
             CREATE TABLE totals (account text PRIMARY KEY, cents bigint, charges bigint);
             CREATE OR REPLACE FUNCTION grow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF NEW.charges < OLD.charges THEN RAISE EXCEPTION 'a total goes back'; END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER grow BEFORE UPDATE ON totals FOR EACH ROW EXECUTE FUNCTION grow()",
        );
    }

    /// A process of the job, that the named points may kill.
    pub(crate) fn start(&self, workers: usize, points: &str) -> Process {
        self.start_on("state", workers, points)
    }

    /// As [`start`](Self::start), with another state.
    pub(crate) fn start_on(&self, state: &str, workers: usize, points: &str) -> Process {
        let said = self.path(&format!("{state}.said"));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "job::the_job", "--ignored", "--nocapture"])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command.stderr(File::create(&said).unwrap()).env("FAILPOINTS", points);
        command.env("JOB_DATABASE", self.db.address()).env("JOB_INPUT", self.path("in"));
        command.env("SHARDFLOW_STATE", self.path(state)).env("SHARDFLOW_WORKERS", workers.to_string());
        if self.is_redshift {
            command.env("JOB_BUCKET", self.path("bucket"));
        }
        // Little an epoch, so that there are several.
        command.env("SHARDFLOW_EPOCH", "10ms").env("SHARDFLOW_IN_FLIGHT_BYTES", "1MiB");
        Process { child: command.spawn().unwrap(), said }
    }

    /// A process that kills itself at a point.
    pub(crate) fn dies(&self, workers: usize, kill: Kill) {
        let mut process = self.start(workers, &kill.to_string());
        let status = process.end(PATIENCE).expect("it ends by itself");
        assert_eq!(status.signal(), Some(9), "{kill}: {status}: {}", process.said());
    }

    /// How many charges have come so far, and that none has come twice.
    pub(crate) fn hold_so_far(&self) -> u64 {
        if self.db.psql("SELECT to_regclass('rejected') IS NULL") == "t" {
            assert_eq!(self.db.psql("SELECT count(*) FROM charges"), "0");
            return 0;
        }
        let all = "(SELECT n FROM charges UNION ALL SELECT (\"row\"::json->>'n')::bigint FROM rejected) AS a";
        let twice = self.db.psql(&format!("SELECT n FROM {all} GROUP BY n HAVING count(*) > 1 LIMIT 5"));
        assert_eq!(twice, "", "charges that came twice");
        self.db.psql(&format!("SELECT count(*) FROM {all}")).parse().unwrap()
    }

    /// Everything has come out, once.
    pub(crate) fn hold(&self) {
        assert_eq!(self.hold_so_far(), self.charges);
        let (mut refused, mut sums) = (0, BTreeMap::<String, Sum>::new());
        for charge in (0..self.charges).map(Charge::number) {
            refused += u64::from(is_refused(charge.n));
            let sum = sums.entry(charge.account).or_default();
            sum.cents += charge.cents;
            sum.charges += 1;
        }
        assert_eq!(self.db.psql("SELECT count(*) FROM rejected"), refused.to_string());
        let kept = "SELECT count(*), sum(cents) FROM charges";
        let cents: i64 = (0..self.charges).filter(|n| !is_refused(*n)).map(|n| Charge::number(n).cents).sum();
        assert_eq!(self.db.psql(kept), format!("{}|{cents}", self.charges - refused));
        let expected: Vec<_> =
            sums.iter().map(|(account, sum)| format!("{account}|{}|{}", sum.cents, sum.charges)).collect();
        let totals = self.db.psql("SELECT account, cents, charges FROM totals ORDER BY account COLLATE \"C\"");
        assert_eq!(totals, expected.join("\n"));
    }
}

/// A running process.
pub(crate) struct Process {
    child: Child,
    said: PathBuf,
}

impl Process {
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
    }

    /// Waits until it has ended, or is killed after so long.
    fn end(&mut self, within: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            if Instant::now() > deadline {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until it says this.
    pub(crate) fn says(&mut self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.said().contains(what) {
            assert!(self.child.try_wait().unwrap().is_none(), "it ended before it said \"{what}\": {}", self.said());
            assert!(Instant::now() < deadline, "it did not say \"{what}\": {}", self.said());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Kills it after so long. Whether it was still running.
    pub(crate) fn killed_after(mut self, time: Duration) -> bool {
        match self.end(time) {
            None => true,
            Some(status) => {
                assert!(status.success(), "{status}: {}", self.said());
                false
            }
        }
    }

    /// Kills it so long after something has come about. Whether it was still running.
    pub(crate) fn killed_once(mut self, mut has_come: impl FnMut() -> bool, then: Duration) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !has_come() && self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "nothing comes: {}", self.said());
            std::thread::sleep(Duration::from_millis(2));
        }
        self.killed_after(then)
    }

    /// It kills itself at a point, or never comes there since it had done all before.
    pub(crate) fn dies_or_succeeds(mut self) {
        let status = self.end(PATIENCE).expect("it ends by itself");
        assert!(status.success() || status.signal() == Some(9), "{status}: {}", self.said());
    }

    pub(crate) fn succeeds(mut self) {
        let status = self.end(PATIENCE).expect("it ends by itself");
        assert!(status.success(), "{status}: {}", self.said());
    }

    /// It stops with an error. What it says of it.
    pub(crate) fn fails(mut self) -> String {
        let status = self.end(PATIENCE).expect("it ends by itself");
        assert_eq!(status.code(), Some(3), "{status}: {}", self.said());
        self.said()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
