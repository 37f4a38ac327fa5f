//! Where a reader stands in a shard, and how that is written down. Pure.

use std::fmt;

use shardflow::source::Position;

/// The most digits a sequence number may have; Amazon's have 56.
const SEQUENCE_DIGITS: usize = 128;

/// A place in a shard. Its text is what the engine stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ShardPosition {
    /// `trim-horizon`: before the oldest record that the stream still keeps.
    TrimHorizon,
    /// `at:<ms>`: before the first record that arrived at or after this time, in milliseconds since 1970.
    Time(u64),
    /// `after:<sequence number>`: after that record. Never *at* it: that would read it twice.
    After(String),
}

impl ShardPosition {
    /// Reads what [`ShardPosition`] printed; `None` for anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text == "trim-horizon" {
            return Some(Self::TrimHorizon);
        }
        if let Some(millis) = text.strip_prefix("at:") {
            let time = millis.parse().ok().map(Self::Time)?;
            return (time.to_string() == text).then_some(time);
        }
        let sequence = text.strip_prefix("after:")?;
        let is_number = (1..=SEQUENCE_DIGITS).contains(&sequence.len()) && sequence.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| Self::After(sequence.to_owned()))
    }

    /// As the engine stores it.
    pub(super) fn to_position(&self) -> Position {
        Position::new(self.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_position() -> impl Strategy<Value = ShardPosition> {
        prop_oneof![
            Just(ShardPosition::TrimHorizon),
            any::<u64>().prop_map(ShardPosition::Time),
            "[0-9]{1,128}".prop_map(ShardPosition::After),
        ]
    }

    proptest! {
        #[test]
        fn what_was_printed_is_read_back(position in any_position()) {
            prop_assert_eq!(ShardPosition::parse(&position.to_string()), Some(position));
        }

        #[test]
        fn what_is_read_prints_the_same(text in "(trim-horizon|at:|after:|latest|[+-])?[0-9a-z]{0,30}") {
            if let Some(position) = ShardPosition::parse(&text) {
                prop_assert_eq!(position.to_string(), text);
            }
        }
    }

    #[test]
    fn nothing_else_is_a_position() {
        for text in
            ["", "latest", "at:", "at:+5", "at:05", "at:-1", "after:", "after:12a", "after: 1", "TRIM_HORIZON", "123"]
        {
            assert_eq!(ShardPosition::parse(text), None, "{text}");
        }
        assert_eq!(ShardPosition::parse(&format!("after:{}", "1".repeat(129))), None);
    }
}
