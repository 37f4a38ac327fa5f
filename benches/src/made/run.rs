//! The hidden command: one program over made records, in a process of its own, that tells its parent what it took.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use shardflow::{JobArgs, init_logging};

use super::clock::Clock;
use super::flows;
use super::records::{Records, Spec};
use super::sink::Tally;
use crate::limits::made;

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// Count and sum by string key and minute.
    Strings,
    /// Count and sum by integer key and minute.
    Ints,
    /// Count and sum by string key, over 60 s every 5 s.
    Sliding,
    /// A running count by integer key: a result a record.
    Running,
    /// The same with state of 200 bytes a key.
    Padded,
}

/// Who computes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    Engine,
    Plain,
    Timely,
}

/// The command's arguments.
#[derive(Debug, Args)]
pub(crate) struct Make {
    work: Work,
    #[arg(long)]
    by: By,
    #[arg(long)]
    records: u64,
    #[arg(long)]
    keys: u32,
    /// Zipf's exponent.
    #[arg(long)]
    skew: Option<f64>,
    /// Where to tell what it took.
    #[arg(long)]
    told: PathBuf,
    /// `--workers` is for all, the rest for the engine.
    #[command(flatten)]
    job: JobArgs,
}

/// Whether the engine has a setting of this name.
pub(crate) fn engine_takes(flag: &str) -> bool {
    Make::augment_args(clap::Command::new("made")).get_arguments().any(|known| known.get_long() == Some(flag))
}

/// What a program tells.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Told {
    /// From the first record to the last result.
    pub(crate) elapsed: Duration,
    /// Processor time in between.
    pub(crate) cpu: Duration,
    pub(crate) tally: Tally,
}

impl Told {
    /// What was told at `path`.
    ///
    /// # Errors
    /// No such file, or another one.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("could not read \"{}\"", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("could not understand \"{}\"", path.display()))
    }
}

/// Runs the program.
///
/// # Errors
/// What the program says.
pub(crate) fn run(args: Make) -> Result<()> {
    init_logging()?;
    let Make { work, by, records, keys, skew, told, job } = args;
    let records = Arc::new(Records::new(Spec { records, keys, skew }));
    let (clock, threads) = (Clock::default(), job.workers.unwrap_or(1));
    let tally = match by {
        By::Engine => flows::run(work, &records, job, &clock)?,
        By::Plain => made::plain::run(work, &records, threads, &clock)?,
        By::Timely => made::timely::run(work, &records, threads, &clock)?,
    };
    let (elapsed, cpu) = clock.taken();
    let text = serde_json::to_vec(&Told { elapsed, cpu, tally })?;
    std::fs::write(&told, text).with_context(|| format!("could not write \"{}\"", told.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_engine_are_known_by_name() {
        assert!(engine_takes("epoch") && engine_takes("workers"));
        assert!(!engine_takes("wings"));
    }
}
