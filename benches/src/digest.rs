//! What a run has written, in a few numbers that are the same for the same rows in any order and in any files.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use shardflow_examples::metering::output::visible_files;
use shardflow_examples::metering::types::Charge;
use xxhash_rust::xxh3::xxh3_64;

/// The rows of `charges/`, `late/` and `rejected/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Digest {
    /// Rows of charges.
    pub(crate) charges: u64,
    /// Records in them.
    pub(crate) records: u64,
    /// Sum of their quantities.
    pub(crate) qty: u128,
    /// Sum of the hashes of their lines.
    fingerprint: u64,
    /// Late records.
    pub(crate) late: u64,
    /// Sum of the hashes of their lines.
    late_fingerprint: u64,
    /// Rejected records.
    pub(crate) rejected: u64,
}

impl Digest {
    /// Reads everything below `out`.
    ///
    /// # Errors
    /// Files that cannot be read, or hold something else than charges.
    pub(crate) fn of(out: &Path) -> Result<Self> {
        let mut digest = Self::default();
        each_line(&out.join("charges"), |line| {
            let charge: Charge = serde_json::from_slice(line).context("a line is no charge")?;
            digest.charges += 1;
            digest.records = digest.records.saturating_add(charge.count);
            digest.qty = digest.qty.saturating_add(charge.qty);
            digest.fingerprint = digest.fingerprint.wrapping_add(xxh3_64(line));
            Ok(())
        })?;
        each_line(&out.join("late"), |line| {
            digest.late += 1;
            digest.late_fingerprint = digest.late_fingerprint.wrapping_add(xxh3_64(line));
            Ok(())
        })?;
        each_line(&out.join("rejected"), |_| {
            digest.rejected += 1;
            Ok(())
        })?;
        Ok(digest)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { charges, records, qty, late, rejected, .. } = self;
        write!(f, "{charges} charges of {records} records, quantity {qty}; {late} late, {rejected} rejected")
    }
}

fn each_line(dir: &Path, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    for path in visible_files(dir)? {
        let bytes = fs::read(&path).with_context(|| format!("could not read \"{}\"", path.display()))?;
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            take(line).with_context(|| format!("could not understand \"{}\"", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHARGE: &str = r#"{"account":"a","meter":"m","window_start":0,"window_end":60000,"qty":5,"count":2,"max":3}"#;

    fn written(files: &[(&str, String)]) -> Digest {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Digest::of(dir.path()).unwrap()
    }

    #[test]
    fn order_and_files_do_not_matter_and_every_digit_does() {
        let other = CHARGE.replace("\"max\":3", "\"max\":4");
        let one = written(&[("charges/a.ndjson", format!("{CHARGE}\n{other}\n")), ("late/x.ndjson", "{}\n".into())]);
        assert_eq!((one.charges, one.records, one.qty, one.late, one.rejected), (2, 4, 10, 1, 0));
        let apart = [
            ("charges/a.ndjson", format!("{other}\n")),
            ("charges/b/a.ndjson", format!("{CHARGE}\n")),
            ("late/y.ndjson", "{}\n".into()),
        ];
        assert_eq!(one, written(&apart));
        let wrong = [("charges/a.ndjson", format!("{CHARGE}\n{CHARGE}\n")), ("late/x.ndjson", "{}\n".into())];
        assert_ne!(one, written(&wrong));
    }
}
