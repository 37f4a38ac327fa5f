//! How fast records go to each shard: as fast as the service takes them. Pure: time is handed in.
//!
//! A shard takes 1,000 records and 1 MiB a second. Whoever sends more is refused, and has sent for nothing: on a connection
//! that is worth little, a shard's share of a second is lost for it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::item::LaneId;

/// What a shard takes a second.
const RECORDS: f64 = 1_000.0;
const BYTES: f64 = 1_048_576.0;

/// How far a shard may be ahead of its pace: what goes together costs less.
const AHEAD: Duration = Duration::from_millis(100);

/// The pace of all shards.
#[derive(Debug)]
pub(super) struct Pace {
    /// In parts of what a shard takes.
    share: f64,
    shards: HashMap<LaneId, Spent>,
}

/// When what was sent will have been taken at the shard's pace, counting records and bytes.
#[derive(Debug, Clone, Copy)]
struct Spent {
    records: Instant,
    bytes: Instant,
}

impl Pace {
    /// At so many percent of what a shard takes, at least 1.
    pub(super) fn new(percent: u32) -> Self {
        Self { share: f64::from(percent.max(1)) / 100.0, shards: HashMap::new() }
    }

    /// From when on the next record may go to a shard; `None`: at once.
    pub(super) fn next(&self, shard: LaneId, now: Instant) -> Option<Instant> {
        let Spent { records, bytes } = self.shards.get(&shard)?;
        // An instant may not be moved back beyond its clock's beginning.
        let ahead = records.max(bytes).saturating_duration_since(now).checked_sub(AHEAD)?;
        (!ahead.is_zero()).then(|| now + ahead)
    }

    /// A stream record of so many bytes goes to a shard.
    pub(super) fn spend(&mut self, shard: LaneId, bytes: usize, now: Instant) {
        let taking = |amount: f64, rate: f64| Duration::from_secs_f64(amount / rate / self.share);
        let spent = self.shards.entry(shard).or_insert(Spent { records: now, bytes: now });
        spent.records = spent.records.max(now) + taking(1.0, RECORDS);
        spent.bytes = spent.bytes.max(now) + taking(bytes as f64, BYTES);
    }

    /// The shards are others.
    pub(super) fn forget(&mut self) {
        self.shards.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many records of so many bytes go in so many seconds, each as soon as it may.
    fn sent(percent: u32, bytes: usize, seconds: u64) -> u64 {
        let (mut pace, start) = (Pace::new(percent), Instant::now());
        let (mut now, mut sent) = (start, 0);
        while now < start + Duration::from_secs(seconds) {
            pace.spend(7, bytes, now);
            sent += 1;
            now = pace.next(7, now).unwrap_or(now);
        }
        sent
    }

    #[test]
    fn a_shard_gets_what_it_takes_and_a_little_at_once() {
        for (percent, bytes, expected) in [(100, 10, 10_100), (100, 1 << 17, 80), (50, 10, 5_050), (150, 10, 15_150)] {
            let sent = sent(percent, bytes, 10);
            assert!(sent.abs_diff(expected) <= 1, "{sent} at {percent} %");
        }
    }

    #[test]
    fn what_was_not_used_is_not_kept_and_shards_do_not_wait_for_each_other() {
        let (mut pace, now) = (Pace::new(100), Instant::now());
        pace.spend(1, 1 << 20, now);
        assert_eq!(pace.next(1, now), Some(now + Duration::from_millis(900)));
        assert_eq!(pace.next(2, now), None);
        let later = now + Duration::from_secs(100);
        assert_eq!(pace.next(1, later), None);
        pace.spend(1, 1 << 20, later);
        assert_eq!(pace.next(1, later), Some(later + Duration::from_millis(900)));
        pace.forget();
        assert_eq!(pace.next(1, later), None);
    }
}
