//! The command line, and the order of things.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::input::Input;
use crate::report::{self, Peers};
use crate::results::{Group, Results, Stamp};
use crate::throughput::Programs;
use crate::{idle, kinesis, limits, made, paced, parts, recovery, start, throughput};

/// Measures the metering job on this machine, beside what the machine allows.
#[derive(Debug, Parser)]
#[command(name = "shardflow-bench", version, about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    all: All,
}

/// What is measured, and how long.
#[derive(Debug, Args)]
struct All {
    /// Records to generate and to read.
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1_000..=1_000_000_000))]
    records: u64,
    /// Runs of each program; the median counts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = RangedU64ValueParser::<usize>::new().range(1..=99))]
    runs: usize,
    /// A tenth of the records, one run, short waits: whether it works, not how fast.
    #[arg(long)]
    quick: bool,
    /// Only some groups of rows; the others stay as they were measured last.
    #[arg(long, value_name = "GROUP", value_enum, value_delimiter = ',')]
    only: Vec<Group>,
    /// Leave the report as it is.
    #[arg(long)]
    no_report: bool,
    /// Where records are kept and programs write; by default beside what the build makes.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Parts that run as processes of their own.
#[derive(Debug, Subcommand)]
enum Part {
    /// Write the report again, from the results of earlier runs.
    Report(Report),
    #[command(hide = true)]
    Limit(Limit),
    #[command(hide = true)]
    Pace(paced::Pace),
    #[command(hide = true)]
    Follow(idle::Follow),
    #[command(hide = true)]
    Keep(recovery::Keep),
    #[command(hide = true)]
    Drain(kinesis::Drain),
    #[command(hide = true)]
    Made(Box<made::run::Make>),
}

/// Where results are.
#[derive(Debug, Args)]
struct Report {
    /// As for a measurement.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// The job without the engine.
#[derive(Debug, Args)]
struct Limit {
    kind: Kind,
    #[arg(long)]
    threads: usize,
    #[arg(long)]
    input: PathBuf,
    #[arg(long)]
    out: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Plain,
    Timely,
}

/// Runs the command line that the process was started with.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.part {
        None => measure(&cli.all),
        Some(Part::Report(args)) => Place::of(args.dir, false).and_then(|place| place.report()),
        Some(Part::Pace(args)) => paced::pace(&args),
        Some(Part::Follow(args)) => idle::follow(&args),
        Some(Part::Keep(args)) => recovery::keep(&args),
        Some(Part::Drain(args)) => kinesis::drain(&args),
        Some(Part::Made(args)) => made::run::run(*args),
        Some(Part::Limit(Limit { kind: Kind::Plain, threads, input, out })) => {
            limits::plain::run(&input, &out, threads)
        }
        Some(Part::Limit(Limit { kind: Kind::Timely, threads, input, out })) => {
            limits::timely::run(&input, &out, threads)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shardflow-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// How much of everything.
struct Effort {
    records: u64,
    runs: usize,
    paced_seconds: u64,
    idle: Duration,
}

impl Effort {
    fn of(all: &All) -> Self {
        if all.quick {
            return Self { records: all.records / 10, runs: 1, paced_seconds: 5, idle: Duration::from_secs(3) };
        }
        Self { records: all.records, runs: all.runs, paced_seconds: 20, idle: Duration::from_secs(10) }
    }
}

/// Where results are kept and the report is written.
struct Place {
    dir: PathBuf,
    docs: PathBuf,
}

impl Place {
    /// A quick run is no measurement: it has its own results, and its report is not the repository's.
    fn of(dir: Option<PathBuf>, quick: bool) -> Result<Self> {
        let program = std::env::current_exe().context("could not find this program")?;
        let dir = dir.unwrap_or_else(|| beside_the_build(&program));
        if quick {
            let dir = dir.join("quick");
            return Ok(Self { docs: dir.join("docs"), dir });
        }
        Ok(Self { dir, docs: Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs") })
    }

    fn results(&self) -> PathBuf {
        self.dir.join("results.json")
    }

    fn peers(&self) -> Result<Peers> {
        Peers::load(&self.dir.join("peers.json"))
    }

    fn report(&self) -> Result<()> {
        report::write(&Results::load(&self.results())?, &self.peers()?, &self.docs)
    }
}

fn measure(all: &All) -> Result<()> {
    let programs = Programs::find()?;
    let effort = Effort::of(all);
    let place = Place::of(all.dir.clone(), all.quick)?;
    let scratch = place.dir.join("scratch");
    // What an interrupted run left.
    let _ = std::fs::remove_dir_all(&scratch);
    std::fs::create_dir_all(&scratch).with_context(|| format!("could not make \"{}\"", scratch.display()))?;
    let wanted = |part: Group| all.only.is_empty() || all.only.contains(&part);
    let stamp = Stamp::now();
    let mut results = Results::load(&place.results())?;
    if wanted(Group::Metering) || wanted(Group::Dedupe) {
        let input = Input::prepare(&place.dir, effort.records)?;
        results.merge(throughput::measure(&programs, &input, &scratch, effort.runs)?, &stamp);
    }
    if wanted(Group::Latency) {
        results.merge(paced::measure(&programs, &scratch, effort.paced_seconds)?, &stamp);
    }
    if wanted(Group::Recovery) {
        results.merge(recovery::measure(&programs, &scratch, effort.runs, all.quick)?, &stamp);
    }
    if wanted(Group::Kinesis) {
        results.merge(kinesis::measure(&programs, &scratch, effort.runs, all.quick)?, &stamp);
    }
    // Only on request: they were measured by another program, and just now only where `make bench-parts` asks.
    if all.only.contains(&Group::Parts) {
        results.merge(parts::read(&beside_the_build(&programs.bench).with_file_name("criterion"))?, &stamp);
    }
    if wanted(Group::Idle) {
        results.merge(idle::measure(&programs, &scratch, effort.idle)?, &stamp);
    }
    if wanted(Group::Start) {
        results.merge(start::measure(&programs, &scratch, effort.runs)?, &stamp);
    }
    results.save(&place.results())?;
    if !all.no_report {
        place.report()?;
    }
    println!("{}", report::summary(&results, &place.peers()?));
    Ok(())
}

/// `target/bench` for `target/release/shardflow-bench`.
fn beside_the_build(program: &Path) -> PathBuf {
    let target = program.parent().and_then(Path::parent).unwrap_or(Path::new("target"));
    target.join("bench")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn effort(arguments: &[&str]) -> Effort {
        Effort::of(&Cli::try_parse_from([&["shardflow-bench"], arguments].concat()).unwrap().all)
    }

    #[test]
    fn clap_finds_the_command_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn quick_is_a_tenth_and_once() {
        let (whole, quick) = (effort(&[]), effort(&["--quick", "--runs", "5"]));
        assert_eq!((whole.records, whole.runs), (10_000_000, 3));
        assert_eq!((quick.records, quick.runs), (1_000_000, 1));
        assert_eq!(effort(&["--records", "5000", "--runs", "5"]).runs, 5);
    }

    #[test]
    fn parts_are_hidden_and_take_what_they_are_given() {
        for arguments in [
            &["limit", "plain", "--threads", "2", "--input", "i", "--out", "o"][..],
            &["pace", "running", "--rate", "1", "--measured", "1", "--dir", "d"],
            &["follow", "--input", "i", "--dir", "d"],
            &["keep", "--keys", "1", "--restarted", "--state", "s", "--dir", "d"],
            &["drain", "bare", "--endpoint", "e", "--stream", "s", "--records", "1", "--dir", "d"],
        ] {
            assert!(Cli::try_parse_from([&["shardflow-bench"], arguments].concat()).unwrap().part.is_some());
        }
        assert!(!Cli::command().render_help().to_string().contains("pace "));
    }

    #[test]
    fn records_are_kept_beside_the_build() {
        assert_eq!(beside_the_build(Path::new("/x/target/release/shardflow-bench")), Path::new("/x/target/bench"));
    }
}
