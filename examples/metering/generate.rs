//! Writes a workload to NDJSON files, all of them or none.
//!
//! The files `part-00000.ndjson`, … get their final names when all are written and synced, so that a job that follows the
//! folder sees whole files only. After a crash the folder holds hidden files and must be emptied by hand.

use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::report::hidden_beside;
use super::workload::{Kind, Spec, Workload};

/// Bytes collected for a file before they are written.
const CHUNK: usize = 256 * 1024;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Records in time.
    pub ordinary: u64,
    /// Exact copies.
    pub duplicates: u64,
    /// Late records.
    pub late: u64,
    /// Records that are none.
    pub bad: u64,
    /// Bytes in all files.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl Summary {
    /// All records.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.ordinary.saturating_add(self.duplicates).saturating_add(self.late).saturating_add(self.bad)
    }

    fn count(&mut self, kind: Kind) {
        let counter = match kind {
            Kind::Ordinary => &mut self.ordinary,
            Kind::Copy => &mut self.duplicates,
            Kind::Late => &mut self.late,
            Kind::Bad(_) => &mut self.bad,
        };
        *counter = counter.saturating_add(1);
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64().max(1e-9);
        write!(
            f,
            "{} records: {} in time, {} duplicates, {} late, {} bad; {:.1} MB in {:.2} s, {:.2} M records/s",
            self.records(),
            self.ordinary,
            self.duplicates,
            self.late,
            self.bad,
            self.bytes as f64 / 1e6,
            seconds,
            self.records() as f64 / seconds / 1e6
        )
    }
}

/// Writes the workload to `spec.lanes` files in `out`, which is made where it is missing.
///
/// # Errors
/// A folder that is not empty, a spec that makes no sense, a file that cannot be written. No visible file remains.
pub fn generate(spec: Spec, out: &Path) -> Result<Summary> {
    let started = Instant::now();
    let mut workload = Workload::new(spec.clone())?;
    require_empty(out, "generate")?;
    let mut parts = Vec::with_capacity(spec.lanes);
    for lane in 0..spec.lanes {
        parts.push(Part::create(out, lane)?);
    }
    let mut summary = Summary::default();
    while let Some(draft) = workload.next() {
        let part = parts.get_mut(draft.lane).context("a record fell outside the files")?;
        workload.write(&draft, &mut part.buffer);
        part.buffer.push(b'\n');
        summary.count(draft.kind);
        if part.buffer.len() >= CHUNK {
            part.flush()?;
        }
    }
    for part in &mut parts {
        part.finish()?;
        summary.bytes = summary.bytes.saturating_add(part.written);
    }
    for part in &mut parts {
        part.publish()?;
    }
    // From here on the files stand.
    for part in &mut parts {
        part.kept = true;
    }
    File::open(out)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("could not sync \"{}\"", out.display()))?;
    summary.elapsed = started.elapsed();
    Ok(summary)
}

/// Makes the folder where it is missing, and refuses one that holds anything. `who` is named as the one that needs it.
pub(super) fn require_empty(out: &Path, who: &str) -> Result<()> {
    match fs::read_dir(out) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => bail!("folder \"{}\" is not empty: {who} needs an empty or a new one", out.display()),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(out).with_context(|| format!("could not make folder \"{}\"", out.display()))
        }
        Err(error) => Err(error).with_context(|| format!("could not write to \"{}\"", out.display())),
    }
}

struct Part {
    hidden: PathBuf,
    visible: PathBuf,
    file: File,
    buffer: Vec<u8>,
    written: u64,
    kept: bool,
}

impl Part {
    fn create(out: &Path, lane: usize) -> Result<Self> {
        let visible = out.join(format!("part-{lane:05}.ndjson"));
        let hidden = hidden_beside(&visible);
        let file = File::create_new(&hidden).with_context(|| format!("could not make \"{}\"", hidden.display()))?;
        Ok(Self { hidden, visible, file, buffer: Vec::with_capacity(CHUNK + 4096), written: 0, kept: false })
    }

    fn flush(&mut self) -> Result<()> {
        let written = self.file.write_all(&self.buffer);
        written.with_context(|| format!("could not write \"{}\"", self.hidden.display()))?;
        self.written = self.written.saturating_add(self.buffer.len() as u64);
        self.buffer.clear();
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.flush()?;
        self.file.sync_all().with_context(|| format!("could not sync \"{}\"", self.hidden.display()))
    }

    fn publish(&mut self) -> Result<()> {
        fs::rename(&self.hidden, &self.visible)
            .with_context(|| format!("could not rename \"{}\"", self.hidden.display()))
    }
}

impl Drop for Part {
    /// Clears away what a failure left, so that the folder can be used again. Best effort: the failure is reported.
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.hidden);
            let _ = fs::remove_file(&self.visible);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_hold_every_record_of_their_accounts() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("in");
        let spec = Spec { lanes: 3, ..Spec::new(20_000, 9) };
        let summary = generate(spec.clone(), &out).unwrap();
        assert_eq!(summary.records(), 20_000);
        let mut names: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["part-00000.ndjson", "part-00001.ndjson", "part-00002.ndjson"]);
        let mut expected = vec![Vec::new(); 3];
        let mut workload = Workload::new(spec).unwrap();
        while let Some(draft) = workload.next() {
            workload.write(&draft, &mut expected[draft.lane]);
            expected[draft.lane].push(b'\n');
        }
        for (name, bytes) in names.iter().zip(expected) {
            assert!(fs::read(out.join(name)).unwrap() == bytes, "{name:?} differs");
        }
    }

    #[test]
    fn folder_with_something_in_it_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("mine"), "x").unwrap();
        let error = generate(Spec::new(10, 1), dir.path()).unwrap_err().to_string();
        assert!(error.contains("is not empty"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn summary_is_one_line() {
        let summary = Summary { ordinary: 8, duplicates: 1, late: 1, bytes: 1000, ..Summary::default() };
        assert!(summary.to_string().starts_with("10 records: 8 in time, 1 duplicates, 1 late, 0 bad; 0.0 MB in"));
    }
}
