//! `metering demo`: the job on an embedded Kinesis, resharded, killed and audited.
//!
//! A producer puts records with copies, disorder, late and bad ones into a stream of four shards, half of them aggregated as
//! the Kinesis Producer Library does. The job runs as a child process and reads by enhanced fan-out. A fifth into the time
//! every shard is split, halfway the job gets SIGKILL and starts again with another number of workers, and then all shards
//! are merged in pairs. At the end markers close every window, the job gets SIGTERM, and
//! the producer's ledger is compared with the committed files.
//!
//! Every wait is bounded, and the job never outlives the demo unless the demo itself is killed.

pub mod audit;
pub mod child;
pub mod embedded;
pub mod ledger;
pub mod producer;
pub mod view;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::audit::Audit;
use self::child::{Job, JobSpec};
use self::embedded::{Embedded, Stream};
use self::ledger::Ledger;
use self::producer::{Producer, SharedLedger, put_markers};
use self::view::{Progress, RowCounter, View};
use super::cli::DemoArgs;
use super::decode::now_millis;
use super::generate::require_empty;
use super::reference::Semantics;
use super::report::{Report, add_pairs, new_histogram};
use super::workload::{Spec, Workload};

/// The stream's name.
const STREAM: &str = "usage";
/// Its shards at the beginning.
const SHARDS: i32 = 4;
/// Short windows, so that most of them close while one looks on. The lag is above the records' disorder.
const SEMANTICS: Semantics = Semantics { window: 5_000, lag: 3_000, grace: 0, dedupe: 86_400_000 };
/// How far out of order records are put, in milliseconds.
const DISORDER: u64 = 2_000;
/// Workers before the crash and after it.
const WORKERS: [usize; 2] = [2, 3];
/// How far behind the last record the markers lie, in milliseconds: every window closes.
const MARKER_AHEAD: u64 = 3_600_000;
/// How long after the last record the audit may take to hold.
const SETTLES_WITHIN: Duration = Duration::from_secs(60);
/// How long the job may take to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(30);

/// What happens to the job and its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Split,
    Crash,
    Merge,
}

/// When, in tenths of the time.
const STEPS: [(u32, Step); 3] = [(2, Step::Split), (5, Step::Crash), (7, Step::Merge)];

/// Runs the demo.
///
/// # Errors
/// An audit that fails, a job that stops by itself or does not stop, a signal.
pub fn demo(args: &DemoArgs) -> Result<()> {
    let place = Place::new(args.dir.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("could not start tokio")?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = drive(args, place.path()) => result,
            result = interrupted() => result,
        }
    });
    // An audit that is being computed cannot be cancelled, and must not hold up a Ctrl-C.
    runtime.shutdown_background();
    place.close(result)
}

/// Where the demo's files are.
enum Place {
    Given(PathBuf),
    Temporary(TempDir),
}

impl Place {
    fn new(dir: Option<&Path>) -> Result<Self> {
        if let Some(dir) = dir {
            require_empty(dir, "demo")?;
            return Ok(Self::Given(dir.to_path_buf()));
        }
        let dir = tempfile::Builder::new().prefix("metering-demo-").tempdir();
        dir.map(Self::Temporary).context("could not make a temporary folder")
    }

    fn path(&self) -> &Path {
        match self {
            Self::Given(dir) => dir,
            Self::Temporary(dir) => dir.path(),
        }
    }

    /// Keeps a failed demo's files, and says where.
    fn close(self, result: Result<()>) -> Result<()> {
        match (self, result) {
            (_, Ok(())) => Ok(()),
            (Self::Given(dir), Err(error)) => Err(error.context(kept(&dir))),
            (Self::Temporary(dir), Err(error)) => Err(error.context(kept(&dir.keep()))),
        }
    }
}

fn kept(dir: &Path) -> String {
    format!("demo, its files are kept in \"{}\"", dir.display())
}

async fn interrupted() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("could not listen for signals")?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.context("could not listen for signals")?,
        _ = terminate.recv() => {}
    }
    bail!("interrupted")
}

async fn drive(args: &DemoArgs, dir: &Path) -> Result<()> {
    let server = Embedded::start().await?;
    let stream = Stream::create(server.client(), STREAM, SHARDS).await?;
    let ledger = SharedLedger::new();
    let workload = Workload::new(workload(args))?;
    let mut demo = Demo::start(args, dir, server.endpoint(), stream.clone(), ledger.clone())?;
    let producer = Producer::new(stream, workload, ledger, args.seed).aggregating().await?;
    let producer = tokio::spawn(producer.run(args.rate));
    demo.produce(producer).await?;
    let settled = demo.settle().await?;
    demo.finish(settled).await
}

/// Event time is the wall clock: the first record happens now.
fn workload(args: &DemoArgs) -> Spec {
    Spec {
        start: now_millis(),
        span: args.seconds.saturating_mul(1000),
        disorder: DISORDER,
        behind: 30_000..=60_000,
        // Each shard has met ordinary records by then.
        warmup: args.rate,
        ..Spec::new(args.rate.saturating_mul(args.seconds), args.seed)
    }
}

/// A demo in progress.
struct Demo {
    length: Duration,
    started: Instant,
    stream: Stream,
    ledger: SharedLedger,
    spec: JobSpec,
    job: Option<Job>,
    workers: usize,
    reports: Vec<PathBuf>,
    out: PathBuf,
    charges: RowCounter,
    shards: usize,
    view: View,
}

impl Demo {
    fn start(args: &DemoArgs, dir: &Path, endpoint: &str, stream: Stream, ledger: SharedLedger) -> Result<Self> {
        let out = dir.join("out");
        let spec = JobSpec {
            program: std::env::current_exe().context("could not find this program")?,
            arguments: job_arguments(endpoint, &out, &dir.join("state")),
            dir: dir.to_path_buf(),
        };
        let mut demo = Self {
            length: Duration::from_secs(args.seconds),
            started: Instant::now(),
            stream,
            ledger,
            spec,
            job: None,
            workers: 0,
            reports: Vec::new(),
            charges: RowCounter::new(&out.join("charges")),
            out,
            shards: SHARDS as usize,
            view: View::new(args.seconds)?,
        };
        demo.view.event(&format!(
            "a stream of {SHARDS} shards at {endpoint}, {} records/s, half of them aggregated; read by fan-out",
            args.rate
        ));
        demo.start_job()?;
        Ok(demo)
    }

    fn start_job(&mut self) -> Result<()> {
        let workers = WORKERS.get(self.reports.len() % WORKERS.len()).copied().unwrap_or(1);
        let job = Job::start(&self.spec, self.reports.len() + 1, workers)?;
        self.workers = workers;
        self.reports.push(job.report().to_path_buf());
        self.job = Some(job);
        self.view.event(&format!("the job starts with {workers} workers"));
        Ok(())
    }

    fn job(&mut self) -> Result<&mut Job> {
        self.job.as_mut().context("the job is not running")
    }

    /// Lets the producer put everything, while the steps happen.
    async fn produce(&mut self, mut producer: JoinHandle<Result<()>>) -> Result<()> {
        // A machine that is too slow for the rate gets three times the time.
        let deadline = self.started + self.length * 3 + Duration::from_secs(30);
        let mut steps = STEPS.iter().peekable();
        let mut beat = interval(Duration::from_millis(250));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                result = &mut producer => {
                    result.context("the producer panicked")??;
                    break;
                }
                _ = beat.tick() => {}
            }
            self.job()?.must_be_running()?;
            if let Some((_, step)) = steps.next_if(|(tenths, _)| self.started.elapsed() >= self.length / 10 * *tenths) {
                self.perform(*step).await?;
            }
            self.show();
            if Instant::now() > deadline {
                producer.abort();
                bail!("the records were not put within {} s", (deadline - self.started).as_secs());
            }
        }
        for (_, step) in steps {
            self.perform(*step).await?;
        }
        Ok(())
    }

    async fn perform(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Split => {
                let shards = self.stream.open_shards().await?;
                for shard in &shards {
                    self.stream.split(shard).await?;
                }
                self.view.event(&format!("all {} shards are split", shards.len()));
            }
            Step::Merge => {
                let shards = self.stream.open_shards().await?;
                for pair in shards.chunks(2) {
                    if let [left, right] = pair {
                        self.stream.merge(left, right).await?;
                    }
                }
                self.view.event(&format!("all {} shards are merged in pairs", shards.len()));
            }
            Step::Crash => {
                self.job.take().context("the job is not running")?.kill().await?;
                self.view.event("the job is killed (SIGKILL)");
                self.start_job()?;
            }
        }
        self.shards = self.stream.open_shards().await?.len();
        Ok(())
    }

    fn show(&mut self) {
        let committed = self.read_reports().iter().fold(0_u64, |sum, report| sum.saturating_add(report.committed()));
        let sent = self.ledger.open().sent();
        self.view.show(Progress {
            sent,
            rate: 0,
            charged: self.charges.count(),
            shards: self.shards,
            workers: self.workers,
            incarnation: self.reports.len(),
            backlog: sent.saturating_sub(committed),
        });
    }

    /// What the job has reported. A report that is missing or broken shows nothing; it decides nothing.
    fn read_reports(&self) -> Vec<Report> {
        self.reports.iter().filter_map(|path| Report::read(path).ok().flatten()).collect()
    }

    /// Closes all windows and waits until the books agree. Gives whether they did in time.
    async fn settle(&mut self) -> Result<bool> {
        let at = self.ledger.open().latest().saturating_add(MARKER_AHEAD);
        let markers = put_markers(&self.stream, at).await?;
        self.view.event(&format!("everything is put; {markers} markers close the windows"));
        let deadline = Instant::now() + SETTLES_WITHIN;
        let mut beat = interval(Duration::from_millis(500));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            self.job()?.must_be_running()?;
            self.show();
            if self.audit().await?.holds() {
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Ok(false);
            }
        }
    }

    async fn audit(&self) -> Result<Audit> {
        let (ledger, out) = (self.ledger.clone(), self.out.clone());
        let audit = tokio::task::spawn_blocking(move || Audit::of(&ledger.open(), &out, &SEMANTICS));
        audit.await.context("the audit panicked")?
    }

    /// Stops the job, and prints the audit of what it leaves.
    async fn finish(&mut self, settled: bool) -> Result<()> {
        let stopped = self.job.take().context("the job is not running")?.stop(STOPS_WITHIN).await;
        let audit = self.audit().await?;
        self.view.finish();
        // A closed pipe is no reason to keep the verdict back.
        let summary = summary(&audit, &self.read_reports(), &self.ledger.open(), self.reports.len());
        let _ = std::io::stdout().write_all(summary.as_bytes());
        if !audit.holds() {
            let Audit { lost, twice, wrong, first, .. } = &audit;
            let first = first.first().map(String::as_str).unwrap_or_default();
            bail!("the audit failed, {lost} lost, {twice} twice, {wrong} wrong: {first}");
        }
        if !settled {
            bail!("the results were committed later than {} s after the last record", SETTLES_WITHIN.as_secs());
        }
        stopped
    }
}

fn job_arguments(endpoint: &str, out: &Path, state: &Path) -> Vec<String> {
    let Semantics { window, lag, grace, dedupe } = SEMANTICS;
    [
        "run",
        "--source",
        &format!("kinesis:{STREAM}"),
        "--endpoint",
        endpoint,
        "--read",
        "fan-out",
        "--out",
        &out.to_string_lossy(),
        "--state",
        &state.to_string_lossy(),
        "--window-ms",
        &window.to_string(),
        "--lag-ms",
        &lag.to_string(),
        "--grace-ms",
        &grace.to_string(),
        "--dedupe-ms",
        &dedupe.to_string(),
    ]
    .map(str::to_owned)
    .to_vec()
}

fn summary(audit: &Audit, reports: &[Report], ledger: &Ledger, starts: usize) -> String {
    let (mut put_to_read, mut read_to_commit) = (new_histogram(), new_histogram());
    for report in reports {
        add_pairs(&mut put_to_read, &report.put_to_read);
        add_pairs(&mut read_to_commit, &report.read_to_commit);
    }
    let mut text = format!("\n{audit}\n");
    for (name, histogram) in [("put → read", put_to_read), ("read → committed", read_to_commit)] {
        let _ = writeln!(text, "{name:<18}{}", quantiles(&histogram));
    }
    let (requests, retried) = (ledger.requests(), ledger.retried());
    let _ = writeln!(text, "{requests} requests, {retried} records put again; {starts} starts of the job");
    let verdict = if audit.holds() { "the audit holds" } else { "THE AUDIT FAILS" };
    let _ = writeln!(text, "{verdict}");
    text
}

fn quantiles(histogram: &Histogram<u64>) -> String {
    if histogram.is_empty() {
        return "not reported".to_owned();
    }
    let millis = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    let (p50, p99, max) = (millis(0.5), millis(0.99), histogram.max() as f64 / 1000.0);
    format!("p50 {p50:>7.1} ms   p99 {p99:>7.1} ms   max {max:>7.1} ms   of {} records", histogram.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_takes_the_arguments_that_it_is_given() {
        use crate::metering::cli::{Cli, Command};
        use clap::Parser;
        let arguments = job_arguments("http://127.0.0.1:1", Path::new("o"), Path::new("s"));
        let cli = Cli::try_parse_from([vec!["metering".to_owned()], arguments].concat()).unwrap();
        let Command::Run(args) = cli.command else { panic!("not run") };
        assert_eq!(args.config().unwrap().semantics(), SEMANTICS);
    }

    #[test]
    fn disorder_makes_no_ordinary_record_late() {
        const { assert!(DISORDER < SEMANTICS.lag) };
    }

    #[test]
    fn quantiles_are_in_milliseconds() {
        let mut histogram = new_histogram();
        assert_eq!(quantiles(&histogram), "not reported");
        histogram.record(2_000).unwrap();
        assert!(quantiles(&histogram).starts_with("p50     2.0 ms   p99"), "{}", quantiles(&histogram));
    }
}
