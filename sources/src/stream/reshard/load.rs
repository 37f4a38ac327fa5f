//! What was measured to flow through a range of hash keys, and where to cut it in half. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::stream::HashRange;

/// The bytes that arrived in a shard while it was measured, by hash key.
///
/// # Examples
/// ```
/// use shardflow_sources::stream::{HashRange, Load};
/// let mut load = Load::new(std::time::Duration::from_secs(10));
/// load.add(100, 5_000);
/// load.add(900, 5_000);
/// assert_eq!(load.bytes_per_second(), 1_000.0);
/// let range = HashRange::new(0, 10_000).unwrap();
/// assert_eq!(load.halving_point(range), Some(500));
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Load {
    time: Duration,
    by_hash: BTreeMap<u128, u64>,
    /// Bytes of records that lie in the shard although their partition key hashes elsewhere: they were written with a hash
    /// key of their own, which the service does not give back, so they count as spread evenly.
    elsewhere: u64,
}

impl Load {
    /// Nothing yet, in so much time.
    #[must_use]
    pub fn new(time: Duration) -> Self {
        Self { time, ..Self::default() }
    }

    /// So many bytes arrived for this hash key.
    pub fn add(&mut self, hash: u128, bytes: u64) {
        *self.by_hash.entry(hash).or_default() += bytes;
    }

    /// So many bytes arrived for unknown hash keys.
    pub fn add_elsewhere(&mut self, bytes: u64) {
        self.elsewhere += bytes;
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.by_hash.values().sum::<u64>() + self.elsewhere
    }

    /// Bytes a second; 0 where nothing was measured.
    #[must_use]
    pub fn bytes_per_second(&self) -> f64 {
        let seconds = self.time.as_secs_f64();
        if seconds > 0.0 { self.bytes() as f64 / seconds } else { 0.0 }
    }

    /// Where to split a shard of this range so that each half has as nearly as possible half of the bytes: in the middle
    /// between two hash keys that were seen, so that each half has some of them. Where fewer than two were seen nothing can be
    /// halved, and it is the middle of the range. `None` for a range that cannot be split.
    #[must_use]
    pub fn halving_point(&self, range: HashRange) -> Option<u128> {
        let (least, greatest) = range.split_points()?;
        let total: u128 = self.by_hash.values().map(|bytes| u128::from(*bytes)).sum();
        let mut below: u128 = 0;
        let mut best: Option<(u128, u128)> = None;
        for ((hash, bytes), (next, _)) in self.by_hash.iter().zip(self.by_hash.iter().skip(1)) {
            below += u128::from(*bytes);
            let fuller = below.max(total - below);
            // Any place after the one and not after the other; Kinesis leaves out the outermost.
            let (from, to) = ((hash + 1).max(least), (*next).min(greatest));
            if from <= to && best.is_none_or(|(least_full, _)| fuller < least_full) {
                best = Some((fuller, from + (to - from) / 2));
            }
        }
        best.map(|(_, at)| at).or_else(|| range.middle())
    }

    /// The loads of the two halves of `range`, cut before `at`.
    #[must_use]
    pub(super) fn cut(mut self, range: HashRange, at: u128) -> (Self, Self) {
        let upper = self.by_hash.split_off(&at);
        let share = (at - range.start()) as f64 / range.width();
        let elsewhere_below = ((self.elsewhere as f64 * share).round() as u64).min(self.elsewhere);
        let right = Self { time: self.time, by_hash: upper, elsewhere: self.elsewhere - elsewhere_below };
        (Self { elsewhere: elsewhere_below, ..self }, right)
    }

    /// The loads of two ranges together.
    #[must_use]
    pub(super) fn and(mut self, other: Self) -> Self {
        for (hash, bytes) in other.by_hash {
            self.add(hash, bytes);
        }
        Self { elsewhere: self.elsewhere + other.elsewhere, time: self.time.max(other.time), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn load(seen: &[(u128, u64)]) -> Load {
        let mut load = Load::new(Duration::from_secs(1));
        for (hash, bytes) in seen {
            load.add(*hash, *bytes);
        }
        load
    }

    const RANGE: HashRange = match HashRange::new(0, 999) {
        Some(range) => range,
        None => HashRange::ALL,
    };

    #[test]
    fn the_bytes_and_not_the_hash_keys_are_halved() {
        assert_eq!(load(&[(10, 50), (20, 30), (900, 20)]).halving_point(RANGE), Some(15));
        assert_eq!(load(&[(10, 20), (20, 20), (900, 70)]).halving_point(RANGE), Some(460));
    }

    #[test]
    fn one_hot_key_or_none_gives_the_middle() {
        assert_eq!(load(&[(10, 50)]).halving_point(RANGE), Some(500));
        assert_eq!(load(&[]).halving_point(RANGE), Some(500));
        assert_eq!(load(&[(0, 5), (1, 5)]).halving_point(RANGE), Some(500), "no place between the outermost keys");
        assert_eq!(load(&[(0, 5), (2, 5)]).halving_point(HashRange::new(0, 2).unwrap()), None);
    }

    #[test]
    fn bytes_of_unknown_hash_keys_are_spread_evenly() {
        let mut load = load(&[(10, 50)]);
        load.add_elsewhere(100);
        let (left, right) = load.cut(RANGE, 250);
        assert_eq!((left.bytes(), right.bytes()), (75, 75));
        assert_eq!(left.and(right).bytes(), 150);
    }

    proptest! {
        #[test]
        fn the_cut_leaves_both_halves_some_of_what_was_seen_and_loses_nothing(
            start: u128, width in 4u128..u128::MAX, picks in proptest::collection::vec((any::<u128>(), 1u64..1_000), 0..40),
            elsewhere in 0u64..1_000,
        ) {
            let range = HashRange::new(start.min(u128::MAX - width), start.min(u128::MAX - width) + width).unwrap();
            let mut load = Load::new(Duration::from_secs(10));
            for (pick, bytes) in &picks {
                load.add(range.start() + pick % width, *bytes);
            }
            load.add_elsewhere(elsewhere);
            let at = load.halving_point(range).unwrap();
            prop_assert!(range.split_at(at).is_some());
            let (whole, seen) = (load.bytes(), load.by_hash.len());
            let heaviest = load.by_hash.values().copied().max().unwrap_or(0);
            let can_be_halved = load.by_hash.range(range.start() + 1..range.end()).count() >= 2;
            let (left, right) = load.cut(range, at);
            prop_assert_eq!(left.bytes() + right.bytes(), whole);
            if can_be_halved {
                prop_assert!(!left.by_hash.is_empty() && !right.by_hash.is_empty(), "{seen} keys");
                let (l, r) = (left.by_hash.values().sum::<u64>(), right.by_hash.values().sum::<u64>());
                // Keys at the very edges cannot be cut off, so up to three keys may be on the wrong side.
                prop_assert!(l.abs_diff(r) <= 3 * heaviest, "{l} {r} {heaviest}");
            }
        }
    }
}
