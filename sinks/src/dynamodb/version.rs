//! What tells which of two states of one item is the later. Pure.
//!
//! # How it is stored
//! A version of one number is stored as a number (N), so that anything that reads the table can compare it. One of several
//! numbers does not fit into the 38 digits of an N, so it is a string (S): each number in 20 decimal digits, with `-` between
//! them, `00000000000000000012-00000000000000000345`. DynamoDB compares strings by their bytes, and so these compare as the
//! numbers do, from the first to the last. Versions of different length do not compare: an item whose version is of another
//! kind than the record's is not written, and the record is refused.

use aws_sdk_dynamodb::types::AttributeValue;
use shardflow::Epoch;
use shardflow::sink::Version;
use shardflow::vocabulary::Incarnation;

/// Decimal digits of a number among several: those of the greatest `u64`.
const WIDTH: usize = 20;

/// Which of two states of one item is the later: one number, or several of which the first counts most.
///
/// # Examples
/// ```
/// use shardflow_sinks::dynamodb::ItemVersion;
/// assert!(ItemVersion::from((7, 0)) > ItemVersion::from((6, 99)));
/// assert_eq!(ItemVersion::from(7u64).to_string(), "7");
/// assert_eq!(ItemVersion::from((12, 345)).to_string(), "00000000000000000012-00000000000000000345");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemVersion(Vec<u64>);

impl ItemVersion {
    /// The same, behind the number of a start: later starts come after all earlier ones.
    pub(super) fn of_start(mut self, start: Incarnation) -> Self {
        self.0.insert(0, start.number());
        self
    }

    /// As it is stored.
    pub(super) fn stored(&self) -> AttributeValue {
        match self.0.as_slice() {
            [_] => AttributeValue::N(self.to_string()),
            _ => AttributeValue::S(self.to_string()),
        }
    }

    /// Reads what is stored; `None` where no version was stored there.
    fn read(value: &AttributeValue) -> Option<Self> {
        match value {
            AttributeValue::N(number) => Some(Self(vec![number.parse().ok()?])),
            AttributeValue::S(text) => {
                let number = |part: &str| (part.len() == WIDTH).then(|| part.parse().ok()).flatten();
                let numbers: Vec<u64> = text.split('-').map(number).collect::<Option<_>>()?;
                (numbers.len() > 1).then_some(Self(numbers))
            }
            _ => None,
        }
    }

    /// How what is stored stands to this version.
    pub(super) fn against(&self, stored: &AttributeValue) -> Stored {
        match Self::read(stored) {
            Some(other) if other.0.len() == self.0.len() => match other.cmp(self) {
                std::cmp::Ordering::Less => Stored::Earlier,
                std::cmp::Ordering::Equal => Stored::Same,
                std::cmp::Ordering::Greater => Stored::Later,
            },
            _ => Stored::OfAnotherKind,
        }
    }
}

/// How a stored version stands to a record's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    Earlier,
    Same,
    Later,
    /// It is no version, or one of another length.
    OfAnotherKind,
}

impl std::fmt::Display for ItemVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let [number] = self.0.as_slice() {
            return number.fmt(f);
        }
        for (at, number) in self.0.iter().enumerate() {
            let dash = if at == 0 { "" } else { "-" };
            write!(f, "{dash}{number:0WIDTH$}")?;
        }
        Ok(())
    }
}

/// The engine's: the start, the epoch, and the records that its writer had taken before.
impl From<Version> for ItemVersion {
    fn from(version: Version) -> Self {
        (version.incarnation(), version.epoch(), version.count()).into()
    }
}

impl From<u64> for ItemVersion {
    fn from(number: u64) -> Self {
        Self(vec![number])
    }
}

impl From<u32> for ItemVersion {
    fn from(number: u32) -> Self {
        u64::from(number).into()
    }
}

impl From<(u64, u64)> for ItemVersion {
    fn from((first, second): (u64, u64)) -> Self {
        Self(vec![first, second])
    }
}

impl From<(u64, u64, u64)> for ItemVersion {
    fn from((first, second, third): (u64, u64, u64)) -> Self {
        Self(vec![first, second, third])
    }
}

impl From<(Incarnation, Epoch)> for ItemVersion {
    fn from((start, epoch): (Incarnation, Epoch)) -> Self {
        (start.number(), epoch.number()).into()
    }
}

impl From<(Incarnation, Epoch, u64)> for ItemVersion {
    fn from((start, epoch, revision): (Incarnation, Epoch, u64)) -> Self {
        (start.number(), epoch.number(), revision).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(version: &ItemVersion) -> String {
        match version.stored() {
            AttributeValue::S(text) | AttributeValue::N(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_stored_by_others_is_of_another_kind() {
        let one = ItemVersion::from(7u64);
        let s = |text: &str| AttributeValue::S(text.to_owned());
        let n = |text: &str| AttributeValue::N(text.to_owned());
        for stored in [
            n("7.5"),
            n("-1"),
            n("18446744073709551616"),
            s("7"),
            s("00000000000000000007"),
            s(""),
            AttributeValue::Bool(true),
        ] {
            assert_eq!(one.against(&stored), Stored::OfAnotherKind, "{stored:?}");
        }
        assert_eq!(one.against(&ItemVersion::from((7, 0)).stored()), Stored::OfAnotherKind);
        assert_eq!(ItemVersion::from((7, 0)).against(&one.stored()), Stored::OfAnotherKind);
        assert_eq!(ItemVersion::from((7, 0)).against(&ItemVersion::from((7, 0, 0)).stored()), Stored::OfAnotherKind);
    }

    proptest! {
        #[test]
        fn what_is_stored_compares_as_the_versions_do(a: (u64, u64, u64), b: (u64, u64, u64), same in 0usize..3) {
            // Equal beginnings, or the later numbers would hardly ever decide.
            let b = match same { 0 => b, 1 => (a.0, b.1, b.2), _ => (a.0, a.1, b.2) };
            let (a, b) = (ItemVersion::from(a), ItemVersion::from(b));
            prop_assert_eq!(text(&a).cmp(&text(&b)), a.cmp(&b));
            prop_assert_eq!(ItemVersion::read(&a.stored()), Some(a.clone()));
            let expected = match b.cmp(&a) {
                std::cmp::Ordering::Less => Stored::Earlier,
                std::cmp::Ordering::Equal => Stored::Same,
                std::cmp::Ordering::Greater => Stored::Later,
            };
            prop_assert_eq!(a.against(&b.stored()), expected);
        }

        #[test]
        fn a_later_start_comes_after_all_of_an_earlier_one(a: u64, b: u64, start in 0u64..u64::MAX) {
            let earlier = ItemVersion::from(a).of_start(Incarnation::new(start));
            let later = ItemVersion::from(b).of_start(Incarnation::new(start + 1));
            prop_assert!(later > earlier && text(&later) > text(&earlier));
        }

        #[test]
        fn one_number_is_stored_as_a_number(a: u64) {
            prop_assert_eq!(ItemVersion::from(a).stored(), AttributeValue::N(a.to_string()));
            prop_assert_eq!(ItemVersion::read(&ItemVersion::from(a).stored()), Some(ItemVersion::from(a)));
        }
    }
}
