//! The shards that a stream lists, open and closed, and the tree that splits and merges make of them.

use std::collections::{HashMap, HashSet};

use aws_sdk_kinesis::types;
use shardflow::Result;
use shardflow_aws::failure::{Failure, Remedy};

use super::{HashRange, Stream};

/// A shard as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Its id.
    pub id: String,
    /// The shards it came from: none, one after a split, two after a merge. They may have expired.
    pub parents: Vec<String>,
    /// The hash keys it takes, or took.
    pub range: HashRange,
    /// The sequence number that its first record has at least.
    pub first_sequence: String,
    /// The sequence number that its last record has at most; `None` while it is open.
    pub last_sequence: Option<String>,
}

impl Shard {
    /// Whether it takes records.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.last_sequence.is_none()
    }

    fn of(shard: &types::Shard) -> Result<Self, Failure> {
        let id = shard.shard_id();
        let no =
            |what: &str| Failure { remedy: Remedy::None, text: format!("the listing gives no {what} of \"{id}\"") };
        let range = shard.hash_key_range().ok_or_else(|| no("hash key range"))?;
        let numbers = shard.sequence_number_range().ok_or_else(|| no("sequence numbers"))?;
        let mut parents = Vec::new();
        for parent in [shard.parent_shard_id(), shard.adjacent_parent_shard_id()].into_iter().flatten() {
            if parent != id && !parents.iter().any(|known| known == parent) {
                parents.push(parent.to_owned());
            }
        }
        Ok(Self {
            id: id.to_owned(),
            parents,
            range: HashRange::parse(range.starting_hash_key(), range.ending_hash_key())
                .ok_or_else(|| no("hash key range that can be read"))?,
            first_sequence: numbers.starting_sequence_number().to_owned(),
            last_sequence: numbers.ending_sequence_number().map(ToOwned::to_owned),
        })
    }
}

impl Stream {
    /// All shards that the stream lists, in the order of their ids.
    ///
    /// # Errors
    /// The service refuses, or the failure lasts.
    pub async fn shards(&self) -> Result<Vec<Shard>> {
        self.call("list the shards of", || self.listed()).await
    }

    async fn listed(&self) -> Result<Vec<Shard>, Failure> {
        let mut shards = Vec::new();
        let mut token = None;
        loop {
            // A token stands for the stream, and naming the stream beside it is an error; its ARN is not.
            let name = token.is_none().then(|| self.name().to_owned());
            let call = self.sdk().list_shards().set_stream_name(name).set_next_token(token);
            let answer = call.set_stream_arn(self.given_arn()).send().await;
            let answer = answer.map_err(|error| Failure::of(&error))?;
            for shard in answer.shards() {
                shards.push(Shard::of(shard)?);
            }
            token = answer.next_token().map(ToOwned::to_owned);
            if token.is_none() {
                shards.sort_by(|left, right| left.id.cmp(&right.id));
                return Ok(shards);
            }
        }
    }
}

/// One line of the tree: a shard, and the branch that leads to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaf<'a> {
    pub(super) shard: &'a Shard,
    /// `│  ├─ ` and the like; empty at a root.
    pub(super) branch: String,
    /// It has stood above already, under its other parent; so has what is below it.
    pub(super) again: bool,
}

/// The shards as a tree, parents before children, lower hash keys first. A shard that two were merged into stands under
/// both, its children under the first only. A shard whose parents are not listed is a root.
pub(super) fn tree(shards: &[Shard]) -> Vec<Leaf<'_>> {
    let mut shards: Vec<&Shard> = shards.iter().collect();
    shards.sort_by(|left, right| (left.range.start(), &left.id).cmp(&(right.range.start(), &right.id)));
    let listed: HashSet<&str> = shards.iter().map(|shard| shard.id.as_str()).collect();
    let mut children: HashMap<&str, Vec<&Shard>> = HashMap::new();
    let mut roots = Vec::new();
    for shard in &shards {
        let parents = shard.parents.iter().filter(|parent| listed.contains(parent.as_str()));
        let parents: Vec<&String> = parents.collect();
        if parents.is_empty() {
            roots.push(*shard);
        }
        for parent in parents {
            children.entry(parent.as_str()).or_default().push(shard);
        }
    }
    let mut walk = Walk { children, shown: HashSet::new(), leaves: Vec::new() };
    for root in roots {
        walk.down_from(root);
    }
    // A listing in which shards are one another's ancestors cannot be; should it come, nothing of it is hidden.
    for shard in shards {
        if !walk.shown.contains(shard.id.as_str()) {
            walk.down_from(shard);
        }
    }
    walk.leaves
}

struct Walk<'a> {
    children: HashMap<&'a str, Vec<&'a Shard>>,
    shown: HashSet<&'a str>,
    leaves: Vec<Leaf<'a>>,
}

impl<'a> Walk<'a> {
    /// By a stack of its own: a lineage may be deeper than the thread's.
    fn down_from(&mut self, root: &'a Shard) {
        let mut open = vec![(root, String::new(), String::new())];
        while let Some((shard, branch, below)) = open.pop() {
            let again = !self.shown.insert(shard.id.as_str());
            self.leaves.push(Leaf { shard, branch, again });
            let children = self.children.get(shard.id.as_str()).filter(|_| !again);
            // The last child goes onto the stack first, and has nothing beside it on the way down.
            for (place, child) in children.into_iter().flatten().rev().enumerate() {
                let (turn, pass) = if place == 0 { ("└─ ", "   ") } else { ("├─ ", "│  ") };
                open.push((child, format!("{below}{turn}"), format!("{below}{pass}")));
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::stream) fn shard(id: &str, parents: &[&str], start: u128, end: u128, open: bool) -> Shard {
        Shard {
            id: id.to_owned(),
            parents: parents.iter().map(ToString::to_string).collect(),
            range: HashRange::new(start, end).unwrap(),
            first_sequence: "1".to_owned(),
            last_sequence: (!open).then(|| "2".to_owned()),
        }
    }

    fn drawn(shards: &[Shard]) -> Vec<String> {
        let line = |leaf: &Leaf<'_>| format!("{}{}{}", leaf.branch, leaf.shard.id, if leaf.again { " ^" } else { "" });
        tree(shards).iter().map(line).collect()
    }

    #[test]
    fn merged_shards_stand_under_both_parents_and_their_children_under_the_first() {
        let shards = [
            shard("a", &["expired"], 0, 99, false),
            shard("b", &[], 100, 199, false),
            shard("c", &["a"], 0, 49, true),
            shard("d", &["a"], 50, 99, false),
            shard("e", &["d", "b"], 50, 199, false),
            shard("f", &["e"], 50, 120, true),
            shard("g", &["e"], 121, 199, true),
        ];
        let expected = ["a", "├─ c", "└─ d", "   └─ e", "      ├─ f", "      └─ g", "b", "└─ e ^"];
        assert_eq!(drawn(&shards), expected);
    }

    #[test]
    fn shards_that_are_one_anothers_parents_are_shown_nevertheless() {
        let shards = [shard("a", &["b"], 0, 9, true), shard("b", &["a"], 10, 19, true)];
        assert_eq!(drawn(&shards), ["a", "└─ b", "   └─ a ^"]);
    }

    proptest! {
        #[test]
        fn every_shard_is_shown_once_however_it_is_related(links in proptest::collection::vec((0usize..20, 0usize..20), 0..40)) {
            let mut shards: Vec<_> = (0..20u128).map(|n| shard(&format!("{n:02}"), &[], n, n, true)).collect();
            for (child, parent) in links {
                let parent = format!("{parent:02}");
                if shards[child].id != parent && shards[child].parents.len() < 2 {
                    shards[child].parents.push(parent);
                }
            }
            let mut once: Vec<_> = tree(&shards).iter().filter(|leaf| !leaf.again).map(|leaf| leaf.shard.id.clone()).collect();
            once.sort();
            prop_assert_eq!(once, shards.iter().map(|shard| shard.id.clone()).collect::<Vec<_>>());
        }
    }
}
