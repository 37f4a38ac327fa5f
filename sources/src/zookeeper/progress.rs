//! What of the job's positions may be written for a spout to resume at. Pure.
//!
//! The spout reads on *after* its checkpoint, and knows whole stream records only. Of a position in the middle of an
//! aggregate the checkpoint is the last stream record before it that is done as a whole, so that a hand-back reads the
//! aggregate again and loses nothing. That record must be one that was seen: a number made up (one less, say)
//! Kinesis may refuse, and a spout tries a refused checkpoint again for ever, in silence.
//!
//! Positions are seen once a commit, so "the last stream record before it" is the last one in which a commit ended: up to
//! a commit's worth of records is read again. Whether a position is that of an aggregate's last record cannot be told from
//! it; it is taken for one in the middle until a later record, or a shard that is read to its end, shows that the aggregate
//! is done.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::nodes::{Checkpoint, list_order};
use crate::kinesis::committed::ShardState;
use crate::kinesis::position::{Sequence, ShardPosition, compare};

/// The shards of the last commit, each with what is done of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    shards: BTreeMap<String, Shard>,
}

#[derive(Debug, Clone, Default)]
struct Shard {
    /// The record of the last position. Without it nobody would know, when the next comes, that it is done as a whole.
    last: Option<Sequence>,
    done: Option<Checkpoint>,
    ended: bool,
}

impl Progress {
    /// Takes in what was committed. Shards that are no longer part of it are forgotten.
    pub(super) fn take_in(&mut self, states: BTreeMap<String, ShardState>) {
        let mut before = std::mem::take(&mut self.shards);
        for (id, state) in states {
            let mut shard = before.remove(&id).unwrap_or_default();
            shard.advance(state);
            self.shards.insert(id, shard);
        }
    }

    /// Whether nothing was committed yet.
    pub(super) fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    /// Whether a shard is part of the last commit.
    pub(super) fn knows(&self, shard: &str) -> bool {
        self.shards.contains_key(shard)
    }

    /// For each shard with a whole record done, the last such record.
    pub(super) fn checkpoints(&self) -> impl Iterator<Item = (&str, &Checkpoint)> {
        self.shards.iter().filter_map(|(id, shard)| Some((id.as_str(), shard.done.as_ref()?)))
    }

    /// The shards that a spout has to read. Not those that were read to their end: once one of them has left the stream, a
    /// spout that has it in its list asks for it for ever. `None` where there are none: a spout with an empty list would
    /// read nothing at all.
    pub(super) fn to_read(&self) -> Option<Vec<String>> {
        let going_on = self.shards.iter().filter(|(_, shard)| !shard.ended);
        let mut ids: Vec<String> = going_on.map(|(id, _)| id.clone()).collect();
        ids.sort_by(|left, right| list_order(left, right));
        (!ids.is_empty()).then_some(ids)
    }
}

impl Shard {
    fn advance(&mut self, state: ShardState) {
        self.ended = state.ended;
        let ShardPosition::After(at) = state.position else { return };
        let whole = if at.sub.is_none() || state.is_read_to_its_end {
            Some(&at.number)
        } else {
            self.last.as_ref().map(|last| &last.number).filter(|last| compare(last, &at.number) == Ordering::Less)
        };
        let done = whole.and_then(|number| Checkpoint::new(number));
        self.done = done.max(self.done.take());
        self.last = Some(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state(position: ShardPosition, ended: bool) -> ShardState {
        ShardState { position, ended, is_read_to_its_end: ended, ..ShardState::default() }
    }

    fn after(number: u64, sub: Option<u64>) -> ShardPosition {
        ShardPosition::After(Sequence { number: number.to_string(), sub })
    }

    fn one(position: ShardPosition, ended: bool) -> BTreeMap<String, ShardState> {
        BTreeMap::from([("a".to_owned(), state(position, ended))])
    }

    fn done(progress: &Progress) -> Option<&str> {
        progress.checkpoints().next().map(|(_, checkpoint)| checkpoint.as_str())
    }

    #[test]
    fn of_a_plain_record_its_own_number_is_written() {
        let mut progress = Progress::default();
        progress.take_in(one(after(100, None), false));
        assert_eq!(done(&progress), Some("100"));
    }

    #[test]
    fn inside_an_aggregate_the_record_before_it_is_written_until_a_later_one_shows_that_it_is_done() {
        let mut progress = Progress::default();
        let mut commit = |number, sub| {
            progress.take_in(one(after(number, sub), false));
            done(&progress).map(ToOwned::to_owned)
        };
        assert_eq!(commit(90, Some(4)), None, "nothing is known to be done as a whole");
        assert_eq!(commit(100, None).as_deref(), Some("100"));
        assert_eq!(commit(1000, Some(0)).as_deref(), Some("100"));
        assert_eq!(commit(1000, Some(7)).as_deref(), Some("100"));
        assert_eq!(commit(1200, Some(0)).as_deref(), Some("1000"));
        assert_eq!(commit(1200, None).as_deref(), Some("1200"));
    }

    #[test]
    fn at_the_end_of_a_shard_its_last_aggregate_is_done_too() {
        let mut progress = Progress::default();
        progress.take_in(one(after(100, Some(3)), true));
        assert_eq!(done(&progress), Some("100"));
    }

    #[test]
    fn a_shard_of_which_nothing_was_read_has_no_checkpoint_but_is_listed() {
        for position in [ShardPosition::TrimHorizon, ShardPosition::Time(5)] {
            let mut progress = Progress::default();
            progress.take_in(one(position, false));
            assert_eq!(done(&progress), None);
            assert_eq!(progress.to_read(), Some(vec!["a".to_owned()]));
        }
    }

    #[test]
    fn ended_shards_are_not_listed_and_an_empty_list_is_none() {
        let mut progress = Progress::default();
        assert_eq!(progress.to_read(), None);
        progress.take_in(one(after(1, None), true));
        assert_eq!(progress.to_read(), None);
        let mut states = one(after(1, None), true);
        states.extend(["shardId-10", "shardId-9"].map(|id| (id.to_owned(), state(ShardPosition::TrimHorizon, false))));
        progress.take_in(states);
        assert_eq!(progress.to_read().unwrap(), ["shardId-9", "shardId-10"]);
        progress.take_in(one(after(2, None), false));
        assert_eq!(progress.to_read().unwrap(), ["a"]);
    }

    proptest! {
        /// A shard of plain records and aggregates is worked off; commits fall anywhere. What a spout that resumes after
        /// the checkpoint skips was all committed, and every checkpoint is the number of a record.
        #[test]
        fn a_spout_that_resumes_after_the_checkpoint_misses_nothing(
            sizes in proptest::collection::vec(0u64..4, 1..30),
            committed in proptest::collection::vec(any::<bool>(), 120),
        ) {
            // A size of 0 is a plain record; record i has the number 10 * (i + 1).
            let number = |index: usize| 10 * (index as u64 + 1);
            let places = sizes.iter().enumerate().flat_map(|(index, size)| {
                let subs: Vec<Option<u64>> = if *size == 0 { vec![None] } else { (0..*size).map(Some).collect() };
                subs.into_iter().map(move |sub| (index, sub))
            });
            let mut progress = Progress::default();
            let mut before: Option<u64> = None;
            for ((index, sub), _) in places.zip(committed).filter(|(_, committed)| *committed) {
                progress.take_in(one(after(number(index), sub), false));
                let checkpoint = done(&progress).map(|text| text.parse::<u64>().unwrap());
                let whole = if sub.is_none() { number(index) } else { number(index) - 10 };
                prop_assert!(checkpoint.is_none_or(|checkpoint| checkpoint <= whole && checkpoint % 10 == 0));
                prop_assert!(checkpoint >= before, "never backwards");
                before = checkpoint;
            }
        }
    }
}
