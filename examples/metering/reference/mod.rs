//! The job's results computed again, in the simplest way: one thread, whole files, maps of the standard library and no
//! line of the engine. What the two agree on was computed twice.
//!
//! # Semantics
//! Each file is a split, read in order. Its watermark is the greatest event time seen, less the lag; only records that
//! decode advance it, and a record meets the watermark of those before it.
//! 1. A record that is no usage record is rejected: a JSON object with the five fields, others allowed.
//! 2. It is a duplicate, and dropped, if a record of its account, meter and id was taken whose event time is less than the
//!    horizon away, and the watermark has not passed that event time plus the horizon. Late records take part in this.
//! 3. It is late if its window's end plus grace is at or behind the watermark. Otherwise it counts in its window.
//!
//! Across files the order is open, so copies of an id must lie in one file, as [`generate`](super::generate) has it.

mod differences;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use self::differences::differences;
pub use self::differences::{AuditReport, Differences};
use super::output::{read_lines, read_rows, visible_files};
use super::types::{Charge, LAST_MILLISECOND, Total, Usage};

/// The job's settings that decide its results, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Semantics {
    /// Length of a window; at least 1.
    pub window: u64,
    /// How far a split's watermark stays behind its greatest event time.
    pub lag: u64,
    /// How long after its end a window takes records.
    pub grace: u64,
    /// How far apart two records of one id may lie and still be copies. 0: copies count.
    pub dedupe: u64,
}

/// A window of an account's meter: account, meter, start, end.
pub type ChargeKey = (String, String, u64, u64);
/// A rejected record: split, position, what it was.
pub type RejectedKey = (String, String, String);

/// What the job must have written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reference {
    /// One total a window.
    pub charges: BTreeMap<ChargeKey, Total>,
    /// Late records, to the letter, as often as they came.
    pub late: BTreeMap<String, u64>,
    /// Rejected records.
    pub rejected: BTreeMap<RejectedKey, u64>,
    /// How many copies were dropped.
    pub duplicates: u64,
}

/// One line of `rejected/`.
#[derive(Debug, Deserialize)]
struct RejectedRow {
    error: String,
    raw: String,
    split: String,
    position: String,
}

impl Reference {
    /// Computes the results from a file or a folder of plain NDJSON files.
    ///
    /// # Errors
    /// A path that is not there or cannot be read.
    pub fn compute(input: &Path, semantics: &Semantics) -> Result<Self> {
        let mut reference = Self::default();
        let mut taken = HashMap::new();
        for (split, path) in splits(input)? {
            let bytes = fs::read(&path).with_context(|| format!("could not read \"{}\"", path.display()))?;
            reference.read_split(&split, &bytes, semantics, &mut taken);
        }
        Ok(reference)
    }

    /// Takes one split's content. `taken` keeps, for account, meter and id, the latest event time that was taken.
    fn read_split(&mut self, split: &str, bytes: &[u8], semantics: &Semantics, taken: &mut Taken) {
        let mut latest = 0_u64;
        let mut position = 0_usize;
        for line in bytes.split(|byte| *byte == b'\n') {
            let start = position;
            position += line.len() + 1;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            let Some(usage) = decode(line) else {
                let raw = String::from_utf8_lossy(line).into_owned();
                *self.rejected.entry((split.to_owned(), start.to_string(), raw)).or_default() += 1;
                continue;
            };
            let watermark = latest.saturating_sub(semantics.lag);
            latest = latest.max(usage.at);
            if is_copy(&usage, watermark, semantics.dedupe, taken) {
                self.duplicates += 1;
            } else {
                self.count(&usage, line, semantics, watermark);
            }
        }
    }

    fn count(&mut self, usage: &Usage, line: &[u8], semantics: &Semantics, watermark: u64) {
        let window = semantics.window.max(1);
        let start = usage.at / window * window;
        let end = start.saturating_add(window);
        if end.saturating_add(semantics.grace) <= watermark {
            let text = String::from_utf8_lossy(line.trim_ascii()).into_owned();
            *self.late.entry(text).or_default() += 1;
        } else {
            let key = (usage.account.to_string(), usage.meter.to_string(), start, end);
            self.charges.entry(key).or_default().add(usage);
        }
    }

    /// Compares with what the job has made visible in `out`.
    ///
    /// # Errors
    /// Output that cannot be read or is no output of this job. Differences are no error: they are in the report.
    pub fn compare(&self, out: &Path) -> Result<AuditReport> {
        let mut charges: BTreeMap<ChargeKey, Vec<Total>> = BTreeMap::new();
        for row in read_rows::<Charge>(&out.join("charges"))? {
            let total = row.total();
            let key = (row.account.into(), row.meter.into(), row.window_start, row.window_end);
            charges.entry(key).or_default().push(total);
        }
        let mut late: BTreeMap<String, Vec<()>> = BTreeMap::new();
        for line in read_lines(&out.join("late"))? {
            late.entry(line).or_default().push(());
        }
        let mut rejected: BTreeMap<RejectedKey, Vec<()>> = BTreeMap::new();
        for row in read_rows::<RejectedRow>(&out.join("rejected"))? {
            if row.error.is_empty() {
                bail!("record {} of \"{}\" was rejected without a reason", row.position, row.split);
            }
            rejected.entry((row.split, row.position, row.raw)).or_default().push(());
        }
        let expected = self.charges.iter().map(|(key, total)| (key, vec![*total])).collect();
        Ok(AuditReport {
            charges: differences(&expected, &charges),
            late: differences(&repeated(&self.late), &late),
            rejected: differences(&repeated(&self.rejected), &rejected),
        })
    }
}

type Taken = HashMap<(String, String), HashMap<String, u64>>;

fn is_copy(usage: &Usage, watermark: u64, horizon: u64, taken: &mut Taken) -> bool {
    if horizon == 0 {
        return false;
    }
    let ids = taken.entry((usage.account.to_string(), usage.meter.to_string())).or_default();
    match ids.get_mut(usage.id.as_str()) {
        Some(at) if at.abs_diff(usage.at) < horizon && watermark < at.saturating_add(horizon) => true,
        Some(at) => {
            *at = usage.at.max(*at);
            false
        }
        None => {
            ids.insert(usage.id.to_string(), usage.at);
            false
        }
    }
}

fn decode(line: &[u8]) -> Option<Usage> {
    let object = line.trim_ascii_start().starts_with(b"{");
    serde_json::from_slice::<Usage>(line).ok().filter(|usage| object && usage.at <= LAST_MILLISECOND)
}

/// The visible files and what the job calls them: the path below the folder, or the file's name.
fn splits(input: &Path) -> Result<Vec<(String, PathBuf)>> {
    let context = || format!("could not read \"{}\"", input.display());
    if fs::metadata(input).with_context(context)?.is_file() {
        let name = input.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        return Ok(vec![(name, input.to_path_buf())]);
    }
    let files = visible_files(input)?;
    let named = files.into_iter().map(|path| {
        let name = path.strip_prefix(input).unwrap_or(&path).to_string_lossy().into_owned();
        (name, path)
    });
    Ok(named.collect())
}

fn repeated<K: Ord>(counts: &BTreeMap<K, u64>) -> BTreeMap<&K, Vec<()>> {
    counts.iter().map(|(key, count)| (key, vec![(); usize::try_from(*count).unwrap_or(usize::MAX)])).collect()
}

#[cfg(test)]
mod tests;
