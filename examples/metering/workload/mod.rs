//! Usage records from a seed: the same seed gives the same records in the same order, on every machine.
//!
//! A [`Workload`] is an iterator of [`Draft`]s, a few numbers each; [`Workload::write`] turns one into its line. So the
//! caller decides first where a record goes and the bytes are written once, there.
//!
//! # What the records are like
//! * `records` slots lie evenly on `span` milliseconds of event time from `start`. A record's event time is its slot's,
//!   less up to `disorder` milliseconds: a lag of at least `disorder` makes no ordinary record late.
//! * 1,000 accounts, of which the first is met 32 times as often as the last, with 8 meters each; quantities from 1 to
//!   10,000. An account stays in one lane (a file, a shard), and so do the copies of an id.
//! * A duplicate is an exact copy, early enough to stay within `disorder`.
//! * A late record lies `behind` milliseconds behind the latest of its lane, and is drawn only once its lane has had
//!   `warmup` ordinary records.
//! * A bad record is no usage record; [`Flaw`] lists the ways.

mod line;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::RangeInclusive;

use anyhow::{Result, bail};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::line::Lines;
use super::types::LAST_MILLISECOND;

/// Number of accounts.
pub const ACCOUNTS: u16 = 1000;
/// Their meters.
pub const METERS: [&str; 8] =
    ["cpu-seconds", "gb-hours", "requests", "egress-mb", "ingress-mb", "iops", "tokens", "build-minutes"];
/// The greatest quantity.
pub const MAX_QTY: u64 = 10_000;

/// What to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// How many records in all, copies and bad ones included.
    pub records: u64,
    /// Decides everything that is drawn.
    pub seed: u64,
    /// Over how many files or shards the accounts are spread. At least 1.
    pub lanes: usize,
    /// Event time of the first slot, in milliseconds since 1970.
    pub start: u64,
    /// Event time that the slots cover, in milliseconds. `records * 1000 / span` records fall in one second.
    pub span: u64,
    /// Share of records that are followed by a copy, 0 to 1.
    pub duplicates: f64,
    /// Share of late records, 0 to 1.
    pub late: f64,
    /// Share of bad records, 0 to 1.
    pub bad: f64,
    /// How far event times lie behind their slot at most, in milliseconds.
    pub disorder: u64,
    /// How far late records lie behind the latest of their lane, in milliseconds.
    pub behind: RangeInclusive<u64>,
    /// Ordinary records that a lane must have had before its first late one.
    pub warmup: u64,
}

impl Spec {
    /// `records` records from `seed` in one lane over an hour of event time from 2023-11-14T22:13:20Z, with 2 %
    /// duplicates, 0.1 % late by 10 to 30 minutes, 0.05 % bad, and 4 s of disorder.
    #[must_use]
    pub fn new(records: u64, seed: u64) -> Self {
        Self {
            records,
            seed,
            lanes: 1,
            start: 1_700_000_000_000,
            span: 3_600_000,
            duplicates: 0.02,
            late: 0.001,
            bad: 0.0005,
            disorder: 4_000,
            behind: 600_000..=1_800_000,
            warmup: 20,
        }
    }

    fn check(&self) -> Result<()> {
        for (name, share) in [("duplicates", self.duplicates), ("late", self.late), ("bad", self.bad)] {
            if !(0.0..=1.0).contains(&share) {
                bail!("the share of {name} is {share}, not between 0 and 1");
            }
        }
        if self.late + self.bad > 1.0 {
            bail!("the shares of late and bad records are more than 1 together");
        }
        if self.lanes == 0 {
            bail!("0 lanes cannot hold a record");
        }
        if self.start.saturating_add(self.span) > LAST_MILLISECOND {
            bail!("event times from {} over {} ms pass the year 9999", self.start, self.span);
        }
        Ok(())
    }
}

/// The ways in which a bad record is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flaw {
    /// The object ends too early.
    CutShort,
    /// The quantity is a string.
    WrongType,
    /// No account.
    MissingField,
    /// The account is no UTF-8.
    InvalidUtf8,
    /// The quantity is below zero.
    NegativeQty,
    /// The quantity is 2^64 or more.
    HugeQty,
    /// `{}`.
    EmptyObject,
    /// Bytes that are nothing at all.
    Junk,
    /// An event time after the year 9999.
    FarFuture,
}

/// Every flaw.
pub const FLAWS: [Flaw; 9] = [
    Flaw::CutShort,
    Flaw::WrongType,
    Flaw::MissingField,
    Flaw::InvalidUtf8,
    Flaw::NegativeQty,
    Flaw::HugeQty,
    Flaw::EmptyObject,
    Flaw::Junk,
    Flaw::FarFuture,
];

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// In time, and the first of its id.
    Ordinary,
    /// Far behind, and the first of its id.
    Late,
    /// An exact copy of an earlier one.
    Copy,
    /// No usage record.
    Bad(Flaw),
}

/// One record, not yet written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Draft {
    /// What it is.
    pub kind: Kind,
    /// Unique, but for copies. Written as `u-` and 16 hexadecimal digits.
    pub id: u64,
    /// Below [`ACCOUNTS`].
    pub account: u16,
    /// Below the number of [`METERS`].
    pub meter: u8,
    /// 1 to [`MAX_QTY`].
    pub qty: u64,
    /// Event time, in milliseconds since 1970.
    pub at: u64,
    /// The file or shard it belongs to, below the number of lanes.
    pub lane: usize,
}

impl Draft {
    /// The account's name.
    #[must_use]
    pub fn account_name(&self) -> String {
        account_name(self.account)
    }
}

/// The name of an account.
#[must_use]
pub fn account_name(account: u16) -> String {
    format!("acct-{account:04}")
}

#[derive(Debug, Clone, Copy, Default)]
struct Lane {
    latest: u64,
    ordinary: u64,
}

/// The records of a [`Spec`], in order.
#[derive(Debug)]
pub struct Workload {
    spec: Spec,
    rng: ChaCha8Rng,
    slot: u64,
    lanes: Vec<Lane>,
    copies: BinaryHeap<Reverse<(u64, Draft)>>,
    // Shares as parts of 2^32, to be compared with 32 random bits.
    late: u64,
    late_or_bad: u64,
    duplicates: u64,
    lines: Lines,
}

impl Workload {
    /// Checks the spec.
    ///
    /// # Errors
    /// A share outside 0 to 1, no lane, or event times after the year 9999.
    pub fn new(spec: Spec) -> Result<Self> {
        spec.check()?;
        let part = |share: f64| (share * 4_294_967_296.0) as u64;
        Ok(Self {
            rng: ChaCha8Rng::seed_from_u64(spec.seed),
            slot: 0,
            lanes: vec![Lane::default(); spec.lanes],
            copies: BinaryHeap::new(),
            late: part(spec.late),
            late_or_bad: part(spec.late + spec.bad),
            duplicates: part(spec.duplicates),
            lines: Lines::new(),
            spec,
        })
    }

    /// Appends the record as it goes into the file or the stream, without a newline.
    pub fn write(&self, draft: &Draft, out: &mut Vec<u8>) {
        self.lines.write(draft, None, out);
    }

    /// As [`Workload::write`], with the time of its put, in milliseconds since 1970, in a good record.
    pub fn write_with_put(&self, draft: &Draft, put: Option<u64>, out: &mut Vec<u8>) {
        self.lines.write(draft, put, out);
    }

    /// A slot's event time. The product needs more than 64 bits only for absurd workloads.
    fn clock(&self, slot: u64) -> u64 {
        let passed = u128::from(slot) * u128::from(self.spec.span) / u128::from(self.spec.records.max(1));
        self.spec.start.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// Slots in `millis` of event time.
    fn slots(&self, millis: u64) -> u64 {
        let slots = u128::from(millis) * u128::from(self.spec.records) / u128::from(self.spec.span.max(1));
        u64::try_from(slots).unwrap_or(u64::MAX)
    }

    fn draw(&mut self) -> Draft {
        let (first, second, third) = (self.rng.next_u64(), self.rng.next_u64(), self.rng.next_u64());
        let account = scale(square(high(second)), u64::from(ACCOUNTS)) as u16;
        let lane = usize::from(account) % self.lanes.len().max(1);
        let jitter = scale(high(third), self.spec.disorder.saturating_add(1));
        let chance = high(first);
        let seen = self.lanes.get(lane).copied().unwrap_or_default();
        let kind = if chance < self.late && seen.ordinary >= self.spec.warmup.max(1) {
            Kind::Late
        } else if (self.late..self.late_or_bad).contains(&chance) {
            let flaw = scale(low(first), FLAWS.len() as u64) as usize;
            Kind::Bad(FLAWS.get(flaw).copied().unwrap_or(Flaw::Junk))
        } else {
            Kind::Ordinary
        };
        let at = match kind {
            Kind::Late => seen.latest.saturating_sub(self.behind(third)),
            _ => self.clock(self.slot).saturating_sub(jitter),
        };
        let draft = Draft {
            kind,
            id: mix(mix(self.spec.seed).wrapping_add(self.slot)),
            account,
            meter: (second & 7) as u8,
            qty: 1 + scale(low(third), MAX_QTY),
            at,
            lane,
        };
        self.remember(&draft, if kind == Kind::Late { 0 } else { jitter }, low(first));
        draft
    }

    fn behind(&self, random: u64) -> u64 {
        let (least, most) = (*self.spec.behind.start(), *self.spec.behind.end());
        least.saturating_add(scale(high(random), most.saturating_sub(least).saturating_add(1)))
    }

    /// Notes what later records depend on: the lane's latest event time, and the copy that may follow.
    fn remember(&mut self, draft: &Draft, jitter: u64, random: u64) {
        if matches!(draft.kind, Kind::Bad(_)) {
            return;
        }
        if draft.kind == Kind::Ordinary
            && let Some(lane) = self.lanes.get_mut(draft.lane)
        {
            lane.latest = lane.latest.max(draft.at);
            lane.ordinary += 1;
        }
        if random < self.duplicates {
            // The copy's event time stays within the disorder, seen from its own slot.
            let room = self.slots(self.spec.disorder.saturating_sub(jitter)).max(1);
            let due = self.slot.saturating_add(1 + mix(draft.id) % room);
            self.copies.push(Reverse((due, Draft { kind: Kind::Copy, ..*draft })));
        }
    }
}

impl Iterator for Workload {
    type Item = Draft;

    fn next(&mut self) -> Option<Draft> {
        if self.slot >= self.spec.records {
            return None;
        }
        let due = self.copies.peek().is_some_and(|Reverse((due, _))| *due <= self.slot);
        let copy = if due { self.copies.pop() } else { None };
        let draft = copy.map_or_else(|| self.draw(), |Reverse((_, draft))| draft);
        self.slot += 1;
        Some(draft)
    }
}

/// The upper 32 bits.
fn high(random: u64) -> u64 {
    random >> 32
}

/// The lower 32 bits.
fn low(random: u64) -> u64 {
    random & u64::from(u32::MAX)
}

/// The square of a fraction of 2^32: draws small numbers more often.
fn square(fraction: u64) -> u64 {
    fraction.saturating_mul(fraction) >> 32
}

/// A fraction of 2^32 as a number below `count`.
fn scale(fraction: u64, count: u64) -> u64 {
    ((u128::from(fraction) * u128::from(count)) >> 32) as u64
}

/// A permutation of the 64-bit numbers (splitmix64's): slots give unique ids that look drawn.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
