//! The same job without the engine: what this machine allows a program that can do nothing else.
//!
//! No epochs, no state on disk, nothing staged, nothing that survives a crash. The results are the job's, to the row: a
//! program that computes something else would be no limit. Here is what the two programs share, [`plain`] and [`timely`]
//! are the rest.

pub(crate) mod made;
pub(crate) mod names;
pub(crate) mod plain;
mod seen;
pub(crate) mod timely;

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hashbrown::{Equivalent, HashMap};
use serde::Deserialize;
use shardflow::{Decoder, EventTime, Window};
use shardflow_examples::metering::decode::UsageDecoder;
use shardflow_examples::metering::output::visible_files;
use shardflow_examples::metering::types::{Charge, Key, LAST_MILLISECOND, Total};

/// Length of a window, in milliseconds: the job's default.
const WINDOW: u64 = 60_000;
/// How far a file's watermark stays behind, in milliseconds: the job's default.
const LAG: u64 = 5_000;
/// How much is read at a time.
const CHUNK: usize = 256 * 1024;

/// Totals of one window.
type Totals = HashMap<Key, Total, foldhash::fast::RandomState>;

/// A usage record, its strings left where they lie.
#[derive(Debug, Deserialize)]
struct Borrowed<'a> {
    id: &'a str,
    account: &'a str,
    meter: &'a str,
    qty: u64,
    at: u64,
}

impl Borrowed<'_> {
    fn fingerprint(&self) -> u128 {
        seen::fingerprint(self.account, self.meter, self.id)
    }
}

/// What becomes of a line.
enum Line<'a> {
    Counts(Borrowed<'a>),
    Late(Borrowed<'a>),
    Rejected,
}

/// Looks up a key without making one.
#[derive(Hash)]
struct KeyRef<'a>(&'a str, &'a str);

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.0 == key.0 && self.1 == key.1
    }
}

/// One file, line by line, and its watermark.
struct Lines {
    file: File,
    buffer: Vec<u8>,
    watermark: u64,
    ended: bool,
}

impl Lines {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("could not open \"{}\"", path.display()))?;
        Ok(Self { file, buffer: Vec::with_capacity(2 * CHUNK), watermark: 0, ended: false })
    }

    /// Reads the next chunk and gives its records to `take`, late ones with their line. Lines that are none go to `out`, and
    /// so do late records where `take` gives them back. False at the file's end.
    fn next(&mut self, out: &mut SetAside, mut take: impl FnMut(Borrowed<'_>, Option<&[u8]>) -> Fate) -> Result<bool> {
        if self.ended {
            return Ok(false);
        }
        let read = (&mut self.file).take(CHUNK as u64).read_to_end(&mut self.buffer).context("could not read")?;
        self.ended = read == 0;
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &self.buffer) {
            let line = self.buffer.get(start..end).unwrap_or_default();
            start = end + 1;
            let fate = match judge(line, &mut self.watermark)? {
                Line::Counts(usage) => take(usage, None),
                Line::Late(usage) => take(usage, Some(line)),
                Line::Rejected => {
                    out.rejected(line)?;
                    Fate::Taken
                }
            };
            if fate == Fate::Late {
                out.late(line)?;
            }
        }
        self.buffer.drain(..start);
        Ok(true)
    }
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is taken care of.
    Taken,
    /// Its line is to be written to the late ones.
    Late,
}

/// A record is late if its window has ended by the watermark of the records before it, in its file.
fn judge<'a>(line: &'a [u8], watermark: &mut u64) -> Result<Line<'a>> {
    let usage = match sonic_rs::from_slice::<Borrowed<'a>>(line) {
        // A decoder of structs also takes an array of their fields.
        Ok(usage) if usage.at <= LAST_MILLISECOND && line.starts_with(b"{") => usage,
        // Strings with escapes cannot be borrowed. The workload has none; one must not pass for a bad record.
        _ if UsageDecoder::new().decode(line).is_ok() => bail!("the limits cannot read strings with escapes"),
        _ => return Ok(Line::Rejected),
    };
    let before = *watermark;
    *watermark = before.max(usage.at.saturating_sub(LAG));
    let late = window(usage.at).end().as_millis() <= before;
    Ok(if late { Line::Late(usage) } else { Line::Counts(usage) })
}

fn window(at: u64) -> Window {
    let start = at / WINDOW * WINDOW;
    Window::new(EventTime::from_millis(start), EventTime::from_millis(start + WINDOW))
}

/// The files below `input`, in order.
fn files(input: &Path) -> Result<Vec<PathBuf>> {
    visible_files(input)
}

/// A file below `out`.
fn create(out: &Path, kind: &str, worker: usize) -> Result<BufWriter<File>> {
    let dir = out.join(kind);
    let path = dir.join(format!("part-{worker}.ndjson"));
    let file = fs::create_dir_all(&dir).and_then(|()| File::create(&path));
    Ok(BufWriter::with_capacity(CHUNK, file.with_context(|| format!("could not make \"{}\"", path.display()))?))
}

/// Writes the charges of a window.
fn write_window(start: u64, totals: Totals, out: &mut BufWriter<File>) -> Result<()> {
    for (key, total) in totals {
        let charge = Charge::new(key, window(start), total);
        serde_json::to_writer(&mut *out, &charge).context("could not write a charge")?;
        out.write_all(b"\n").context("could not write a charge")?;
    }
    Ok(())
}

/// Where late and rejected lines go.
struct SetAside {
    late: BufWriter<File>,
    rejected: BufWriter<File>,
}

impl SetAside {
    fn create(out: &Path, worker: usize) -> Result<Self> {
        Ok(Self { late: create(out, "late", worker)?, rejected: create(out, "rejected", worker)? })
    }

    fn late(&mut self, line: &[u8]) -> Result<()> {
        write_line(&mut self.late, line)
    }

    fn rejected(&mut self, line: &[u8]) -> Result<()> {
        write_line(&mut self.rejected, line)
    }

    fn flush(&mut self) -> Result<()> {
        self.late.flush().and_then(|()| self.rejected.flush()).context("could not write lines")
    }
}

fn write_line(out: &mut BufWriter<File>, line: &[u8]) -> Result<()> {
    out.write_all(line).and_then(|()| out.write_all(b"\n")).context("could not write a line")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use shardflow_examples::metering::generate::generate;
    use shardflow_examples::metering::reference::{Reference, Semantics};
    use shardflow_examples::metering::workload::Spec;

    #[test]
    fn both_limits_compute_what_the_reference_does() {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("in");
        let duplicates = 0.05;
        generate(Spec { lanes: 3, late: 0.01, duplicates, ..Spec::new(30_000, 5) }, &input).unwrap();
        let mut records = Vec::new();
        for dedupe in [false, true] {
            let horizon = if dedupe { 86_400_000 } else { 0 };
            let semantics = Semantics { window: WINDOW, lag: LAG, grace: 0, dedupe: horizon };
            let reference = Reference::compute(&input, &semantics).unwrap();
            let mut digests = Vec::new();
            for threads in [1, 2] {
                let out = dir.path().join(format!("plain-{threads}-{dedupe}"));
                plain::run(&input, &out, threads, dedupe).unwrap();
                digests.push(Digest::of(&out).unwrap());
                let out = dir.path().join(format!("timely-{threads}-{dedupe}"));
                timely::run(&input, &out, threads, dedupe).unwrap();
                digests.push(Digest::of(&out).unwrap());
            }
            digests.iter().for_each(|digest| is_the_reference(digest, &reference));
            assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
            records.extend(digests.first().map(|digest| digest.records));
        }
        assert!(records[1] < records[0], "copies count once: {records:?}");
    }

    fn is_the_reference(digest: &Digest, reference: &Reference) {
        assert_eq!(digest.charges, reference.charges.len() as u64);
        assert_eq!(digest.records, reference.charges.values().map(|total| total.count).sum::<u64>());
        assert_eq!(digest.qty, reference.charges.values().map(|total| total.qty).sum::<u128>());
        assert_eq!(digest.late, reference.late.values().sum::<u64>());
        assert_eq!(digest.rejected, reference.rejected.values().sum::<u64>());
        assert!(digest.late > 0 && digest.rejected > 0);
    }

    #[test]
    fn a_string_with_an_escape_is_refused_and_not_taken_for_a_bad_record() {
        let line = br#"{"id":"u\n","account":"a","meter":"m","qty":1,"at":5}"#;
        assert!(judge(line, &mut 0).is_err());
        assert!(matches!(judge(b"{", &mut 0), Ok(Line::Rejected)));
    }
}
