//! What the micro-benchmarks said last, as figures of the report.
//!
//! `make bench-parts` runs them, by Criterion, which leaves its estimates beside the build. They are read here and not run:
//! they are another program, and take a machine to themselves.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::results::{Entry, Figure, Group, Unit};
use crate::stats::{Spread, ratio};

/// `benchmark.json`.
#[derive(Debug, Deserialize)]
struct Benchmark {
    full_id: String,
    throughput: Option<Throughput>,
}

#[derive(Debug, Deserialize)]
struct Throughput {
    #[serde(rename = "Elements")]
    elements: Option<u64>,
}

/// `estimates.json`: nanoseconds of an iteration.
#[derive(Debug, Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Debug, Deserialize)]
struct Estimate {
    point_estimate: f64,
    confidence_interval: Interval,
}

#[derive(Debug, Deserialize)]
struct Interval {
    lower_bound: f64,
    upper_bound: f64,
}

/// The figures below `criterion`, the folder that Criterion keeps; none where it never ran.
///
/// # Errors
/// Files that another version of Criterion has written.
pub(crate) fn read(criterion: &Path) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for dir in below(&below(&[criterion.to_owned()])) {
        let new = dir.join("new");
        if new.join("estimates.json").is_file() {
            entries.push(figure(parse(&new.join("benchmark.json"))?, parse(&new.join("estimates.json"))?));
        }
    }
    Ok(entries)
}

/// The folders in these.
fn below(dirs: &[PathBuf]) -> Vec<PathBuf> {
    let entries = dirs.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    paths.sort();
    paths
}

fn parse<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).with_context(|| format!("could not read \"{}\"", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("could not understand \"{}\"", path.display()))
}

fn figure(benchmark: Benchmark, estimates: Estimates) -> Entry {
    let elements = benchmark.throughput.and_then(|throughput| throughput.elements).unwrap_or(1).max(1);
    let each = |nanos: f64| ratio(nanos, elements as f64);
    let Estimate { point_estimate, confidence_interval: Interval { lower_bound, upper_bound } } = estimates.median;
    let value = Spread { median: each(point_estimate), ..Spread::of([each(lower_bound), each(upper_bound)]) };
    let id = benchmark.full_id.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    Entry::Figure(Figure {
        id: format!("parts-{}", id.replace("--", "-")),
        group: Group::Parts,
        title: benchmark.full_id.replacen('/', ": ", 1),
        value,
        unit: Unit::Nanos,
        notes: "each; 95 % of medians lie in the range".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_become_nanoseconds_each() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(&dir.path().join("none")).unwrap().is_empty());
        let new = dir.path().join("keyed state").join("get, 1 M keys").join("new");
        fs::create_dir_all(&new).unwrap();
        fs::create_dir_all(dir.path().join("report")).unwrap();
        fs::write(new.join("benchmark.json"), r#"{"full_id":"keyed state/get, 1 M keys","throughput":{"Elements":4}}"#)
            .unwrap();
        let estimates =
            r#"{"median":{"point_estimate":40.0,"confidence_interval":{"lower_bound":36.0,"upper_bound":48.0}}}"#;
        fs::write(new.join("estimates.json"), estimates).unwrap();
        let entries = read(dir.path()).unwrap();
        let [Entry::Figure(figure)] = entries.as_slice() else { panic!("one figure") };
        assert_eq!(
            (figure.id.as_str(), figure.title.as_str()),
            ("parts-keyed-state-get-1-M-keys", "keyed state: get, 1 M keys")
        );
        assert_eq!((figure.value.median, figure.value.least, figure.value.greatest), (10.0, 9.0, 12.0));
    }
}
