//! Orders what a job writes under one key. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::vocabulary::Incarnation;

/// Bits of [`Version::packed`] that count records.
const COUNT_BITS: u32 = 43;

/// Bits of [`Version::packed`] that number starts: together they leave the sign of a 64-bit number alone.
const START_BITS: u32 = 20;

/// Which of two writes under one key came later: this start's number, and how many records the writer had taken before. It
/// only grows: a replay writes in a later start, and a process that was taken for dead in an earlier one. So a service that
/// keeps what has the greatest version ends with what the latest start wrote last.
///
/// The records of one key come to one writer where the stream is keyed by it, or by a part of it.
///
/// # Examples
/// ```
/// use shardflow::sink::Version;
/// use shardflow::vocabulary::Incarnation;
/// let (zombie, now) = (Version::new(Incarnation::new(1), 900), Version::new(Incarnation::new(2), 5));
/// assert!(zombie < now && zombie.packed() < now.packed() && zombie.to_string() < now.to_string());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    incarnation: Incarnation,
    count: u64,
}

impl Version {
    /// That of the record that a writer takes after `count` others in this start.
    #[must_use]
    pub fn new(incarnation: Incarnation, count: u64) -> Self {
        Self { incarnation, count }
    }

    /// The start.
    #[must_use]
    pub fn incarnation(self) -> Incarnation {
        self.incarnation
    }

    /// The records that the writer had taken before.
    #[must_use]
    pub fn count(self) -> u64 {
        self.count
    }

    /// The version as a number that is ordered alike and fits a signed 64-bit number; `None` after a million starts, or eight
    /// million million records of one start.
    #[must_use]
    pub fn packed(self) -> Option<u64> {
        let start = self.incarnation.number();
        let fits = start < 1 << START_BITS && self.count < 1 << COUNT_BITS;
        fits.then_some(start << COUNT_BITS | self.count)
    }
}

/// As text that sorts alike: `0000000002-00000000000000000005`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}-{:020}", self.incarnation.number(), self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_version() -> impl Strategy<Value = Version> {
        (0u64..1 << START_BITS, 0u64..1 << COUNT_BITS)
            .prop_map(|(start, count)| Version::new(Incarnation::new(start), count))
    }

    proptest! {
        #[test]
        fn every_form_is_ordered_alike(one in any_version(), other in any_version()) {
            prop_assert_eq!(one.packed().cmp(&other.packed()), one.cmp(&other));
            prop_assert_eq!(one.to_string().cmp(&other.to_string()), one.cmp(&other));
            prop_assert!(i64::try_from(one.packed().unwrap()).is_ok());
        }
    }

    #[test]
    fn what_does_not_fit_is_told() {
        assert_eq!(Version::new(Incarnation::new(1 << START_BITS), 0).packed(), None);
        assert_eq!(Version::new(Incarnation::new(1), 1 << COUNT_BITS).packed(), None);
    }
}
