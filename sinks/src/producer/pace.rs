//! How fast records go to each shard: as fast as the service takes them. Pure: time is handed in.
//!
//! A shard takes 1,000 records and 1 MiB in a second. Whoever sends more is refused, and has sent for nothing: on a connection
//! that is worth little, a shard's share of a second is lost for it. A shard that has had nothing for a second gets a second's
//! worth at once; from then on records go evenly. One that refuses is let alone until what it refused goes again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::item::LaneId;

/// What a shard takes a second.
const RECORDS: f64 = 1_000.0;
const BYTES: usize = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);

/// What a partition key takes of it, as most are.
const KEY: usize = 64;

/// How far a shard may be ahead of its pace: what goes together costs less.
const AHEAD: Duration = Duration::from_millis(100);

/// The pace of all shards.
#[derive(Debug)]
pub(super) struct Pace {
    /// In parts of what a shard takes.
    share: f64,
    shards: HashMap<LaneId, Spent>,
}

/// What was sent to a shard.
#[derive(Debug, Clone, Copy)]
struct Spent {
    /// When the first was sent after a second of nothing, and what was sent in the second since then.
    since: Instant,
    records_at_once: usize,
    bytes_at_once: usize,
    /// That second's worth has been sent.
    is_used_up: bool,
    last: Instant,
    /// When what was sent will have been taken at the shard's pace, counting records and bytes.
    records: Instant,
    bytes: Instant,
}

impl Spent {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            records_at_once: 0,
            bytes_at_once: 0,
            is_used_up: false,
            last: now,
            records: now,
            bytes: now,
        }
    }

    /// Whether records need not wait for each other.
    fn is_at_once(&self, now: Instant) -> bool {
        !self.is_used_up && now < self.since + SECOND
    }
}

impl Pace {
    /// At so many percent of what a shard takes, at least 1.
    pub(super) fn new(percent: u32) -> Self {
        Self { share: f64::from(percent.max(1)) / 100.0, shards: HashMap::new() }
    }

    /// From when on the next record may go to a shard; `None`: at once.
    pub(super) fn next(&self, shard: LaneId, now: Instant) -> Option<Instant> {
        let spent = self.spent(shard, now).filter(|spent| !spent.is_at_once(now))?;
        // An instant may not be moved back beyond its clock's beginning.
        let ahead = spent.records.max(spent.bytes).saturating_duration_since(now).checked_sub(AHEAD)?;
        (!ahead.is_zero()).then(|| now + ahead)
    }

    /// A stream record of so many bytes goes to a shard that has to wait for nothing. `false`: it does not, since there is too
    /// little left of what goes at once; then [`next`](Self::next) tells when.
    pub(super) fn spend(&mut self, shard: LaneId, bytes: usize, now: Instant) -> bool {
        let mut spent = self.spent(shard, now).copied().unwrap_or_else(|| Spent::new(now));
        let (records_at_once, bytes_at_once) =
            (spent.records_at_once.saturating_add(1), spent.bytes_at_once.saturating_add(bytes));
        let fits = records_at_once as f64 <= RECORDS * self.share && bytes_at_once as f64 <= BYTES as f64 * self.share;
        // Whatever comes first goes, however large it is.
        let goes = fits || spent.records_at_once == 0 || !spent.is_at_once(now);
        if goes {
            let taking = |amount: f64, rate: f64| Duration::from_secs_f64(amount / rate / self.share);
            spent.records = spent.records.max(now) + taking(1.0, RECORDS);
            spent.bytes = spent.bytes.max(now) + taking(bytes as f64, BYTES as f64);
            (spent.records_at_once, spent.bytes_at_once, spent.last) = (records_at_once, bytes_at_once, now);
        } else {
            // Nothing may go ahead of the next second.
            let next = spent.since + SECOND + AHEAD;
            (spent.records, spent.bytes) = (spent.records.max(next), spent.bytes.max(next));
            spent.is_used_up = true;
        }
        self.shards.insert(shard, spent);
        goes
    }

    /// A shard has refused a record: nothing goes to it before `until`.
    pub(super) fn refused(&mut self, shard: LaneId, until: Instant) {
        if let Some(spent) = self.shards.get_mut(&shard) {
            let taken = until + AHEAD;
            (spent.records, spent.bytes) = (spent.records.max(taken), spent.bytes.max(taken));
            spent.is_used_up = true;
        }
    }

    /// The shards are others.
    pub(super) fn forget(&mut self) {
        self.shards.clear();
    }

    /// What was sent to a shard, if something was within the last second.
    fn spent(&self, shard: LaneId, now: Instant) -> Option<&Spent> {
        self.shards.get(&shard).filter(|spent| now < spent.records.max(spent.bytes).max(spent.last + SECOND))
    }
}

/// The bytes of an aggregate, at most `most`, so that whole ones fill a shard's second: what is left of it otherwise is lost, and
/// one more that does not fit is sent for nothing.
pub(super) fn whole_part(most: usize) -> usize {
    let fitting = BYTES / most.max(1);
    let is_filled = fitting.saturating_mul(most) >= BYTES / 100 * 99;
    if fitting == 0 || is_filled { most } else { (BYTES / fitting.saturating_add(1)).saturating_sub(KEY) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many records of so many bytes go in so many seconds, each as soon as it may.
    fn sent(percent: u32, bytes: usize, seconds: u64) -> u64 {
        let (mut pace, start) = (Pace::new(percent), Instant::now());
        let (mut now, mut sent) = (start, 0);
        while now < start + Duration::from_secs(seconds) {
            match pace.next(7, now) {
                Some(at) => now = at,
                None => sent += u64::from(pace.spend(7, bytes, now)),
            }
        }
        sent
    }

    #[test]
    fn a_shard_gets_what_it_takes() {
        for (percent, bytes, expected) in [
            (100, 10, 10_000),
            (100, 1 << 17, 80),
            (50, 10, 5_000),
            (150, 10, 15_000),
            // Larger than what goes in a second: one each three seconds.
            (100, 3 << 20, 4),
        ] {
            let sent = sent(percent, bytes, 10);
            assert!(sent.abs_diff(expected) <= 1, "{sent} of {bytes} bytes at {percent} %");
        }
    }

    #[test]
    fn what_comes_after_a_second_of_nothing_goes_at_once() {
        let (mut pace, start) = (Pace::new(100), Instant::now());
        for now in [start, start + Duration::from_secs(3)] {
            for _ in 0..4 {
                assert!(pace.next(1, now).is_none() && pace.spend(1, 200_000, now));
            }
            let later = now + Duration::from_millis(900);
            assert!(pace.next(1, later).is_none() && pace.spend(1, 200_000, later));
            assert!(pace.next(1, later).is_none() && !pace.spend(1, 200_000, later), "a mebibyte is used up");
            assert!(pace.next(1, later).is_some_and(|next| next >= now + SECOND));
            assert_eq!(pace.next(2, later), None, "shards do not wait for each other");
        }
        pace.forget();
        assert_eq!(pace.next(1, start), None);
    }

    #[test]
    fn a_shard_that_refuses_waits_and_then_goes_evenly() {
        let (mut pace, start) = (Pace::new(100), Instant::now());
        let until = start + Duration::from_millis(30);
        assert!(pace.spend(1, 100, start) && pace.spend(2, 100, start));
        pace.refused(1, until);
        assert_eq!((pace.next(1, start), pace.next(2, start)), (Some(until), None));
        assert_eq!(pace.next(1, until), None);
        assert!(pace.spend(1, 1 << 19, until) && pace.next(1, until).is_some(), "not a second's worth at once");
    }

    #[test]
    fn a_whole_number_of_aggregates_fills_a_second() {
        let twentieth = BYTES / 20;
        for (most, part) in [
            (50 << 10, BYTES / 21 - KEY),
            (twentieth, twentieth),
            (BYTES - 1_024, BYTES - 1_024),
            (BYTES / 10 * 6, BYTES / 2 - KEY),
            (3 << 20, 3 << 20),
            (0, 0),
        ] {
            assert_eq!(whole_part(most), part);
        }
    }
}
