//! What the job has committed of each shard, for those who mirror it to where other programs look.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shardflow::source::{KnownSplits, SplitRecord, SplitStatus};
use shardflow::vocabulary::SplitId;

use super::lineage::Shard;
use super::position::{ShardPosition, Standpoint};

/// What a job has committed of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Default))]
pub(crate) struct ShardState {
    /// Where it goes on.
    pub(crate) position: ShardPosition,
    /// Whether it was read to its end.
    pub(crate) ended: bool,
    /// Whether nothing came after the position, when it was last looked: so an aggregate that it is in was read whole.
    pub(crate) is_read_to_its_end: bool,
    /// The shards it came from, as far as they are known.
    pub(crate) parents: Vec<String>,
    /// Its first and last hash key.
    pub(crate) hash_range: Option<(u128, u128)>,
    /// The shards that follow, as far as they are known.
    pub(crate) children: Vec<String>,
}

/// The committed shards by their names.
pub(crate) type States = BTreeMap<String, ShardState>;

/// The hash keys of the shards that were listed. Shared between who lists them and who tells of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct HashRanges(Arc<Mutex<BTreeMap<String, (u128, u128)>>>);

impl HashRanges {
    /// Takes in a listing. What is no longer listed is kept: the job may still know it.
    pub(crate) fn listed(&self, shards: &[Shard]) {
        let ranges = shards.iter().filter_map(|shard| Some((shard.id.clone(), shard.hash_range?)));
        self.lock().extend(ranges);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (u128, u128)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The committed records of all splits.
#[derive(Debug)]
pub(crate) struct Committed {
    records: KnownSplits,
    ranges: HashRanges,
}

impl Committed {
    /// Begins with what the last start has committed.
    pub(crate) fn new(known: KnownSplits, ranges: HashRanges) -> Self {
        Self { records: known, ranges }
    }

    /// Takes in what was committed.
    pub(crate) fn change(&mut self, changes: &[(SplitId, Option<SplitRecord>)]) {
        for (split, record) in changes {
            match record {
                Some(record) => _ = self.records.insert(split.clone(), record.clone()),
                None => _ = self.records.remove(split),
            }
        }
    }

    /// All shards as they are committed.
    pub(crate) fn states(&self) -> States {
        let ranges = self.ranges.lock();
        let mut states: States = self
            .records
            .iter()
            .map(|(split, record)| {
                let standpoint = Standpoint::parse(record.position.as_str());
                let standpoint = standpoint.unwrap_or(Standpoint::new(ShardPosition::TrimHorizon));
                let ended = record.status == SplitStatus::Ended;
                let state = ShardState {
                    position: standpoint.at,
                    ended,
                    is_read_to_its_end: ended || standpoint.empty_at.is_some(),
                    parents: record.parents.iter().map(ToString::to_string).collect(),
                    hash_range: ranges.get(split.as_str()).copied(),
                    children: Vec::new(),
                };
                (split.to_string(), state)
            })
            .collect();
        drop(ranges);
        for (split, record) in &self.records {
            for parent in record.parents.iter().filter(|parent| *parent != split) {
                if let Some(parent) = states.get_mut(parent.as_str()) {
                    parent.children.push(split.to_string());
                }
            }
        }
        states
    }
}

#[cfg(test)]
mod tests {
    use shardflow::source::Position;

    use super::*;

    fn record(parents: &[&str], position: &str, status: SplitStatus) -> SplitRecord {
        SplitRecord { parents: parents.iter().map(SplitId::new).collect(), position: Position::new(position), status }
    }

    #[test]
    fn states_follow_what_is_committed_with_children_and_hash_keys() {
        let ranges = HashRanges::default();
        let known = KnownSplits::from([("a".into(), record(&[], "at:5", SplitStatus::Reading))]);
        let mut committed = Committed::new(known, ranges.clone());
        ranges.listed(&[Shard { id: "a".to_owned(), parents: Vec::new(), hash_range: Some((0, 9)) }]);
        assert_eq!(committed.states()["a"].position, ShardPosition::Time(5));
        committed.change(&[
            ("a".into(), Some(record(&[], "after:7:2;empty:9", SplitStatus::Ended))),
            ("b".into(), Some(record(&["a", "gone"], "trim-horizon", SplitStatus::Waiting))),
        ]);
        let states = committed.states();
        assert_eq!((states["a"].ended, states["a"].hash_range), (true, Some((0, 9))));
        assert_eq!(states["a"].position.to_string(), "after:7:2");
        assert_eq!(
            (states["a"].children.clone(), states["b"].parents.clone()),
            (vec!["b".into()], vec!["a".into(), "gone".into()])
        );
        committed.change(&[("a".into(), None)]);
        assert_eq!(committed.states().keys().collect::<Vec<_>>(), ["b"]);
    }
}
