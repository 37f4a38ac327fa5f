//! The job's results computed again, in the simplest way: one thread, whole files, maps of the standard library and no
//! line of the engine. What the two agree on was computed twice.
//!
//! # Semantics
//! Each file is a split, read in order. Its watermark is the greatest event time seen, less the lag; only records that
//! decode advance it, and a record meets the watermark of those before it.
//! 1. A record that is no usage record is rejected.
//! 2. It is a duplicate, and dropped, if a record of its account, meter and id was taken whose event time is less than the
//!    horizon away. Late records take part in this.
//! 3. It is late if its window's end plus grace is at or behind the watermark. Otherwise it counts in its window.
//!
//! Across files the order is open, so copies of an id must lie in one file, as [`generate`](super::generate) has it.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Debug};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::output::read_rows;
use super::types::{Charge, LAST_MILLISECOND, Total, Usage};

/// How many differences a report quotes.
const QUOTED: usize = 10;

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
    /// Late records, as often as they came.
    pub late: BTreeMap<Usage, u64>,
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
            if is_copy(&usage, semantics.dedupe, taken) {
                self.duplicates += 1;
            } else {
                self.count(usage, semantics, watermark);
            }
        }
    }

    fn count(&mut self, usage: Usage, semantics: &Semantics, watermark: u64) {
        let window = semantics.window.max(1);
        let start = usage.at / window * window;
        let end = start.saturating_add(window);
        if end.saturating_add(semantics.grace) <= watermark {
            *self.late.entry(usage).or_default() += 1;
        } else {
            let key = (usage.account.to_string(), usage.meter.to_string(), start, end);
            self.charges.entry(key).or_default().add(&usage);
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
        let mut late: BTreeMap<Usage, Vec<()>> = BTreeMap::new();
        for row in read_rows::<Usage>(&out.join("late"))? {
            late.entry(row).or_default().push(());
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

fn is_copy(usage: &Usage, horizon: u64, taken: &mut Taken) -> bool {
    if horizon == 0 {
        return false;
    }
    let ids = taken.entry((usage.account.to_string(), usage.meter.to_string())).or_default();
    match ids.get_mut(usage.id.as_str()) {
        Some(at) if at.abs_diff(usage.at) < horizon => true,
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
    serde_json::from_slice::<Usage>(line).ok().filter(|usage| usage.at <= LAST_MILLISECOND)
}

/// The visible files and what the job calls them: the path below the folder, or the file's name.
fn splits(input: &Path) -> Result<Vec<(String, PathBuf)>> {
    let context = || format!("could not read \"{}\"", input.display());
    if fs::metadata(input).with_context(context)?.is_file() {
        let name = input.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        return Ok(vec![(name, input.to_path_buf())]);
    }
    let files = super::output::visible_files(input)?;
    let named = files.into_iter().map(|path| {
        let name = path.strip_prefix(input).unwrap_or(&path).to_string_lossy().into_owned();
        (name, path)
    });
    Ok(named.collect())
}

fn repeated<K: Ord>(counts: &BTreeMap<K, u64>) -> BTreeMap<&K, Vec<()>> {
    counts.iter().map(|(key, count)| (key, vec![(); usize::try_from(*count).unwrap_or(usize::MAX)])).collect()
}

/// How one output differs from what it must be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Differences {
    /// Rows that must be there.
    pub expected: u64,
    /// Rows that are there.
    pub found: u64,
    /// Rows that must be there and are not.
    pub missing: u64,
    /// Rows that are there again.
    pub twice: u64,
    /// Rows that are there and must not be.
    pub unexpected: u64,
    /// Rows that say something else.
    pub changed: u64,
    /// The first differences, one a line.
    pub first: Vec<String>,
}

impl Differences {
    /// Whether there are none.
    #[must_use]
    pub fn none(&self) -> bool {
        self.missing == 0 && self.twice == 0 && self.unexpected == 0 && self.changed == 0
    }

    fn note<K: Debug, V: Debug>(&mut self, key: &K, expected: &[V], found: &[V]) {
        let (wanted, got) = (expected.len() as u64, found.len() as u64);
        let what = if wanted == 0 {
            self.unexpected += got;
            "unexpected"
        } else if got > wanted {
            self.twice += got - wanted;
            "twice"
        } else if got < wanted {
            self.missing += wanted - got;
            "missing"
        } else {
            self.changed += 1;
            "changed"
        };
        if self.first.len() < QUOTED {
            self.first.push(format!("{what}: {key:?}: expected {expected:?}, found {found:?}"));
        }
    }
}

fn differences<K: Ord + Debug, V: Ord + Clone + Debug>(
    expected: &BTreeMap<&K, Vec<V>>,
    found: &BTreeMap<K, Vec<V>>,
) -> Differences {
    let mut differences = Differences {
        expected: expected.values().map(|rows| rows.len() as u64).sum(),
        found: found.values().map(|rows| rows.len() as u64).sum(),
        ..Differences::default()
    };
    for (key, wanted) in expected {
        let got = found.get(*key).map_or(&[][..], Vec::as_slice);
        if !same(wanted, got) {
            differences.note(key, wanted, got);
        }
    }
    for (key, got) in found.iter().filter(|(key, _)| !expected.contains_key(key)) {
        differences.note(key, &[], got);
    }
    differences
}

fn same<V: Ord + Clone>(left: &[V], right: &[V]) -> bool {
    let sorted = |rows: &[V]| {
        let mut rows = rows.to_vec();
        rows.sort();
        rows
    };
    left.len() == right.len() && sorted(left) == sorted(right)
}

/// How the job's three outputs differ from the reference.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditReport {
    /// `charges/`.
    pub charges: Differences,
    /// `late/`.
    pub late: Differences,
    /// `rejected/`.
    pub rejected: Differences,
}

impl AuditReport {
    /// Whether everything is there once and as it must be.
    #[must_use]
    pub fn holds(&self) -> bool {
        [&self.charges, &self.late, &self.rejected].iter().all(|differences| differences.none())
    }
}

impl fmt::Display for AuditReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, d) in [("charges", &self.charges), ("late", &self.late), ("rejected", &self.rejected)] {
            writeln!(
                f,
                "{name}: {} of {} rows; {} missing, {} twice, {} unexpected, {} changed",
                d.found, d.expected, d.missing, d.twice, d.unexpected, d.changed
            )?;
            for line in &d.first {
                writeln!(f, "  {line}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "reference_tests.rs"]
mod tests;
