//! What a running job tells the demo of its latencies: a small JSON file, replaced whole at commits.
//!
//! In come the latency histogram of each committed epoch and the [`PutMeter`]; out goes [`Report`]. After a crash the
//! file holds what the last rewrite knew: it is for the eye, results never depend on it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::decode::PutMeter;

/// How often the file is rewritten at most: the view refreshes about as often.
const EVERY: Duration = Duration::from_millis(200);

/// A histogram of microseconds, precise to 1 %, up to an hour; longer times count as an hour.
#[must_use]
pub fn new_histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000, 2).expect("1 µs to an hour at 2 digits is valid");
    histogram.auto(false);
    histogram
}

/// What one incarnation of the job measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Put → read: (microseconds, records).
    pub put_to_read: Vec<(u64, u64)>,
    /// Read → committed: (microseconds, records).
    pub read_to_commit: Vec<(u64, u64)>,
}

impl Report {
    /// Reads the file; `None` while there is none.
    ///
    /// # Errors
    /// A file that cannot be read or is no report.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("could not read report \"{}\"", path.display())),
        };
        let report = serde_json::from_slice(&bytes);
        report.map(Some).with_context(|| format!("could not read report \"{}\"", path.display()))
    }

    /// Replaces the file, so that a reader sees the old one or the new one.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let hidden = hidden_beside(path);
        let bytes = serde_json::to_vec(self).context("could not encode the report")?;
        std::fs::write(&hidden, bytes)
            .and_then(|()| std::fs::rename(&hidden, path))
            .with_context(|| format!("could not write report \"{}\"", path.display()))
    }

    /// Records committed, as far as the report knows.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.read_to_commit.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}

/// Adds (microseconds, records) pairs to a histogram.
pub fn add_pairs(histogram: &mut Histogram<u64>, pairs: &[(u64, u64)]) {
    for (micros, count) in pairs {
        histogram.saturating_record_n(*micros, *count);
    }
}

fn pairs(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
}

/// The hidden name under which `path` is written before it is renamed.
#[must_use]
pub fn hidden_beside(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.part"))
}

/// Collects latencies and rewrites the report at commits, at most every 200 ms.
#[derive(Debug)]
pub struct Reporter {
    path: PathBuf,
    puts: PutMeter,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    read_to_commit: Histogram<u64>,
    written: Option<Instant>,
}

impl Reporter {
    /// Reports to `path`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        let state = State { read_to_commit: new_histogram(), written: None };
        Self { path, puts: PutMeter::new(), state: Mutex::new(state) }
    }

    /// What the decoder measures into.
    #[must_use]
    pub fn puts(&self) -> PutMeter {
        self.puts.clone()
    }

    /// Takes one committed epoch: read → committed in microseconds, weighted by records.
    pub fn committed(&self, latency: &Histogram<u64>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        add_pairs(&mut state.read_to_commit, &pairs(latency));
        if state.written.is_none_or(|written| written.elapsed() >= EVERY) {
            state.written = Some(Instant::now());
            self.write(&state);
        }
    }

    /// Writes what the last commits added. Call it when the job has stopped.
    pub fn finish(&self) {
        self.write(&self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A report that cannot be written must not stop the job that it reports on.
    fn write(&self, state: &State) {
        let report =
            Report { put_to_read: pairs(&self.puts.histogram()), read_to_commit: pairs(&state.read_to_commit) };
        if let Err(error) = report.write(&self.path) {
            tracing::warn!("{error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_survives_its_file_and_adds_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        assert_eq!(Report::read(&path).unwrap(), None);
        let reporter = Reporter::new(path.clone());
        let mut epoch = new_histogram();
        epoch.record_n(1_000, 3).unwrap();
        reporter.committed(&epoch);
        reporter.committed(&epoch);
        reporter.puts().observe(br#"{"put":1}"#, 8);
        reporter.finish();
        let report = Report::read(&path).unwrap().unwrap();
        assert_eq!(report.committed(), 6);
        let mut histogram = new_histogram();
        add_pairs(&mut histogram, &report.put_to_read);
        assert_eq!((histogram.len(), histogram.max() / 1000), (1, 7));
    }

    #[test]
    fn times_beyond_an_hour_count_as_an_hour() {
        let mut histogram = new_histogram();
        add_pairs(&mut histogram, &[(u64::MAX, 2)]);
        assert_eq!(histogram.len(), 2);
    }
}
