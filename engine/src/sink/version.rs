//! Orders what a job writes under one key. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::vocabulary::{Epoch, Incarnation};

/// Bits of [`Version::packed`] that count records.
const COUNT_BITS: u32 = 43;

/// Bits of [`Version::packed`] that number starts: together they leave the sign of a 64-bit number alone.
const START_BITS: u32 = 20;

/// Which of two writes under one key came later: this start's number, the epoch, and how many records the writer had taken in this
/// start before. It only grows: a replay writes in a later start, and a process that was taken for dead in an earlier one. So a
/// service that keeps what has the greatest version ends with what the latest start wrote last.
///
/// In each epoch the records of one key must come to one writer. They do where the stream is keyed by it, or by a part of it; and
/// where they lie in one split, which another worker may go on with, or with its child, in a later epoch.
///
/// # Examples
/// ```
/// use shardflow::Epoch;
/// use shardflow::sink::Version;
/// use shardflow::vocabulary::Incarnation;
/// let zombie = Version::new(Incarnation::new(1), Epoch::new(8), 900);
/// let now = Version::new(Incarnation::new(2), Epoch::new(7), 5);
/// assert!(zombie < now && zombie.packed() < now.packed() && zombie.to_string() < now.to_string());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    incarnation: Incarnation,
    epoch: Epoch,
    count: u64,
}

impl Version {
    /// The last start that [`packed`](Self::packed) has room for: number 1,048,575.
    pub const LAST_START: u64 = (1 << START_BITS) - 1;

    /// The most records of one writer and start that [`packed`](Self::packed) has room for: three months of a million a second.
    pub const LAST_COUNT: u64 = (1 << COUNT_BITS) - 1;

    /// That of the record that a writer takes in `epoch`, after `count` others in this start.
    #[must_use]
    pub fn new(incarnation: Incarnation, epoch: Epoch, count: u64) -> Self {
        Self { incarnation, epoch, count }
    }

    /// The start.
    #[must_use]
    pub fn incarnation(self) -> Incarnation {
        self.incarnation
    }

    /// The epoch.
    #[must_use]
    pub fn epoch(self) -> Epoch {
        self.epoch
    }

    /// The records that the writer had taken before, in this start.
    #[must_use]
    pub fn count(self) -> u64 {
        self.count
    }

    /// The version as a number that fits a signed 64-bit number, for services that compare no others: start and count. Those
    /// of one writer are ordered as their versions are; there is no room for the epoch, so all records of a key must come to
    /// one worker. `None` after [`LAST_START`](Self::LAST_START), or [`LAST_COUNT`](Self::LAST_COUNT).
    #[must_use]
    pub fn packed(self) -> Option<u64> {
        let start = self.incarnation.number();
        let fits = start <= Self::LAST_START && self.count <= Self::LAST_COUNT;
        fits.then_some(start << COUNT_BITS | self.count)
    }
}

/// As text that sorts alike, each number in 20 digits: `00000000000000000002-00000000000000000007-00000000000000000005`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}-{:020}-{:020}", self.incarnation.number(), self.epoch.number(), self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(start: u64, epoch: u64, count: u64) -> Version {
        Version::new(Incarnation::new(start), Epoch::new(epoch), count)
    }

    proptest! {
        #[test]
        fn text_is_ordered_alike(one: (u64, u64, u64), other: (u64, u64, u64), same in 0usize..3) {
            // Equal beginnings, or the later numbers would hardly ever decide.
            let other = match same { 0 => other, 1 => (one.0, other.1, other.2), _ => (one.0, one.1, other.2) };
            let [one, other] = [one, other].map(|(start, epoch, count)| version(start, epoch, count));
            prop_assert_eq!(one.to_string().cmp(&other.to_string()), one.cmp(&other));
        }

        /// Of one writer: a later epoch of a start has a greater count.
        #[test]
        fn numbers_of_one_writer_are_ordered_alike(
            one in (0..=Version::LAST_START, 0..=Version::LAST_COUNT),
            other in (0..=Version::LAST_START, 0..=Version::LAST_COUNT),
            epoch in 1u64..1 << 20,
        ) {
            let [one, other] = [one, other].map(|(start, count)| version(start, count / epoch, count));
            prop_assert_eq!(one.packed().cmp(&other.packed()), one.cmp(&other));
            prop_assert!(i64::try_from(one.packed().unwrap()).is_ok());
        }
    }

    #[test]
    fn a_worker_that_takes_over_a_split_writes_later_versions_than_the_one_before() {
        assert!(version(1, 4, 1_000_000) < version(1, 5, 0));
    }

    #[test]
    fn what_does_not_fit_is_told() {
        assert_eq!(version(Version::LAST_START + 1, 1, 0).packed(), None);
        assert_eq!(version(1, 1, Version::LAST_COUNT + 1).packed(), None);
    }
}
