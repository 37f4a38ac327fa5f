//! Where to start each shard, given the nodes that a topology left behind. Pure.
//!
//! * A shard with a checkpoint goes on after it, as in the spout.
//! * A shard of the shard list without one starts where the user says, as the spout starts it at its initial position: it
//!   was assigned, and no record of it was ever acknowledged.
//! * A shard that is not in the list came into being by a reshard after the topology was last activated. The spout leaves
//!   it alone until `storm rebalance`, and then starts it at its initial position, which by default is the latest record:
//!   what lies in it is lost. Here it starts at the trim horizon, after its parents.
//! * No list: the spout has deleted it when it was deactivated (it does since 1.1.1) and would list all shards anew. The
//!   descendants of shards that it knew start at the trim horizon; others where the user says.
//! * A shard with a descendant that the spout knew is older than that, so it did not come after the list: where the user
//!   says.

use std::collections::{BTreeMap, BTreeSet};

use super::nodes::Checkpoint;
use crate::kinesis::position::{Sequence, ShardPosition};

/// The shards that the stream lists, each with its parents.
pub(crate) type Lineages = BTreeMap<String, Vec<String>>;

/// What a topology left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TakenOver {
    /// The shards of the list; `None` where there is no list.
    pub(super) list: Option<BTreeSet<String>>,
    /// The shards with a state node; `None` where it has no checkpoint.
    pub(super) states: BTreeMap<String, Option<Checkpoint>>,
}

impl TakenOver {
    /// Where to start each shard that the stream lists. `start` is what the user says.
    pub(crate) fn starts(&self, stream: &Lineages, start: &ShardPosition) -> BTreeMap<String, ShardPosition> {
        let known = self.known();
        let older = ancestors(known.iter().copied(), stream);
        let place = |id: &str| {
            if let Some(Some(checkpoint)) = self.states.get(id) {
                return ShardPosition::After(Sequence { number: checkpoint.as_str().to_owned(), sub: None });
            }
            let came_later =
                self.list.is_some() || ancestors([id], stream).iter().any(|ancestor| known.contains(ancestor));
            if known.contains(id) || older.contains(id) || !came_later {
                return start.clone();
            }
            ShardPosition::TrimHorizon
        };
        stream.keys().map(|id| (id.clone(), place(id))).collect()
    }

    /// The shards that the spout was reading and that the stream no longer lists: what was unread in them has expired. A state
    /// node alone says little, since the spout never deletes one; it counts where there is no list.
    pub(crate) fn gone(&self, stream: &Lineages) -> Vec<String> {
        let read = self.list.as_ref().map_or_else(|| self.known(), |list| list.iter().map(String::as_str).collect());
        read.into_iter().filter(|id| !stream.contains_key(*id)).map(ToOwned::to_owned).collect()
    }

    fn known(&self) -> BTreeSet<&str> {
        self.list.iter().flatten().chain(self.states.keys()).map(String::as_str).collect()
    }
}

/// All that some of the shards descend from, as far as the stream still knows.
fn ancestors<'a>(ids: impl IntoIterator<Item = &'a str>, stream: &'a Lineages) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = ids.into_iter().collect();
    while let Some(id) = open.pop() {
        for parent in stream.get(id).into_iter().flatten() {
            if found.insert(parent.as_str()) {
                open.push(parent);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: ShardPosition = ShardPosition::Time(7);

    fn stream(shards: &[(&str, &[&str])]) -> Lineages {
        shards
            .iter()
            .map(|(id, parents)| ((*id).to_owned(), parents.iter().map(ToString::to_string).collect()))
            .collect()
    }

    fn taken(list: Option<&[&str]>, states: &[(&str, &str)]) -> TakenOver {
        let list = list.map(|list| list.iter().map(ToString::to_string).collect());
        TakenOver { list, states: states.iter().map(|(id, at)| ((*id).to_owned(), Checkpoint::new(at))).collect() }
    }

    fn starts(taken: &TakenOver, stream: &Lineages) -> Vec<String> {
        taken.starts(stream, &START).iter().map(|(id, position)| format!("{id} {position}")).collect()
    }

    #[test]
    fn a_checkpoint_is_gone_on_after_and_a_listed_shard_without_one_starts_where_the_user_says() {
        let taken = taken(Some(&["a", "b", "c"]), &[("a", "42"), ("c", "")]);
        let stream = stream(&[("a", &[]), ("b", &[]), ("c", &[])]);
        assert_eq!(starts(&taken, &stream), ["a after:42", "b at:7", "c at:7"]);
    }

    #[test]
    fn shards_that_came_after_the_list_start_at_the_trim_horizon() {
        let taken = taken(Some(&["a", "b"]), &[("a", "42")]);
        let stream =
            stream(&[("a", &[]), ("b", &[]), ("a1", &["a"]), ("b1", &["b"]), ("a2", &["a1"]), ("orphan", &["x"])]);
        let expected =
            ["a after:42", "a1 trim-horizon", "a2 trim-horizon", "b at:7", "b1 trim-horizon", "orphan trim-horizon"];
        assert_eq!(starts(&taken, &stream), expected);
    }

    #[test]
    fn without_a_list_the_descendants_of_known_shards_start_at_the_trim_horizon() {
        let taken = taken(None, &[("a", "42"), ("expired", "5")]);
        let stream = stream(&[("a", &[]), ("a1", &["a"]), ("b", &[]), ("b1", &["b"]), ("e", &["expired"])]);
        let expected = ["a after:42", "a1 trim-horizon", "b at:7", "b1 at:7", "e trim-horizon"];
        assert_eq!(starts(&taken, &stream), expected);
        assert_eq!(taken.gone(&stream), ["expired"]);
    }

    #[test]
    fn a_state_node_of_a_shard_that_has_left_the_list_is_of_no_account() {
        let taken = taken(Some(&["child", "expired"]), &[("parent", "5"), ("child", "42")]);
        assert_eq!(taken.gone(&stream(&[("child", &[])])), ["expired"], "the parent was read to its end long ago");
    }

    #[test]
    fn a_shard_that_is_older_than_a_known_one_did_not_come_after_the_list() {
        let taken = taken(Some(&["child"]), &[("child", "42")]);
        let stream = stream(&[("parent", &[]), ("child", &["parent"])]);
        assert_eq!(starts(&taken, &stream), ["child after:42", "parent at:7"]);
    }

    #[test]
    fn shards_that_name_themselves_or_each_other_as_parents_do_no_harm() {
        let taken = taken(None, &[]);
        assert_eq!(starts(&taken, &stream(&[("a", &["a", "b"]), ("b", &["a"])])), ["a at:7", "b at:7"]);
    }

    proptest! {
        /// The topology knew the first shards of a stream that was split again and again. No shard that it did not know
        /// skips a record, and no position of its own is lost.
        #[test]
        fn no_shard_that_is_new_to_the_spout_skips_a_record(
            parents in proptest::collection::vec(any::<proptest::sample::Index>(), 1..20),
            known in 1usize..20,
            read in proptest::collection::vec(any::<bool>(), 20),
        ) {
            let name = |index: usize| format!("shardId-{index:012}");
            let mut stream = Lineages::from([(name(0), Vec::new())]);
            for (index, parent) in parents.iter().enumerate() {
                stream.insert(name(index + 1), vec![name(parent.index(index + 1))]);
            }
            let list: BTreeSet<String> = stream.keys().take(known).cloned().collect();
            let read = list.iter().zip(read).filter(|(_, read)| *read);
            let states = read.map(|(id, _)| (id.clone(), Checkpoint::new("42"))).collect();
            let taken = TakenOver { list: Some(list.clone()), states };
            for (id, position) in taken.starts(&stream, &START) {
                let expected = match (taken.states.contains_key(&id), list.contains(&id)) {
                    (true, _) => "after:42",
                    (false, true) => "at:7",
                    (false, false) => "trim-horizon",
                };
                prop_assert_eq!(position.to_string(), expected);
            }
        }
    }
}
