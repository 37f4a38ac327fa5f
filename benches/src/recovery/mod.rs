//! From a crash to the first new result, against the size of the state.
//!
//! A job with so much keyed state is run until every key is committed and changes flow, then killed by SIGKILL while it
//! reads, and started again; each start is killed in turn. Measured is the time from before the new process is started
//! until the first result arrives at the sink of a record that was not committed before, and until the first commit. A
//! key that had begun anew would be an error. What the disk holds is still in the system's cache: that is what a crash of
//! a process leaves, and not what one of the machine does.

mod job;
mod source;

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::job::{BUILT, RECOVERED, Recovered, now_micros};
pub(crate) use self::job::{Keep, keep};
use crate::child::Running;
use crate::results::{Axis, Entry, Figure, Group, Line, Series, Unit};
use crate::stats::Spread;
use crate::throughput::Programs;

/// Bytes of state that a key stands for, all in all: its value, itself, and where it is kept.
const BYTES_PER_KEY: u64 = 100;
/// Ids, and bytes of state.
const SIZES: [(&str, u64); 4] =
    [("10mb", 10_000_000), ("100mb", 100_000_000), ("1gb", 1_000_000_000), ("2gb", 2_000_000_000)];
/// How long building the largest state may take, and recovering from it.
const READY_WITHIN: Duration = Duration::from_secs(600);
/// How long a job runs on before it is killed: it has changes in its changelogs then, and some in no epoch yet.
const RUNS_ON: Duration = Duration::from_millis(1_500);

/// What the starts from one state took, in seconds.
#[derive(Debug, Clone, Default, PartialEq)]
struct Times {
    result: Vec<f64>,
    commit: Vec<f64>,
}

impl Times {
    fn add(&mut self, started: u64, recovered: Recovered) -> Result<()> {
        let seconds = |at: u64| at.checked_sub(started).map(|micros| micros as f64 / 1e6);
        let Some((result, commit)) = seconds(recovered.result).zip(seconds(recovered.commit)) else {
            bail!("the job recovered before it was started: the clock was set")
        };
        self.result.push(result);
        self.commit.push(commit);
        Ok(())
    }
}

/// Measures `runs` restarts from each size of state; only the smaller ones where it is to be `quick`.
///
/// # Errors
/// A job that fails, or one whose state is gone.
pub(crate) fn measure(programs: &Programs, scratch: &Path, runs: usize, quick: bool) -> Result<Vec<Entry>> {
    let sizes = SIZES.iter().take(if quick { 2 } else { SIZES.len() });
    let mut measured = Vec::new();
    for (id, bytes) in sizes {
        let times = of_size(programs, scratch, *bytes, runs).with_context(|| format!("recovery of {id} failed"))?;
        measured.push((*id, *bytes, times));
    }
    Ok(entries(&measured))
}

fn of_size(programs: &Programs, scratch: &Path, bytes: u64, runs: usize) -> Result<Times> {
    let (dir, megabytes) = (tempfile::tempdir_in(scratch)?, bytes / 1_000_000);
    let keys = bytes / BYTES_PER_KEY;
    eprintln!("recovery: {megabytes} MB of state, {keys} keys are built");
    let start = |place: &Path, restarted: bool| {
        std::fs::create_dir(place)?;
        let mut command = Command::new(&programs.bench);
        command.args(["keep", "--keys", &keys.to_string(), "--state"]).arg(dir.path().join("state"));
        command.arg("--dir").arg(place).args(restarted.then_some("--restarted"));
        Running::start(&mut command, place.join("log"))
    };
    let place = dir.path().join("build");
    let mut job = start(&place, false)?;
    job.wait_for(&place.join(BUILT), READY_WITHIN)?;
    thread::sleep(RUNS_ON);
    drop(job);
    let mut times = Times::default();
    for run in 1..=runs {
        eprintln!("run {run} of {runs}: recovery of {megabytes} MB");
        let place = dir.path().join(format!("run-{run}"));
        let started = now_micros();
        let mut job = start(&place, true)?;
        job.wait_for(&place.join(RECOVERED), READY_WITHIN)?;
        let told = std::fs::read(place.join(RECOVERED)).context("could not read when the job recovered")?;
        times.add(started, serde_json::from_slice(&told).context("could not read when the job recovered")?)?;
        thread::sleep(RUNS_ON);
        // SIGKILL, in the midst of its reading.
        drop(job);
    }
    Ok(times)
}

fn entries(measured: &[(&str, u64, Times)]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (id, bytes, times) in measured {
        let commit = Spread::of(times.commit.iter().copied());
        entries.push(Entry::Figure(Figure {
            id: format!("recovery-{id}"),
            group: Group::Recovery,
            title: format!("SIGKILL, start → first new result, {} of state", Unit::Bytes.write(*bytes as f64)),
            value: Spread::of(times.result.iter().copied()),
            unit: Unit::Seconds,
            notes: format!(
                "first commit {}; {:.1} M keys; files in the system's cache",
                Unit::Seconds.write(commit.median),
                (*bytes / BYTES_PER_KEY) as f64 / 1e6
            ),
        }));
    }
    let line = |name: &str, pick: fn(&Times) -> &Vec<f64>| {
        let point = |(_, bytes, times): &(&str, u64, Times)| {
            (*bytes as f64 / 1e6, Spread::of(pick(times).iter().copied()).median)
        };
        Line { name: name.to_owned(), points: measured.iter().map(point).collect() }
    };
    entries.push(Entry::Series(Series {
        id: "recovery".to_owned(),
        group: Group::Recovery,
        title: "Recovery against the size of the state".to_owned(),
        x: Axis { label: "state, MB".to_owned(), log: true },
        y: Axis { label: "after the start of the process, s".to_owned(), log: true },
        lines: vec![line("first new result", |times| &times.result), line("first commit", |times| &times.commit)],
    }));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_count_from_before_the_process_was_started() {
        let mut times = Times::default();
        times.add(1_000_000, Recovered { result: 1_250_000, commit: 1_500_000 }).unwrap();
        assert_eq!(times, Times { result: vec![0.25], commit: vec![0.5] });
        assert!(times.add(1_000_000, Recovered { result: 0, commit: 1_500_000 }).is_err());
    }

    #[test]
    fn the_goal_s_size_has_its_figure_and_every_size_a_point() {
        let times = |result: f64| Times { result: vec![result; 3], commit: vec![result * 2.0; 3] };
        let measured: Vec<_> = SIZES.iter().map(|(id, bytes)| (*id, *bytes, times(*bytes as f64 / 1e9))).collect();
        let entries = entries(&measured);
        let Some(Entry::Figure(figure)) = entries.iter().find(|entry| entry.id() == "recovery-1gb") else {
            panic!("the goal has a figure")
        };
        assert_eq!((figure.value.median, figure.value.runs), (1.0, 3));
        assert!(figure.notes.starts_with("first commit 2.00 s; 10.0 M keys"), "{}", figure.notes);
        let Some(Entry::Series(series)) = entries.last() else { panic!("there is something to draw") };
        assert_eq!(series.lines[0].points[2], (1_000.0, 1.0));
    }
}
