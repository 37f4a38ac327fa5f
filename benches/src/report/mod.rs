//! The report: `docs/benchmarks.md` and its plots, made from the results and by nothing else.

#[cfg(test)]
mod fixture;
mod goals;
mod markdown;
mod peers;
mod plot;
mod summary;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::results::{Entry, Results};
pub(crate) use peers::Peers;
pub(crate) use summary::summary;

/// Writes the page and its plots into the folder `docs`.
///
/// # Errors
/// A folder that cannot be written.
pub(crate) fn write(results: &Results, peers: &Peers, docs: &Path) -> Result<()> {
    let plots = docs.join("plots");
    fs::create_dir_all(&plots).with_context(|| format!("could not make \"{}\"", plots.display()))?;
    for stamped in results.by_group().into_values().flatten() {
        if let Entry::Series(series) = &stamped.entry {
            put(&plots.join(format!("{}.svg", series.id)), &plot::draw(series)?)?;
        }
    }
    put(&docs.join("benchmarks.md"), &markdown::render(results, peers))
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("could not write \"{}\"", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_the_plots_that_are_written() {
        let dir = tempfile::tempdir().unwrap();
        write(&fixture::results(), &fixture::peers(), dir.path()).unwrap();
        let page = fs::read_to_string(dir.path().join("benchmarks.md")).unwrap();
        assert!(page.contains("](plots/epochs.svg)"));
        assert!(fs::read_to_string(dir.path().join("plots/epochs.svg")).unwrap().starts_with("<svg"));
    }
}
