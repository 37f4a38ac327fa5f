//! The command line: what is asked for, checked before anything is touched.
//!
//! A wrong command gives one line on stderr, `metering: …`, and exit code 2; a failure gives one line and 1.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand};
use shardflow::{ErrorKind, JobArgs};

use super::config::{RunConfig, SourceSpec};
use super::stream::StreamArgs;
use super::workload::Spec;

/// Spans of event time beyond a century are typing errors.
const CENTURY_MS: u64 = 100 * 366 * 24 * 3_600_000;

/// Charges from usage records, exactly once, by event time.
#[derive(Debug, Parser)]
#[command(name = "metering", version, about, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the job: read usage, write charges, late and rejected records.
    ///
    /// A file source ends the job when it is read to its end and everything is committed. SIGINT or SIGTERM stops it
    /// after a last commit; the next start with the same --state goes on there, with any number of workers.
    Run(Box<RunArgs>),
    /// Write usage records to files, the same for the same seed.
    Generate(GenerateArgs),
    /// Watch the job survive: an embedded Kinesis, resharding, a SIGKILL, and an audit at the end.
    Demo(DemoArgs),
}

/// `metering run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Where usage comes from: file:PATH (a file or a folder of NDJSON) or kinesis:STREAM.
    #[arg(long, value_name = "file:PATH|kinesis:STREAM")]
    pub source: SourceSpec,
    /// Folder for charges/, late/ and rejected/.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Where an output goes, several times: charges in place of charges/ below --out, the bill of each account, or every
    /// usage record as Parquet (archive=). TARGET is files:DIR, s3://BUCKET/PREFIX (or gs://, az://, file:///), dynamodb:TABLE,
    /// postgres://USER@HOST/DATABASE#TABLE, opensearch:https://HOST:PORT/INDEX or kinesis:STREAM. Credentials, regions and
    /// endpoints come from the environment.
    #[arg(long, value_name = "[charges=|bill=|archive=]TARGET")]
    pub sink: Vec<String>,
    /// Length of a window of event time, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(1..=CENTURY_MS))]
    pub window_ms: u64,
    /// How far out of order records may be, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(0..=CENTURY_MS))]
    pub lag_ms: u64,
    /// How long after its end a window still takes records, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=CENTURY_MS))]
    pub grace_ms: u64,
    /// How far apart in event time two records of one id count once, in milliseconds; 0 counts them all.
    #[arg(long, value_name = "MS", default_value_t = 86_400_000, value_parser = clap::value_parser!(u64).range(0..=CENTURY_MS))]
    pub dedupe_ms: u64,
    /// How often results are committed, in milliseconds, 10 and more; counts before --epoch [default: 200]
    #[arg(long, value_name = "MS")]
    pub epoch_ms: Option<u64>,
    /// Print what the job consists of, step by step, and open nothing.
    #[arg(long)]
    pub explain: bool,
    /// Where to report latencies to.
    #[arg(long, value_name = "FILE", hide = true)]
    pub report: Option<PathBuf>,
    /// Stop when standard input ends: with the demo that started the job.
    #[arg(long, hide = true)]
    pub tethered: bool,
    /// How a stream is read.
    #[command(flatten)]
    pub stream: StreamArgs,
    /// The engine's own settings.
    #[command(flatten)]
    pub job: JobArgs,
}

impl RunArgs {
    /// Checks the arguments together.
    ///
    /// # Errors
    /// [`Usage`], naming the flags that do not go together.
    pub fn config(mut self) -> Result<RunConfig, Usage> {
        let state = self.job.state.clone().ok_or_else(|| Usage("--state DIR is missing".to_owned()))?;
        self.job.epoch = self.epoch_ms.map(Duration::from_millis).or(self.job.epoch);
        // Read here and not by clap, whose errors repeat what was given: it may hold a password.
        let mut sinks = Vec::with_capacity(self.sink.len());
        for text in &self.sink {
            sinks.push(text.parse().map_err(|why| Usage(format!("could not read a --sink: {why}")))?);
        }
        let config = RunConfig {
            sinks,
            source: self.source,
            stream: self.stream,
            out: self.out,
            state,
            job: self.job,
            window: Duration::from_millis(self.window_ms),
            lag: Duration::from_millis(self.lag_ms),
            grace: Duration::from_millis(self.grace_ms),
            dedupe: Duration::from_millis(self.dedupe_ms),
            report: self.report,
            tethered: self.tethered,
        };
        config.check().map_err(Usage)?;
        Ok(config)
    }
}

/// `metering generate`.
#[derive(Debug, Clone, Args)]
pub struct GenerateArgs {
    /// How many records, duplicates and bad ones included. They cover an hour of event time.
    #[arg(long, value_name = "N")]
    pub records: u64,
    /// Decides everything: the same seed gives the same files.
    #[arg(long, value_name = "S")]
    pub seed: u64,
    /// Over how many files the accounts are spread.
    #[arg(long, value_name = "K", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub files: usize,
    /// An empty or a new folder.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Share of records that are followed by an exact copy.
    #[arg(long, value_name = "SHARE", default_value_t = 0.02, value_parser = share)]
    pub duplicates: f64,
    /// Share of records that come 10 to 30 minutes late.
    #[arg(long, value_name = "SHARE", default_value_t = 0.001, value_parser = share)]
    pub late: f64,
    /// Share of records that are no usage records.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0005, value_parser = share)]
    pub bad: f64,
    /// How far out of order records are, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 4_000, value_parser = clap::value_parser!(u64).range(0..=3_600_000))]
    pub disorder_ms: u64,
}

impl GenerateArgs {
    /// The workload that is asked for.
    #[must_use]
    pub fn spec(&self) -> Spec {
        Spec {
            lanes: self.files,
            duplicates: self.duplicates,
            late: self.late,
            bad: self.bad,
            disorder: self.disorder_ms,
            ..Spec::new(self.records, self.seed)
        }
    }
}

/// `metering demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// How long to put records, in seconds.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(5..=3_600))]
    pub seconds: u64,
    /// Records to put a second.
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(100..=50_000))]
    pub rate: u64,
    /// Decides the records.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// A folder to keep output, state and logs in; without it they are kept only if the demo fails.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// A command that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

pub(super) fn url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => Ok(text.to_owned()),
        _ => Err("expected http://HOST[:PORT] or https://HOST[:PORT]".to_owned()),
    }
}

/// Runs the command line that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Cli::try_parse() {
        Ok(cli) => perform(cli.command),
        Err(error) if !error.use_stderr() => {
            // Help and version. A closed pipe is no reason to fail.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => Err(Usage(usage_line(&error)).into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody can read it, the exit code still tells.
            let _ = writeln!(std::io::stderr(), "metering: {}", one_line(&whole(&error)));
            ExitCode::from(exit_code(&error))
        }
    }
}

fn perform(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(args) if args.explain => {
            let text = super::run::explain(args.config()?)?;
            // A closed pipe is no reason to fail.
            let _ = writeln!(std::io::stdout(), "{text}");
            Ok(())
        }
        Command::Run(args) => super::run::run(args.config()?),
        Command::Generate(args) => {
            let summary = super::generate::generate(args.spec(), &args.out)?;
            // A closed pipe is no reason to fail.
            let _ = writeln!(std::io::stdout(), "{summary}");
            Ok(())
        }
        Command::Demo(args) => super::demo::demo(&args),
    }
}

/// 2 where the command or the configuration is wrong, 1 otherwise.
fn exit_code(error: &anyhow::Error) -> u8 {
    let config = error.downcast_ref::<shardflow::Error>().is_some_and(|error| error.kind() == ErrorKind::Config);
    if config || error.is::<Usage>() { 2 } else { 1 }
}

/// clap's message without its usage and tips.
fn usage_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let message = text.split("\n\n").next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    if matches!(error.kind(), clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand) {
        return "expected one of run, generate, demo; see metering --help".to_owned();
    }
    message.to_owned()
}

/// The error and its causes. The engine's errors name theirs themselves.
fn whole(error: &anyhow::Error) -> String {
    let mut parts = Vec::new();
    for cause in error.chain() {
        parts.push(cause.to_string());
        if cause.is::<shardflow::Error>() {
            break;
        }
    }
    parts.join(": ")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardflow::runtime::JobConfig;

    fn refused(args: &[&str]) -> String {
        let error = Cli::try_parse_from([&["metering"], args].concat()).unwrap_err();
        assert!(error.use_stderr(), "{args:?}");
        one_line(&usage_line(&error))
    }

    fn run_args(extra: &[&str]) -> Result<RunConfig, String> {
        let base = ["metering", "run", "--source", "kinesis:s", "--out", "o", "--state", "s"];
        let cli = Cli::try_parse_from([&base, extra].concat()).map_err(|error| one_line(&usage_line(&error)))?;
        match cli.command {
            Command::Run(args) => args.config().map_err(|error| error.0),
            _ => Err("not run".to_owned()),
        }
    }

    #[test]
    fn defaults_are_those_of_the_manual() {
        let config = run_args(&[]).unwrap();
        assert_eq!((config.stream.set(), config.stream.consumer.as_str()), (None, "metering"));
        let job = JobConfig::named("metering").resolve(&config.job).unwrap();
        assert_eq!((job.epoch, job.state), (Duration::from_millis(200), "s".into()));
        let semantics = config.semantics();
        assert_eq!((semantics.window, semantics.lag), (60_000, 5_000));
        assert_eq!((semantics.grace, semantics.dedupe), (0, 86_400_000));
    }

    #[test]
    fn epoch_in_milliseconds_is_the_engines_epoch() {
        let config = run_args(&["--epoch-ms", "50", "--epoch", "1s", "--workers", "3"]).unwrap();
        assert_eq!((config.job.epoch, config.job.workers), (Some(Duration::from_millis(50)), Some(3)));
    }

    #[test]
    fn clap_finds_the_command_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_values_are_named_with_their_flag_in_one_line() {
        for (args, expected) in [
            (&["--workers", "two"][..], "'two' for '--workers <N>'"),
            (&["--window-ms", "0"], "'0' for '--window-ms <MS>'"),
            (&["--lag-ms=-1"], "'-1' for '--lag-ms <MS>'"),
            (&["--dedupe-ms", "99999999999999999999"], "--dedupe-ms"),
            (&["--endpoint", "localhost:4567"], "expected http://HOST"),
            (&["--start", "noon"], "noon"),
            (&["--read", "aloud"], "'aloud' for '--read <WAY>'"),
            (&["--colour"], "unexpected argument '--colour'"),
        ] {
            let error = run_args(args).unwrap_err();
            assert!(error.contains(expected), "{args:?}: {error}");
        }
    }

    #[test]
    fn missing_flags_are_all_named() {
        let error = run_args(&["--sink", "postgres://me:secret@db/billing"]).unwrap_err();
        assert!(error.contains("#TABLE") && !error.contains("secret"), "{error}");
        let error = refused(&["run", "--source", "file:x"]);
        assert!(error.contains("--out <DIR>"), "{error}");
        assert!(refused(&[]).contains("run, generate, demo"));
        assert!(refused(&["generate", "--late", "2"]).contains("expected a number from 0 to 1"));
        assert!(refused(&["run", "--source", "x"]).contains("expected file:PATH or kinesis:STREAM"));
    }

    #[test]
    fn flags_that_do_not_go_together_are_refused() {
        for (args, expected) in [
            (&["--source", "file:in", "--out", "o", "--state", "./o"][..], "--out and --state"),
            (&["--source", "file:in", "--out", "in/o", "--state", "s"], "--out must not be inside"),
            (&["--source", "file:in", "--out", "s/o", "--state", "s"], "--out must not be inside --state"),
            (&["--source", "file:in", "--out", "o", "--state", "o/late"], "--state must not be inside"),
            (&["--source", "file:in", "--out", "o", "--state", "in"], "--state must not be inside"),
            (
                &["--source", "file:in", "--out", "o", "--state", "s", "--sink", "files:in/x"],
                "--sink must not be inside",
            ),
            (
                &["--source", "file:in", "--out", "o", "--state", "s", "--sink", "files:s"],
                "--sink must not be inside --state",
            ),
            (&["--source", "file:in", "--out", "o", "--state", "s", "--start", "latest"], "--start goes with"),
            (&["--source", "file:in", "--out", "o", "--state", "s", "--endpoint", "http://h"], "--endpoint goes with"),
            (&["--source", "file:in", "--out", "o", "--state", "s", "--read", "fan-out"], "--read goes with"),
        ] {
            let cli = Cli::try_parse_from([&["metering", "run"][..], args].concat()).unwrap();
            let Command::Run(args) = cli.command else { panic!("not run") };
            let error = args.config().unwrap_err().0;
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_error_is_told_once_with_all_its_causes() {
        let inner = shardflow::Error::state("inner").caused_by(std::io::Error::other("disk"));
        let error = anyhow::Error::from(shardflow::Error::state("outer").caused_by(inner)).context("doing it");
        assert_eq!(whole(&error), "doing it: outer: inner: disk");
        assert_eq!(whole(&anyhow::Error::from(std::io::Error::other("disk")).context("doing it")), "doing it: disk");
    }

    #[test]
    fn usage_errors_exit_with_2_and_failures_with_1() {
        assert_eq!(exit_code(&Usage("x".to_owned()).into()), 2);
        assert_eq!(exit_code(&shardflow::Error::config("x").into()), 2);
        assert_eq!(exit_code(&shardflow::Error::state("x").into()), 1);
    }
}
