//! The report: `docs/benchmarks.md` and its plots, made from the results and by nothing else.

mod goals;
mod markdown;
mod peers;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::results::Results;
pub(crate) use peers::Peers;

/// Writes the report into the folder `docs`.
///
/// # Errors
/// A folder that cannot be written.
pub(crate) fn write(results: &Results, peers: &Peers, docs: &Path) -> Result<()> {
    fs::create_dir_all(docs).with_context(|| format!("could not make \"{}\"", docs.display()))?;
    let path = docs.join("benchmarks.md");
    fs::write(&path, markdown::render(results, peers))
        .with_context(|| format!("could not write \"{}\"", path.display()))
}

/// The summary on stdout: goals, figures and verdicts, aligned.
pub(crate) fn summary(results: &Results, peers: &Peers) -> String {
    markdown::summary(results, peers)
}
