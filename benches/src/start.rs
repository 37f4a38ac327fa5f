//! How long a job takes to begin: from the start of its process until one record is committed and the process has ended.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::child::Running;
use crate::results::{Entry, Figure, Group, Unit};
use crate::stats::Spread;
use crate::throughput::Programs;

/// Measures `runs` starts on new state.
///
/// # Errors
/// A job that fails.
pub(crate) fn measure(programs: &Programs, scratch: &Path, runs: usize) -> Result<Vec<Entry>> {
    let mut times = Vec::new();
    for run in 1..=runs {
        eprintln!("run {run} of {runs}: start of a job");
        times.push(once(programs, scratch).context("a job with one record failed")?);
    }
    Ok(vec![Entry::Figure(Figure {
        id: "start".to_owned(),
        group: Group::Start,
        title: "process start, one record committed, process end".to_owned(),
        value: Spread::of(times.iter().map(|time| time.as_secs_f64() * 1e3)),
        unit: Unit::Millis,
        notes: String::new(),
    })])
}

fn once(programs: &Programs, scratch: &Path) -> Result<Duration> {
    let dir = tempfile::tempdir_in(scratch)?;
    let input = dir.path().join("one.ndjson");
    fs::write(&input, "{\"id\":\"u\",\"account\":\"a\",\"meter\":\"m\",\"qty\":1,\"at\":1700000000000}\n")?;
    let mut command = Command::new(&programs.metering);
    command.args(["run", "--workers", "2", "--source"]).arg(format!("file:{}", input.display()));
    command.arg("--out").arg(dir.path().join("out")).arg("--state").arg(dir.path().join("state"));
    Ok(Running::start(&mut command, dir.path().join("log"))?.finish()?.elapsed)
}
