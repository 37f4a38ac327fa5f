//! The command line, and the order of things.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::report::{self, Peers};
use crate::results::{Entry, Group, Results, Stamp};
use crate::suite::{self, Bench, Effort};
use crate::throughput::Programs;
use crate::{idle, kinesis, limits, made, paced, parts, recovery, sinks, start};

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
    /// Runs of each program; the median counts. Rows of a quarter of a minute a run and more make do with three.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = RangedU64ValueParser::<usize>::new().range(1..=99))]
    runs: usize,
    /// A twentieth of the records, one run, short waits: whether it works, not how fast. Results and report go to a folder of
    /// their own.
    #[arg(long)]
    quick: bool,
    /// Only some groups of rows; the others stay as they were measured last.
    #[arg(long, value_name = "GROUP", value_enum, value_delimiter = ',')]
    only: Vec<Group>,
    /// Leave the report as it is.
    #[arg(long)]
    no_report: bool,
    /// Where records and results are kept and programs write; by default beside what the build makes.
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
    Write(sinks::Write),
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
    /// An id counts once for each key.
    #[arg(long)]
    dedupe: bool,
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
        Some(Part::Write(args)) => sinks::write(&args),
        Some(Part::Made(args)) => made::run::run(*args),
        Some(Part::Limit(Limit { kind: Kind::Plain, threads, input, out, dedupe })) => {
            limits::plain::run(&input, &out, threads, dedupe)
        }
        Some(Part::Limit(Limit { kind: Kind::Timely, threads, input, out, dedupe })) => {
            limits::timely::run(&input, &out, threads, dedupe)
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
    let place = Place::of(all.dir.clone(), all.quick)?;
    let scratch = place.dir.join("scratch");
    // What an interrupted run left.
    let _ = std::fs::remove_dir_all(&scratch);
    std::fs::create_dir_all(&scratch).with_context(|| format!("could not make \"{}\"", scratch.display()))?;
    let effort = Effort { quick: all.quick, runs: if all.quick { 1 } else { all.runs } };
    let bench = Bench { programs: Programs::find()?, cache: place.dir.clone(), scratch, effort };
    let stamp = Stamp::now();
    let mut results = Results::load(&place.results())?;
    for group in Group::value_variants() {
        // Parts only on request: another program measures them, just before this one only where `make bench-parts` asks.
        if all.only.contains(group) || (all.only.is_empty() && *group != Group::Parts) {
            results.replace(measure_group(*group, &bench)?, &stamp);
            // After each group: what was measured is kept if a later one fails.
            results.save(&place.results())?;
        }
    }
    if !all.no_report {
        place.report()?;
    }
    if all.quick {
        println!("a quick run: it shows that everything works, and measures nothing\n");
    }
    println!("{}", report::summary(&results, &place.peers()?));
    Ok(())
}

fn measure_group(group: Group, bench: &Bench) -> Result<Vec<Entry>> {
    let Bench { programs, scratch, effort, .. } = bench;
    let seconds = |whole, quick| if effort.quick { quick } else { whole };
    match group {
        Group::Latency => paced::measure(programs, scratch, seconds(15, 5)),
        Group::Recovery => recovery::measure(programs, scratch, effort.runs.min(3), effort.quick),
        Group::Kinesis => kinesis::measure(programs, scratch, effort.runs, effort.quick),
        Group::Sinks => sinks::measure(programs, scratch, effort.runs, effort.quick),
        Group::Parts => parts::read(&beside_the_build(&programs.bench).with_file_name("criterion")),
        Group::Idle => idle::measure(programs, scratch, Duration::from_secs(seconds(10, 3))),
        Group::Start => start::measure(programs, scratch, effort.runs),
        group => suite::measure(group, bench),
    }
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

    #[test]
    fn clap_finds_the_command_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_quick_run_leaves_results_and_report_alone() {
        let (whole, quick) = (Place::of(None, false).unwrap(), Place::of(None, true).unwrap());
        assert!(quick.results().starts_with(&whole.dir) && quick.results() != whole.results());
        assert!(quick.docs.starts_with(&quick.dir) && whole.docs.ends_with("benches/../docs"));
    }

    #[test]
    fn groups_are_named_and_runs_are_counted() {
        let parse = |arguments: &[&str]| Cli::try_parse_from([&["shardflow-bench"], arguments].concat());
        let all = parse(&["--only", "metering,skew", "--runs", "7"]).unwrap().all;
        assert_eq!((all.only, all.runs), (vec![Group::Metering, Group::Skew], 7));
        assert!(parse(&["--runs", "0"]).is_err() && parse(&["--only", "nothing"]).is_err());
        assert!(matches!(parse(&["report"]).unwrap().part, Some(Part::Report(_))));
    }

    #[test]
    fn parts_are_hidden_and_take_what_they_are_given() {
        for arguments in [
            &["limit", "plain", "--threads", "2", "--input", "i", "--out", "o"][..],
            &["pace", "running", "--rate", "1", "--measured", "1", "--dir", "d"],
            &["follow", "--input", "i", "--dir", "d"],
            &["keep", "--keys", "1", "--restarted", "--state", "s", "--dir", "d"],
            &["drain", "bare", "--endpoint", "e", "--stream", "s", "--records", "1", "--dir", "d"],
            &["write", "put-records", "--to", "e", "--name", "s", "--records", "1", "--dir", "d"],
            &["made", "ints", "--by", "plain", "--records", "1", "--keys", "1", "--told", "t", "--workers", "2"],
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
