//! The producer's book of what it has put: the other side of the audit. Filled only when Kinesis has acknowledged.

use std::collections::{BTreeMap, HashMap};

use crate::metering::types::Total;
use crate::metering::workload::{Draft, Kind, METERS};

/// One id that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Number of the account.
    pub account: u16,
    /// Number of the meter.
    pub meter: u8,
    /// Quantity.
    pub qty: u64,
    /// Event time, in milliseconds since 1970.
    pub at: u64,
    /// Whether it was made to be late.
    pub late: bool,
    /// The greatest event time that had been put anywhere when this was acknowledged: no shard's watermark was beyond
    /// it, less the lag, when this was read.
    pub latest: u64,
}

/// How often a bad record was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// Acknowledged.
    pub certain: u64,
    /// Tries whose answer was lost: each may have put it once more.
    pub uncertain: u64,
}

/// A charge's window: account, meter, start.
pub type WindowKey = (u16, u8, u64);

/// All that was put.
#[derive(Debug, Default)]
pub struct Ledger {
    ids: HashMap<u64, Sent>,
    bad: BTreeMap<String, Times>,
    sent: u64,
    copies: u64,
    retried: u64,
    requests: u64,
    latest: u64,
}

impl Ledger {
    /// Before a request: its records may be read from now on.
    pub fn trying(&mut self, drafts: &[Draft]) {
        self.requests += 1;
        let good = drafts.iter().filter(|draft| !matches!(draft.kind, Kind::Bad(_)));
        self.latest = good.map(|draft| draft.at).fold(self.latest, u64::max);
    }

    /// A record of a request was refused, or the request failed. `raw` is the record, `lost` whether it may have been
    /// put all the same.
    pub fn refused(&mut self, draft: &Draft, raw: &[u8], lost: bool) {
        self.retried += 1;
        if lost && matches!(draft.kind, Kind::Bad(_)) {
            self.bad.entry(lossy(raw)).or_default().uncertain += 1;
        }
    }

    /// A record was acknowledged. `raw` is what was put.
    pub fn acknowledged(&mut self, draft: &Draft, raw: &[u8]) {
        self.sent += 1;
        if matches!(draft.kind, Kind::Bad(_)) {
            self.bad.entry(lossy(raw)).or_default().certain += 1;
            return;
        }
        let Draft { account, meter, qty, at, .. } = *draft;
        let latest = self.latest;
        let first = Sent { account, meter, qty, at, late: draft.kind == Kind::Late, latest };
        self.ids
            .entry(draft.id)
            .and_modify(|sent| {
                self.copies += 1;
                sent.latest = sent.latest.max(latest);
                // A retried original may be acknowledged after its copy, which does not know that it is late.
                sent.late |= draft.kind == Kind::Late;
            })
            .or_insert(first);
    }

    /// What was put under this id.
    #[must_use]
    pub fn find(&self, id: u64) -> Option<&Sent> {
        self.ids.get(&id)
    }

    /// Bad records and how often each was put.
    #[must_use]
    pub fn bad(&self) -> &BTreeMap<String, Times> {
        &self.bad
    }

    /// Records acknowledged.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Different ids among the good ones.
    #[must_use]
    pub fn unique(&self) -> u64 {
        self.ids.len() as u64
    }

    /// Copies of ids that had been put before.
    #[must_use]
    pub fn copies(&self) -> u64 {
        self.copies
    }

    /// Ids that were made to be late.
    #[must_use]
    pub fn made_late(&self) -> u64 {
        self.ids.values().filter(|sent| sent.late).count() as u64
    }

    /// Records that were put again because a try failed.
    #[must_use]
    pub fn retried(&self) -> u64 {
        self.retried
    }

    /// PutRecords calls.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// The greatest event time put, in milliseconds since 1970.
    #[must_use]
    pub fn latest(&self) -> u64 {
        self.latest
    }

    /// What each window must have been charged if `left_out`, and only those, were not charged.
    pub fn charges(&self, window: u64, left_out: impl Fn(u64) -> bool) -> BTreeMap<WindowKey, Total> {
        let window = window.max(1);
        let mut charges: BTreeMap<WindowKey, Total> = BTreeMap::new();
        for (_, sent) in self.ids.iter().filter(|(id, _)| !left_out(**id)) {
            let key = (sent.account, sent.meter, sent.at / window * window);
            charges.entry(key).or_default().add_qty(sent.qty);
        }
        charges
    }
}

/// The id in a row, as a number.
#[must_use]
pub fn parse_id(id: &str) -> Option<u64> {
    let digits = id.strip_prefix("u-").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// The account in a row, as a number.
#[must_use]
pub fn parse_account(account: &str) -> Option<u16> {
    account.strip_prefix("acct-")?.parse().ok()
}

/// The meter in a row, as a number.
#[must_use]
pub fn parse_meter(meter: &str) -> Option<u8> {
    METERS.iter().position(|known| *known == meter).and_then(|index| u8::try_from(index).ok())
}

fn lossy(raw: &[u8]) -> String {
    String::from_utf8_lossy(raw).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metering::workload::Flaw;

    fn draft(kind: Kind, id: u64, qty: u64, at: u64) -> Draft {
        Draft { kind, id, account: 3, meter: 1, qty, at, lane: 0 }
    }

    fn put(ledger: &mut Ledger, draft: Draft) {
        ledger.trying(&[draft]);
        ledger.acknowledged(&draft, b"{}");
    }

    #[test]
    fn copies_count_as_sent_and_are_charged_once() {
        let mut ledger = Ledger::default();
        put(&mut ledger, draft(Kind::Ordinary, 1, 5, 12));
        put(&mut ledger, draft(Kind::Copy, 1, 5, 12));
        put(&mut ledger, draft(Kind::Ordinary, 2, 7, 19));
        put(&mut ledger, draft(Kind::Ordinary, 3, 1, 20));
        assert_eq!((ledger.sent(), ledger.unique(), ledger.copies()), (4, 3, 1));
        let charges: Vec<_> = ledger.charges(10, |_| false).into_iter().collect();
        let expected =
            [((3, 1, 10), Total { qty: 12, count: 2, max: 7 }), ((3, 1, 20), Total { qty: 1, count: 1, max: 1 })];
        assert_eq!(charges, expected);
        assert_eq!(ledger.charges(10, |id| id != 3).len(), 1);
    }

    #[test]
    fn latest_is_what_any_shard_could_have_seen() {
        let mut ledger = Ledger::default();
        put(&mut ledger, draft(Kind::Ordinary, 1, 1, 100));
        put(&mut ledger, draft(Kind::Late, 2, 1, 40));
        put(&mut ledger, draft(Kind::Bad(Flaw::Junk), 9, 1, 999));
        assert_eq!(ledger.find(2).map(|sent| (sent.late, sent.latest)), Some((true, 100)));
        assert_eq!((ledger.latest(), ledger.made_late(), ledger.sent()), (100, 1, 3));
    }

    #[test]
    fn bad_records_know_what_is_certain() {
        let mut ledger = Ledger::default();
        let bad = draft(Kind::Bad(Flaw::EmptyObject), 1, 1, 1);
        ledger.refused(&bad, b"{}", true);
        ledger.refused(&bad, b"{}", false);
        put(&mut ledger, bad);
        put(&mut ledger, bad);
        assert_eq!(ledger.bad().get("{}"), Some(&Times { certain: 2, uncertain: 1 }));
        assert_eq!(ledger.retried(), 2);
    }

    #[test]
    fn names_are_read_back_and_strangers_are_not() {
        assert_eq!(parse_id("u-00000000000000ff"), Some(255));
        assert_eq!(parse_account("acct-0042"), Some(42));
        assert_eq!(parse_meter("gb-hours"), Some(1));
        assert_eq!((parse_id("u-ff"), parse_account("marker"), parse_meter("x")), (None, None, None));
    }
}
