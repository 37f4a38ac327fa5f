//! How far a shard was processed, as the Kinesis Client Library writes it down, and which of two is further. Pure.

use std::cmp::Ordering;
use std::fmt;

use crate::kinesis::position::{Sequence, ShardPosition};

/// A checkpoint. All but [`Checkpoint::After`] are words in place of a sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Checkpoint {
    /// Nothing was processed: begin where the fleet is set to begin, a time that the table does not hold.
    AtTimestamp,
    /// Nothing was processed: begin at the oldest record that is still kept.
    TrimHorizon,
    /// Nothing was processed: begin with what arrives next.
    Latest,
    /// The record of this number was processed; of an aggregate its user records up to `sub`, counted from 0. A plain
    /// record has `sub` 0.
    After {
        /// The sequence number, decimal.
        number: String,
        /// The sub-sequence number.
        sub: u64,
    },
    /// All records were processed, and the shard is closed.
    ShardEnd,
}

impl Checkpoint {
    /// Reads the attributes `checkpoint` and `checkpointSubSequenceNumber`; `None` where the first is neither a number nor
    /// one of the words.
    pub(crate) fn parse(text: &str, sub: u64) -> Option<Self> {
        match text {
            "AT_TIMESTAMP" => Some(Self::AtTimestamp),
            "TRIM_HORIZON" => Some(Self::TrimHorizon),
            "LATEST" => Some(Self::Latest),
            "SHARD_END" => Some(Self::ShardEnd),
            number => {
                let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
                is_number.then(|| Self::After { number: number.to_owned(), sub })
            }
        }
    }

    /// What the attribute `checkpoint` holds.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::AtTimestamp => "AT_TIMESTAMP",
            Self::TrimHorizon => "TRIM_HORIZON",
            Self::Latest => "LATEST",
            Self::After { number, .. } => number,
            Self::ShardEnd => "SHARD_END",
        }
    }

    /// What the attribute `checkpointSubSequenceNumber` holds.
    pub(crate) fn sub(&self) -> u64 {
        if let Self::After { sub, .. } = self { *sub } else { 0 }
    }

    /// What to write for a job that stands at `position`.
    ///
    /// A job that has read nothing of a shard and began at a time gives `TRIM_HORIZON`: a fleet would understand
    /// `AT_TIMESTAMP` as the time in its own settings, if it has one, and might skip records. It reads some again instead.
    pub(crate) fn of(position: &ShardPosition) -> Self {
        match position {
            ShardPosition::TrimHorizon | ShardPosition::Time(_) => Self::TrimHorizon,
            ShardPosition::After(Sequence { number, sub }) => {
                Self::After { number: number.clone(), sub: sub.unwrap_or(0) }
            }
        }
    }

    /// Whether records of the shard have been processed. The library keeps a parent's lease as long as this is false of a
    /// child.
    pub(crate) fn has_begun(&self) -> bool {
        matches!(self, Self::After { .. } | Self::ShardEnd)
    }

    /// Whether writing `self` where `current` stands moves the shard on, or at least makes sure that nothing is skipped.
    ///
    /// `LATEST` and `AT_TIMESTAMP` are wishes and no places. Taken up later they would skip what came since the job began,
    /// so anything that a job says replaces them.
    pub(crate) fn is_progress_from(&self, current: &Self) -> bool {
        match (current, self) {
            (Self::Latest | Self::AtTimestamp, Self::TrimHorizon) => true,
            (Self::After { number, sub }, Self::After { number: next, sub: next_sub }) => {
                compare(next, number).then(next_sub.cmp(sub)) == Ordering::Greater
            }
            (current, next) => next.rank() > current.rank(),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::AtTimestamp | Self::TrimHorizon | Self::Latest => 0,
            Self::After { .. } => 1,
            Self::ShardEnd => 2,
        }
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After { number, sub } => write!(f, "{number}/{sub}"),
            word => f.write_str(word.text()),
        }
    }
}

/// Compares two decimal numbers of any length.
fn compare(left: &str, right: &str) -> Ordering {
    let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(number: &str, sub: u64) -> Checkpoint {
        Checkpoint::After { number: number.to_owned(), sub }
    }

    fn parse(text: &str) -> Checkpoint {
        Checkpoint::parse(text, 0).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        for word in ["AT_TIMESTAMP", "TRIM_HORIZON", "LATEST", "SHARD_END"] {
            assert_eq!(parse(word).text(), word);
            assert_eq!(parse(word).sub(), 0);
        }
        let number = "49590338271490256608559692538361571095921575989136588898";
        assert_eq!(Checkpoint::parse(number, 7), Some(after(number, 7)));
        for bad in ["", "latest", "12a", "-1", "after:5", "TRIM_HORIZON "] {
            assert_eq!(Checkpoint::parse(bad, 0), None, "{bad}");
        }
    }

    #[test]
    fn positions_become_checkpoints_that_skip_nothing() {
        let sequence = |sub| ShardPosition::After(Sequence { number: "42".to_owned(), sub });
        assert_eq!(Checkpoint::of(&sequence(None)), after("42", 0));
        assert_eq!(Checkpoint::of(&sequence(Some(3))), after("42", 3));
        assert_eq!(Checkpoint::of(&ShardPosition::TrimHorizon), Checkpoint::TrimHorizon);
        assert_eq!(Checkpoint::of(&ShardPosition::Time(5)), Checkpoint::TrimHorizon);
    }

    #[test]
    fn nothing_is_moved_backwards() {
        let ascending = [parse("TRIM_HORIZON"), after("9", 0), after("9", 4), after("10", 0), parse("SHARD_END")];
        for (low, lower) in ascending.iter().enumerate() {
            for (high, higher) in ascending.iter().enumerate() {
                assert_eq!(higher.is_progress_from(lower), high > low, "{lower} -> {higher}");
            }
        }
    }

    #[test]
    fn wishes_are_replaced_by_places_and_never_written_over_them() {
        for wish in [Checkpoint::Latest, Checkpoint::AtTimestamp] {
            assert!(Checkpoint::TrimHorizon.is_progress_from(&wish));
            assert!(after("0", 0).is_progress_from(&wish));
            assert!(!wish.is_progress_from(&Checkpoint::TrimHorizon));
            assert!(!wish.is_progress_from(&after("0", 0)));
            assert!(!wish.has_begun());
        }
    }
}
