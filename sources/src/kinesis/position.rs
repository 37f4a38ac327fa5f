//! Where a reader stands in a shard, and how that is written down. Pure.

use std::cmp::Ordering;
use std::fmt;

use shardflow::source::Position;

/// The most digits a sequence number may have; Amazon's have 56.
const SEQUENCE_DIGITS: usize = 128;

/// What stands before the time at which a shard was last found read to its end.
const EMPTY: &str = ";empty:";

/// A record of a shard: its sequence number, and where it is a part of an aggregate, its place in that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sequence {
    /// The sequence number: decimal digits.
    pub(crate) number: String,
    /// The sub-sequence number of a record in an aggregate, from 0; `None`: the stream record as a whole.
    pub(crate) sub: Option<u64>,
}

impl Sequence {
    /// The stream record of this number, whole.
    pub(crate) fn of(number: impl Into<String>) -> Self {
        Self { number: number.into(), sub: None }
    }

    /// Reads `4957…` or `4957…:3`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (number, sub) = match text.split_once(':') {
            None => (text, None),
            Some((number, sub)) => (number, Some(sub.parse().ok()?)),
        };
        let is_number = (1..=SEQUENCE_DIGITS).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
        let sequence = is_number.then(|| Self { number: number.to_owned(), sub })?;
        // One way to write each: `+3` and `03` are read as 3 too.
        (sequence.to_string() == text).then_some(sequence)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.number)?;
        self.sub.map_or(Ok(()), |sub| write!(f, ":{sub}"))
    }
}

/// Compares two decimal numbers of any length.
pub(crate) fn compare(left: &str, right: &str) -> Ordering {
    let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

/// A place in a shard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum ShardPosition {
    /// `trim-horizon`: before the oldest record that the stream still keeps.
    #[default]
    TrimHorizon,
    /// `at:<ms>`: before the first record that arrived at or after this time, in milliseconds since 1970.
    Time(u64),
    /// `after:<sequence number>` or `after:<sequence number>:<sub-sequence number>`: after that record. Never *at* it:
    /// that would read it twice.
    After(Sequence),
}

impl ShardPosition {
    /// Reads what [`ShardPosition`] printed; `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text == "trim-horizon" {
            return Some(Self::TrimHorizon);
        }
        if let Some(millis) = text.strip_prefix("at:") {
            return number(millis).map(Self::Time);
        }
        text.strip_prefix("after:").and_then(Sequence::parse).map(Self::After)
    }
}

impl fmt::Display for ShardPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TrimHorizon => f.write_str("trim-horizon"),
            Self::Time(millis) => write!(f, "at:{millis}"),
            Self::After(sequence) => write!(f, "after:{sequence}"),
        }
    }
}

/// What the engine stores of a shard: the place in it, and when it was last found that nothing came after that place.
///
/// The time is what tells a shard that was merely quiet from one whose records expired unread while the job was down. It
/// is renewed every few minutes only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standpoint {
    pub(crate) at: ShardPosition,
    /// In milliseconds since 1970, by this machine's clock.
    pub(crate) empty_at: Option<u64>,
}

impl Standpoint {
    /// A place after which something may lie.
    pub(crate) fn new(at: ShardPosition) -> Self {
        Self { at, empty_at: None }
    }

    /// Reads what [`Standpoint`] printed; `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.split_once(EMPTY) {
            None => ShardPosition::parse(text).map(Self::new),
            Some((at, millis)) => Some(Self { at: ShardPosition::parse(at)?, empty_at: Some(number(millis)?) }),
        }
    }

    /// As the engine stores it.
    pub(crate) fn to_position(&self) -> Position {
        Position::new(self.to_string())
    }
}

impl fmt::Display for Standpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.fmt(f)?;
        self.empty_at.map_or(Ok(()), |millis| write!(f, "{EMPTY}{millis}"))
    }
}

/// A number as it is printed, and no other way to write it.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_standpoint() -> impl Strategy<Value = Standpoint> {
        let at = prop_oneof![
            Just(ShardPosition::TrimHorizon),
            any::<u64>().prop_map(ShardPosition::Time),
            ("[0-9]{1,128}", any::<Option<u64>>())
                .prop_map(|(number, sub)| ShardPosition::After(Sequence { number, sub })),
        ];
        (at, any::<Option<u64>>()).prop_map(|(at, empty_at)| Standpoint { at, empty_at })
    }

    proptest! {
        #[test]
        fn what_was_printed_is_read_back(standpoint in any_standpoint()) {
            prop_assert_eq!(Standpoint::parse(&standpoint.to_string()), Some(standpoint));
        }

        #[test]
        fn what_is_read_prints_the_same(text in "(trim-horizon|at:|after:|latest|[+-])?[0-9a-z:]{0,20}(;empty:)?[0-9+]{0,5}") {
            if let Some(standpoint) = Standpoint::parse(&text) {
                prop_assert_eq!(standpoint.to_string(), text);
            }
        }
    }

    #[test]
    fn nothing_else_is_a_position() {
        for text in [
            "",
            "latest",
            "at:",
            "at:+5",
            "at:05",
            "at:-1",
            "after:",
            "after:12a",
            "after: 1",
            "TRIM_HORIZON",
            "123",
            "after:1:",
            "after:1:01",
            "after:1:+1",
            "after::1",
            "after:1:1:1",
            "at:5;empty:",
            "at:5;empty:05",
            ";empty:5",
            "after:1;empty:1;empty:1",
        ] {
            assert_eq!(Standpoint::parse(text), None, "{text}");
        }
        assert_eq!(ShardPosition::parse(&format!("after:{}", "1".repeat(129))), None);
    }

    #[test]
    fn sequence_numbers_compare_as_numbers() {
        assert_eq!(compare("099", "99"), Ordering::Equal);
        assert_eq!(compare("100", "99"), Ordering::Greater);
        assert_eq!(compare("0", ""), Ordering::Equal);
    }
}
