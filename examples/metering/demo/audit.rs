//! The books against the files: every id that was put is charged once or late once, every bad record is rejected once.
//!
//! In come the [`Ledger`] and the job's committed files, out comes an [`Audit`]. Which records are late depends on the
//! order in which a shard took them, so the job decides that; the audit asks that each late record had a cause, that is,
//! that by the time it was put some record was far enough ahead, and that the charges are those of all the others.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;

use anyhow::Result;
use indicatif::HumanCount;
use serde::Deserialize;

use super::ledger::{Ledger, WindowKey, parse_account, parse_id, parse_meter};
use super::producer::MARKER;
use crate::metering::output::read_rows;
use crate::metering::reference::Semantics;
use crate::metering::types::{Charge, Total, Usage};

/// How many findings are quoted.
const QUOTED: usize = 10;

/// What the books and the files say. Counts are of records, where nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit {
    /// Acknowledged by Kinesis; markers are not counted.
    pub sent: u64,
    /// Different ids.
    pub unique: u64,
    /// Copies that were sent.
    pub copies: u64,
    /// Records in charges.
    pub charged: u64,
    /// Rows of charges.
    pub windows: u64,
    /// Rows of late records.
    pub late: u64,
    /// Records that were made to be late.
    pub made_late: u64,
    /// Rows of rejected records.
    pub rejected: u64,
    /// Bad records that were sent.
    pub made_bad: u64,
    /// Sent and in no output.
    pub lost: u64,
    /// In the outputs more than once.
    pub twice: u64,
    /// Rows that say what was never sent, or what does not add up.
    pub wrong: u64,
    /// The first findings, one a line.
    pub first: Vec<String>,
}

/// One line of `rejected/`.
#[derive(Debug, Deserialize)]
struct RejectedRow {
    error: String,
    raw: String,
}

impl Audit {
    /// Compares the books with the files in `out`.
    ///
    /// # Errors
    /// Files that cannot be read or are no output of the job. What does not add up is no error: it is in the audit.
    pub fn of(ledger: &Ledger, out: &Path, semantics: &Semantics) -> Result<Self> {
        let mut audit = Self {
            sent: ledger.sent(),
            unique: ledger.unique(),
            copies: ledger.copies(),
            made_late: ledger.made_late(),
            made_bad: ledger.bad().values().map(|times| times.certain).sum(),
            ..Self::default()
        };
        let late = audit.late(ledger, read_rows(&out.join("late"))?, semantics);
        let charges = audit.by_window(read_rows(&out.join("charges"))?, semantics.window);
        audit.charges(&ledger.charges(semantics.window, |id| late.contains(&id)), charges);
        audit.rejected(ledger, read_rows(&out.join("rejected"))?);
        if audit.late == 0 && audit.lost == 0 && audit.made_late > 0 {
            // Which of them are late depends on when time came where; that none is means that lateness is not judged at all.
            audit.wrong(audit.made_late, || "records were made to be late, and none is".to_owned());
        }
        Ok(audit)
    }

    /// Whether everything adds up.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.lost == 0 && self.twice == 0 && self.wrong == 0
    }

    fn late(&mut self, ledger: &Ledger, rows: Vec<Usage>, semantics: &Semantics) -> HashSet<u64> {
        let mut late = HashSet::new();
        for row in rows.into_iter().filter(|row| row.account != MARKER) {
            self.late += 1;
            let sent = parse_id(&row.id).and_then(|id| ledger.find(id).map(|sent| (id, sent)));
            let Some((id, sent)) = sent else {
                self.wrong(1, || format!("a late record was never sent: {row:?}"));
                continue;
            };
            let same = parse_account(&row.account) == Some(sent.account)
                && parse_meter(&row.meter) == Some(sent.meter)
                && (row.qty, row.at) == (sent.qty, sent.at);
            let window = semantics.window.max(1);
            let closes = (row.at / window * window).saturating_add(window).saturating_add(semantics.grace);
            if !late.insert(id) {
                self.twice(1, || format!("late twice: {row:?}"));
            } else if !same {
                self.wrong(1, || format!("a late record was sent as {sent:?}, and is {row:?}"));
            } else if closes > sent.latest.saturating_sub(semantics.lag) {
                self.wrong(1, || format!("late without a cause, nothing before it was past {}: {row:?}", sent.latest));
            }
        }
        late
    }

    fn by_window(&mut self, rows: Vec<Charge>, window: u64) -> BTreeMap<WindowKey, Vec<Total>> {
        let mut windows: BTreeMap<WindowKey, Vec<Total>> = BTreeMap::new();
        for row in rows.into_iter().filter(|row| row.account != MARKER) {
            self.windows += 1;
            self.charged = self.charged.saturating_add(row.count);
            match (parse_account(&row.account), parse_meter(&row.meter)) {
                (Some(account), Some(meter)) if row.window_start.checked_add(window) == Some(row.window_end) => {
                    windows.entry((account, meter, row.window_start)).or_default().push(row.total());
                }
                _ => self.wrong(row.count, || format!("charged, and never sent: {row:?}")),
            }
        }
        windows
    }

    fn charges(&mut self, expected: &BTreeMap<WindowKey, Total>, mut found: BTreeMap<WindowKey, Vec<Total>>) {
        for (key, total) in expected {
            let rows = found.remove(key).unwrap_or_default();
            if rows == [*total] {
                continue;
            }
            let count = rows.iter().fold(0_u64, |sum, row| sum.saturating_add(row.count));
            let finding = || format!("window {key:?}: expected {total:?}, found {rows:?}");
            if count < total.count {
                self.lost(total.count - count, finding);
            } else if count > total.count {
                self.twice(count - total.count, finding);
            } else {
                self.wrong(count, finding);
            }
        }
        for (key, rows) in found {
            let count = rows.iter().fold(0_u64, |sum, row| sum.saturating_add(row.count));
            self.twice(count, || format!("window {key:?}: expected nothing, found {rows:?}"));
        }
    }

    fn rejected(&mut self, ledger: &Ledger, rows: Vec<RejectedRow>) {
        let mut found: BTreeMap<String, u64> = BTreeMap::new();
        for row in rows {
            self.rejected += 1;
            if row.error.is_empty() {
                self.wrong(1, || format!("rejected without a reason: {:?}", row.raw));
            }
            *found.entry(row.raw).or_default() += 1;
        }
        for (raw, times) in ledger.bad() {
            let count = found.remove(raw).unwrap_or(0);
            let most = times.certain.saturating_add(times.uncertain);
            if count < times.certain {
                self.lost(times.certain - count, || format!("not rejected: {raw:?}"));
            } else if count > most {
                self.twice(count - most, || format!("rejected {count} times, sent {most} times: {raw:?}"));
            }
        }
        for (raw, count) in found {
            self.wrong(count, || format!("rejected, and never sent as bad: {raw:?}"));
        }
    }

    fn lost(&mut self, count: u64, finding: impl FnOnce() -> String) {
        self.lost = self.lost.saturating_add(count);
        self.quote(finding);
    }

    fn twice(&mut self, count: u64, finding: impl FnOnce() -> String) {
        self.twice = self.twice.saturating_add(count);
        self.quote(finding);
    }

    fn wrong(&mut self, count: u64, finding: impl FnOnce() -> String) {
        self.wrong = self.wrong.saturating_add(count);
        self.quote(finding);
    }

    fn quote(&mut self, finding: impl FnOnce() -> String) {
        if self.first.len() < QUOTED {
            self.first.push(finding());
        }
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, count: u64, note: String| {
            let count = HumanCount(count).to_string();
            writeln!(f, "{}", format!("{name:<12}{count:>12}   {note}").trim_end())
        };
        line("sent", self.sent, String::new())?;
        line("unique", self.unique, "different ids among the good ones".to_owned())?;
        line("charged", self.charged, format!("in {} windows", HumanCount(self.windows)))?;
        line("duplicates", self.copies, "sent, charged once".to_owned())?;
        line("late", self.late, format!("{} were made to be", HumanCount(self.made_late)))?;
        line("rejected", self.rejected, format!("{} were made to be", HumanCount(self.made_bad)))?;
        line("lost", self.lost, String::new())?;
        line("twice", self.twice, String::new())?;
        if self.wrong > 0 {
            line("wrong", self.wrong, "rows that do not add up".to_owned())?;
        }
        self.first.iter().try_for_each(|finding| writeln!(f, "  {finding}"))
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
