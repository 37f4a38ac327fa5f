//! Which writes make a lease table say what a job has committed. Pure.
//!
//! The table is a mirror that a fleet of the Kinesis Client Library may take over at any moment, also between two of these
//! writes. What such a fleet does decides their order:
//!
//! * It reads each leased shard on from its checkpoint, and waits for those parents that have a lease and no `SHARD_END`.
//!   So leases of shards that are still to be read come parents first: a child without its parent would go ahead.
//! * It makes the children's leases when it ends a parent itself, and never when it finds `SHARD_END` there already. So that
//!   word is written when those children that are still to be read have leases, and not as long as they are not known.
//! * It does not end a shard that was merged with another one of which there is no lease. So one that ended long ago gets its
//!   lease back while the other is still read.
//! * A shard that has neither a lease nor an ancestor with one begins where the fleet is set to begin, which may be "latest".
//!   So a lease goes only when all its children have been begun, and its own parents' leases are gone.
//!
//! Nothing is moved backwards. Rows of shards that the job does not know stay; only the last rule applies to them.

use std::collections::{BTreeMap, BTreeSet};

use super::checkpoint::Checkpoint;
use super::row::Lease;
use crate::kinesis::committed::{ShardState, States};

/// The rows as last seen.
pub(super) type Rows = BTreeMap<String, Lease>;

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Write {
    /// A lease that is not there yet.
    Create(Lease),
    /// A checkpoint further on.
    Advance {
        key: String,
        to: Checkpoint,
        /// With `SHARD_END` all that follow; else none.
        children: BTreeSet<String>,
    },
    /// A lease that nobody needs any more.
    Delete { key: String },
}

impl Write {
    /// The shard that it is about.
    pub(super) fn key(&self) -> &str {
        match self {
            Self::Create(lease) => &lease.key,
            Self::Advance { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// Writes whose order among themselves does not matter; all those of a stage must be done before the next begins.
pub(super) type Stage = Vec<Write>;

/// The writes that lead from `rows` to `states`, in stages; none where the table says it already.
pub(super) fn plan(states: &States, rows: &Rows) -> Vec<Stage> {
    let job = Job { states, children: children(states) };
    let mut rows = rows.clone();
    let mut stages = Vec::new();
    for generation in generations(states) {
        stages.push(job.missing(&generation, &rows));
        apply(stages.last(), &mut rows);
    }
    stages.push(job.needed_again(&rows));
    apply(stages.last(), &mut rows);
    stages.push(job.advances(&rows));
    apply(stages.last(), &mut rows);
    loop {
        let stage = job.done_with(&rows);
        if stage.is_empty() {
            stages.retain(|stage| !stage.is_empty());
            return stages;
        }
        stages.push(stage);
        apply(stages.last(), &mut rows);
    }
}

/// What the rows are after a stage, as far as planning depends on it.
fn apply(stage: Option<&Stage>, rows: &mut Rows) {
    for write in stage.into_iter().flatten() {
        match write {
            Write::Create(lease) => {
                rows.insert(lease.key.clone(), lease.clone());
            }
            Write::Advance { key, to, children } => {
                if let Some(row) = rows.get_mut(key) {
                    *row = row.advanced(to.clone(), children);
                }
            }
            Write::Delete { key } => {
                rows.remove(key);
            }
        }
    }
}

/// The shards in generations: each after all its parents. Shards that are their own ancestors come last.
fn generations(states: &States) -> Vec<Vec<&str>> {
    let mut left: BTreeSet<&str> = states.keys().map(String::as_str).collect();
    let mut generations = Vec::new();
    while !left.is_empty() {
        let waits = |shard: &str| states.get(shard).is_some_and(|state| is_any_in(&state.parents, &left));
        let mut generation: Vec<&str> = left.iter().copied().filter(|shard| !waits(shard)).collect();
        if generation.is_empty() {
            generation = left.iter().copied().collect();
        }
        for shard in &generation {
            left.remove(shard);
        }
        generations.push(generation);
    }
    generations
}

fn is_any_in(shards: &[String], set: &BTreeSet<&str>) -> bool {
    shards.iter().any(|shard| set.contains(shard.as_str()))
}

/// Each shard's children: those that its end named, and those that name it.
fn children(states: &States) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut children: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (shard, state) in states {
        for parent in state.parents.iter().filter(|parent| *parent != shard) {
            children.entry(parent).or_default().insert(shard);
        }
        for child in state.children.iter().filter(|child| *child != shard) {
            children.entry(shard).or_default().insert(child);
        }
    }
    children
}

struct Job<'a> {
    states: &'a States,
    children: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

impl<'a> Job<'a> {
    /// Leases for shards that are still to be read and have none.
    fn missing(&self, generation: &[&'a str], rows: &Rows) -> Stage {
        let states = generation.iter().filter_map(|shard| Some((*shard, self.states.get(*shard)?)));
        let missing = states.filter(|(shard, state)| !state.ended && !rows.contains_key(*shard));
        missing.map(|(shard, state)| create(shard, state, self.target(shard, state, rows))).collect()
    }

    /// Checkpoints that lie behind what was committed.
    fn advances(&self, rows: &Rows) -> Stage {
        let mut stage = Stage::new();
        for (shard, state) in self.states {
            let Some(row) = rows.get(shard) else { continue };
            let (to, children) = self.target(shard, state, rows);
            if to.is_progress_from(&row.checkpoint) {
                stage.push(Write::Advance { key: shard.clone(), to, children });
            }
        }
        stage
    }

    /// Leases of ended shards that have none and must: their children are not known, or one has another parent that a fleet
    /// would read.
    fn needed_again(&self, rows: &Rows) -> Stage {
        let is_read = |shard: &str| {
            self.states.get(shard).is_some_and(|state| !state.ended)
                || rows.get(shard).is_some_and(|row| row.checkpoint != Checkpoint::ShardEnd)
        };
        let waits = |child: &str| self.parents_of(child).iter().any(|parent| parent != child && is_read(parent));
        let ended = self.states.iter().filter(|(shard, state)| state.ended && !rows.contains_key(*shard));
        let is_needed = |(shard, _): &(&String, &ShardState)| {
            self.all_children(shard, rows).is_none() || self.children_of(shard).any(waits)
        };
        ended.filter(is_needed).map(|(shard, state)| create(shard, state, self.target(shard, state, rows))).collect()
    }

    /// Leases whose shard has ended, whose children have all been begun, and whose parents have none.
    fn done_with(&self, rows: &Rows) -> Stage {
        let has_begun = |child: &str| match rows.get(child) {
            Some(row) => row.checkpoint.has_begun(),
            None => self.states.get(child).is_some_and(|state| state.ended),
        };
        let is_done_with = |(key, row): &(&String, &Lease)| {
            let children: BTreeSet<&str> =
                row.children.iter().map(String::as_str).chain(self.children_of(key)).collect();
            row.checkpoint == Checkpoint::ShardEnd
                && !children.is_empty()
                && children.into_iter().all(has_begun)
                && !row.parents.iter().any(|parent| parent != *key && rows.contains_key(parent))
        };
        rows.iter().filter(is_done_with).map(|(key, _)| Write::Delete { key: key.clone() }).collect()
    }

    /// How far a shard is, in the library's terms, and the children that go with it.
    fn target(&self, shard: &str, state: &ShardState, rows: &Rows) -> (Checkpoint, BTreeSet<String>) {
        match self.all_children(shard, rows).filter(|_| state.ended) {
            Some(children) => (Checkpoint::ShardEnd, children),
            None => (Checkpoint::of(&state.position), BTreeSet::new()),
        }
    }

    /// The children of a shard, if they are sure to be all. They came into being together, so a listing that has one has
    /// them all, and one that is not known (any more) was read to its end and forgotten.
    fn all_children(&self, shard: &str, rows: &Rows) -> Option<BTreeSet<String>> {
        let is_known = |child: &str| self.states.contains_key(child) || rows.contains_key(child);
        let children = || self.children_of(shard);
        children().any(is_known).then(|| children().map(ToOwned::to_owned).collect())
    }

    fn parents_of(&self, shard: &str) -> &'a [String] {
        self.states.get(shard).map(|state| state.parents.as_slice()).unwrap_or_default()
    }

    fn children_of(&self, shard: &str) -> impl Iterator<Item = &'a str> + '_ {
        self.children.get(shard).into_iter().flatten().copied()
    }
}

fn create(shard: &str, state: &ShardState, (checkpoint, children): (Checkpoint, BTreeSet<String>)) -> Write {
    let parents = state.parents.iter().filter(|parent| *parent != shard).cloned().collect();
    let hash_range = state.hash_range;
    Write::Create(Lease { parents, children, hash_range, ..Lease::new(shard, checkpoint) })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
