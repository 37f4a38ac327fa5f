//! The space of hash keys, 0 to 2^128 - 1, and the ranges of it that shards own. Pure.
//!
//! A record goes to the open shard whose range holds its hash key: the one that its writer gave, or else the MD5 of its
//! partition key, read as a big-endian number
//! ([PutRecord](https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecord.html)).

use std::fmt;

/// 2^128, as near as a float comes to it: exactly.
const SPACE: f64 = 340_282_366_920_938_463_463_374_607_431_768_211_456.0;

/// The hash keys from one number to another, both included. Never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashRange {
    start: u128,
    end: u128,
}

impl HashRange {
    /// Every hash key.
    pub const ALL: Self = Self { start: 0, end: u128::MAX };

    /// From `start` to `end`, both included; `None` where that is backwards.
    #[must_use]
    pub const fn new(start: u128, end: u128) -> Option<Self> {
        if start <= end { Some(Self { start, end }) } else { None }
    }

    /// Reads the two decimal numbers of an API answer.
    #[must_use]
    pub fn parse(start: &str, end: &str) -> Option<Self> {
        Self::new(start.parse().ok()?, end.parse().ok()?)
    }

    /// The least hash key in it.
    #[must_use]
    pub const fn start(self) -> u128 {
        self.start
    }

    /// The greatest hash key in it.
    #[must_use]
    pub const fn end(self) -> u128 {
        self.end
    }

    /// Whether `hash` lies in it.
    #[must_use]
    pub const fn contains(self, hash: u128) -> bool {
        self.start <= hash && hash <= self.end
    }

    /// How much of the whole space it is, in `(0, 1]`.
    #[must_use]
    pub fn share(self) -> f64 {
        self.width() / SPACE
    }

    /// How many hash keys it holds; a float, because all of them are one more than a `u128` can count.
    #[must_use]
    pub fn width(self) -> f64 {
        (self.end - self.start) as f64 + 1.0
    }

    /// Whether `next` begins where this ends.
    #[must_use]
    pub fn is_followed_by(self, next: Self) -> bool {
        self.end.checked_add(1) == Some(next.start)
    }

    /// The range of both, where `next` begins where this ends.
    #[must_use]
    pub fn joined_with(self, next: Self) -> Option<Self> {
        self.is_followed_by(next).then_some(Self { start: self.start, end: next.end })
    }

    /// The least and the greatest hash key at which Kinesis splits a shard of this range: greater than one plus its start,
    /// less than its end. `None` for a range of fewer than four hash keys.
    #[must_use]
    pub fn split_points(self) -> Option<(u128, u128)> {
        let (least, greatest) = (self.start.checked_add(2)?, self.end.checked_sub(1)?);
        (least <= greatest).then_some((least, greatest))
    }

    /// The hash key that halves it; `None` for a range that cannot be split.
    #[must_use]
    pub fn middle(self) -> Option<u128> {
        let (least, greatest) = self.split_points()?;
        // Half of what it holds, rounded up, without adding beyond the greatest number.
        let middle = self.start + (self.end - self.start) / 2 + 1;
        Some(middle.clamp(least, greatest))
    }

    /// The range before `at` and the one from `at` on; `None` where Kinesis would not split there.
    #[must_use]
    pub fn split_at(self, at: u128) -> Option<(Self, Self)> {
        let (least, greatest) = self.split_points()?;
        (least..=greatest)
            .contains(&at)
            .then_some((Self { start: self.start, end: at - 1 }, Self { start: at, end: self.end }))
    }
}

impl fmt::Display for HashRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(start: u128, end: u128) -> HashRange {
        HashRange::new(start, end).unwrap()
    }

    #[test]
    fn shares_are_of_the_whole_space() {
        assert_eq!(HashRange::ALL.share(), 1.0);
        assert_eq!(range(1 << 127, u128::MAX).share(), 0.5);
        assert_eq!(range(0, (1 << 126) - 1).share(), 0.25);
    }

    #[test]
    fn the_middle_of_everything_is_half_of_it() {
        assert_eq!(HashRange::ALL.middle(), Some(1 << 127));
        assert_eq!(range(0, 3).middle(), Some(2));
        assert_eq!(range(0, 2).middle(), None);
    }

    #[test]
    fn ranges_that_do_not_touch_are_not_joined() {
        assert_eq!(range(0, 4).joined_with(range(5, 9)), Some(range(0, 9)));
        assert_eq!(range(0, 4).joined_with(range(6, 9)), None);
        assert_eq!(range(5, 9).joined_with(range(0, 4)), None);
        assert_eq!(HashRange::ALL.joined_with(range(0, 4)), None);
        assert_eq!(HashRange::new(1, 0), None);
        assert_eq!(HashRange::parse("0", "x"), None);
    }

    proptest! {
        #[test]
        fn halves_are_never_empty_and_join_to_the_whole(a: u128, b: u128, at: u128) {
            let whole = range(a.min(b), a.max(b));
            for at in [Some(at), whole.middle()].into_iter().flatten() {
                if let Some((left, right)) = whole.split_at(at) {
                    prop_assert!(left.width() >= 2.0 && right.width() >= 2.0);
                    prop_assert_eq!(left.joined_with(right), Some(whole));
                    prop_assert_eq!(right.start(), at);
                }
            }
            prop_assert!(whole.middle().is_none_or(|middle| whole.split_at(middle).is_some()));
        }
    }
}
