//! Where two sets of rows differ, and in which way.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};

/// How many differences a report quotes.
const QUOTED: usize = 10;

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

/// Compares rows by their keys; the order of rows of one key does not matter.
pub(super) fn differences<K: Ord + Debug, V: Ord + Clone + Debug>(
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
