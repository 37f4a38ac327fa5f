//! Which splits a listing of shards means: where each starts and whose end it waits for. Pure.
//!
//! A shard that is split or merged is closed, and its children take over its keys. So that the records of a key stay in
//! order the parents are read to their end first; the engine sees to that, given the parents.
//!
//! * Shards of the first listing at a job's first start begin where the job's start says.
//! * Every other shard begins at the trim horizon, whatever the job's start position is: it came into being while the
//!   job ran or was stopped, so all that it holds is new.
//! * A parent that was never listed has expired, with all its records: nobody waits for it.
//! * A child that the end of its parent names is known from then on, whether a listing has it yet or not.

use std::collections::BTreeSet;

use shardflow::source::{KnownSplits, Split};
use shardflow::vocabulary::SplitId;

use super::position::{ShardPosition, Standpoint};
use super::start::{Begin, FirstStart};

/// A shard as it is listed, or as the end of its parent names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(crate) id: String,
    /// The shards it came from: none, one after a split, two after a merge.
    pub(crate) parents: Vec<String>,
    /// Its hash keys, both ends included.
    pub(crate) hash_range: Option<(u128, u128)>,
}

/// What is known of a stream's shards from start to now.
#[derive(Debug)]
pub(crate) struct Lineage {
    /// Where shards of the next listing begin; after the first listing always the trim horizon.
    start: FirstStart,
    /// Every shard that the engine knows: from the last commit or from an earlier listing.
    seen: BTreeSet<SplitId>,
}

impl Lineage {
    /// `start` is where the job begins, which counts only at its first start.
    pub(crate) fn new(known: &KnownSplits, first_start: bool, start: FirstStart) -> Self {
        let start = if first_start { start } else { FirstStart::later() };
        Self { start, seen: known.keys().cloned().collect() }
    }

    /// Shards that the job's start names, that are not listed any more and were not read to their end.
    pub(crate) fn expired(&self, listed: &[Shard]) -> Vec<String> {
        self.start.expired(listed).into_iter().map(ToOwned::to_owned).collect()
    }

    /// The splits of a complete listing. Those that the engine knows already are among them; it ignores them.
    pub(crate) fn splits(&mut self, listed: &[Shard]) -> Vec<Split> {
        let mut begins = std::mem::replace(&mut self.start, FirstStart::later()).of(listed);
        self.seen.extend(listed.iter().map(|shard| SplitId::new(&shard.id)));
        let split = |shard: &Shard| {
            let begin = begins.remove(&shard.id).unwrap_or(Begin::At(ShardPosition::TrimHorizon));
            let (at, ended) = match begin {
                Begin::At(at) => (at, false),
                Begin::Ended => (ShardPosition::TrimHorizon, true),
            };
            let start = Standpoint::new(at).to_position();
            Split { ended, ..Split::new(SplitId::new(&shard.id), self.parents(shard), start) }
        };
        listed.iter().map(split).collect()
    }

    /// The parents that have not expired unseen, each once.
    fn parents(&self, shard: &Shard) -> Vec<SplitId> {
        let mut parents = Vec::with_capacity(shard.parents.len());
        for parent in shard.parents.iter().filter(|parent| **parent != shard.id).map(SplitId::new) {
            if self.seen.contains(&parent) && !parents.contains(&parent) {
                parents.push(parent);
            }
        }
        parents
    }
}

/// The splits that the end of the shard `ended` names. All their parents count, whether they are known or not, and that shard is
/// one of them, whether it is named among them or not.
pub(crate) fn children(ended: &str, named: &[Shard]) -> Vec<Split> {
    let start = Standpoint::new(ShardPosition::TrimHorizon).to_position();
    let others = named.iter().filter(|child| child.id != ended);
    let split = |child: &Shard| {
        let mut parents: Vec<SplitId> =
            child.parents.iter().filter(|parent| **parent != child.id).map(SplitId::new).collect();
        if parents.iter().all(|parent| parent.as_str() != ended) {
            parents.push(SplitId::new(ended));
        }
        Split::new(SplitId::new(&child.id), parents, start.clone())
    };
    others.map(split).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinesis::start::Start;
    use proptest::prelude::*;
    use shardflow::source::{Position, SplitRecord, SplitStatus};
    use std::collections::BTreeMap;

    /// A start at a time.
    fn at() -> FirstStart {
        let time = jiff::Timestamp::from_millisecond(10_000_000).unwrap();
        Start::At(time).concrete(time, std::time::Duration::from_secs(3_600)).unwrap()
    }

    fn shard(id: &str, parents: &[&str]) -> Shard {
        let parents = parents.iter().map(ToString::to_string).collect();
        Shard { id: id.to_owned(), parents, hash_range: None }
    }

    fn record(parents: Vec<SplitId>, status: SplitStatus) -> SplitRecord {
        SplitRecord { parents, position: Position::new("after:1"), status }
    }

    fn starts(splits: &[Split]) -> Vec<(&str, &str)> {
        splits.iter().map(|split| (split.id.as_str(), split.start.as_str())).collect()
    }

    #[test]
    fn shards_of_the_first_listing_get_the_jobs_start_and_later_ones_begin_at_the_trim_horizon() {
        let mut lineage = Lineage::new(&KnownSplits::new(), true, at());
        let (a, b) = (shard("a", &[]), shard("b", &[]));
        assert_eq!(starts(&lineage.splits(&[a.clone(), b.clone()])), [("a", "at:10000000"), ("b", "at:10000000")]);
        let children = [a, b, shard("c", &["a"]), shard("d", &["a"])];
        let splits = lineage.splits(&children);
        assert_eq!(starts(&splits)[2..], [("c", "trim-horizon"), ("d", "trim-horizon")]);
        assert_eq!(splits[2].parents, [SplitId::new("a")]);
    }

    #[test]
    fn a_later_start_reads_shards_that_are_new_to_it_from_their_beginning() {
        let known = KnownSplits::from([(SplitId::new("a"), record(vec![], SplitStatus::Reading))]);
        let mut lineage = Lineage::new(&known, false, at());
        let splits = lineage.splits(&[shard("a", &[]), shard("b", &["a"])]);
        assert_eq!(starts(&splits)[1], ("b", "trim-horizon"));
    }

    #[test]
    fn expired_parents_are_dropped_unless_the_engine_knows_them() {
        let known = KnownSplits::from([(SplitId::new("ended"), record(vec![], SplitStatus::Ended))]);
        let mut lineage = Lineage::new(&known, false, at());
        let splits = lineage.splits(&[shard("c", &["expired", "ended"]), shard("d", &["expired"])]);
        assert_eq!(splits[0].parents, [SplitId::new("ended")]);
        assert!(splits[1].parents.is_empty());
    }

    #[test]
    fn a_parent_that_expires_while_the_job_runs_is_still_waited_for() {
        let mut lineage = Lineage::new(&KnownSplits::new(), true, at());
        lineage.splits(&[shard("a", &[])]);
        assert_eq!(lineage.splits(&[shard("b", &["a"])])[0].parents, [SplitId::new("a")]);
    }

    #[test]
    fn a_child_that_an_end_names_has_that_shard_as_its_parent_whatever_it_says_itself() {
        let named = [shard("x", &[]), shard("y", &["other", "ended"]), shard("ended", &[])];
        let parents: Vec<_> = children("ended", &named).into_iter().map(|split| split.parents).collect();
        assert_eq!(parents, [vec![SplitId::new("ended")], vec![SplitId::new("other"), SplitId::new("ended")]]);
    }

    #[test]
    fn parents_named_twice_or_naming_themselves_count_once_or_not_at_all() {
        let mut lineage = Lineage::new(&KnownSplits::new(), true, at());
        let splits = lineage.splits(&[shard("a", &["a"]), shard("b", &["a", "a"])]);
        assert!(splits[0].parents.is_empty());
        assert_eq!(splits[1].parents, [SplitId::new("a")]);
    }

    /// What happens to a stream and its job, in random order.
    #[derive(Debug, Clone)]
    enum Event {
        Split(usize),
        Merge(usize, usize),
        /// The oldest closed shard's records expire, and it is listed no more.
        Expire,
        List,
        /// A reader reaches the end of its closed shard.
        End(usize),
        /// The job stops and starts again from its last commit, which is up to date.
        Restart,
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            3 => any::<usize>().prop_map(Event::Split),
            3 => any::<(usize, usize)>().prop_map(|(a, b)| Event::Merge(a, b)),
            1 => Just(Event::Expire),
            4 => Just(Event::List),
            6 => any::<usize>().prop_map(Event::End),
            1 => Just(Event::Restart),
        ]
    }

    /// A stream, and an engine that keeps to the port: opens a split when all its parents have ended.
    struct World {
        shards: Vec<Shard>,
        open: Vec<String>,
        expired: BTreeSet<String>,
        known: KnownSplits,
        lineage: Lineage,
        opened: BTreeMap<String, usize>,
        listings: usize,
    }

    impl World {
        fn new() -> Self {
            let shards: Vec<Shard> = (0..3).map(|id| shard(&id.to_string(), &[])).collect();
            let open = shards.iter().map(|shard| shard.id.clone()).collect();
            let lineage = Lineage::new(&KnownSplits::new(), true, at());
            let (expired, opened) = (BTreeSet::new(), BTreeMap::new());
            Self { shards, open, expired, known: KnownSplits::new(), lineage, opened, listings: 0 }
        }

        fn reshard(&mut self, parents: Vec<String>, children: usize) {
            self.open.retain(|id| !parents.contains(id));
            for _ in 0..children {
                let id = self.shards.len().to_string();
                self.shards.push(Shard { id: id.clone(), parents: parents.clone(), hash_range: None });
                self.open.push(id);
            }
        }

        fn list(&mut self) {
            let listed: Vec<Shard> =
                self.shards.iter().filter(|shard| !self.expired.contains(&shard.id)).cloned().collect();
            for split in self.lineage.splits(&listed) {
                if self.known.contains_key(&split.id) {
                    continue;
                }
                let expected = if self.listings == 0 { "at:10000000" } else { "trim-horizon" };
                assert_eq!(split.start.as_str(), expected, "{}", split.id);
                for parent in &split.parents {
                    let is_listed = listed.iter().any(|shard| shard.id == parent.as_str());
                    assert!(is_listed || self.known.contains_key(parent), "{} waits for an unknown {parent}", split.id);
                }
                self.known.insert(split.id.clone(), record(split.parents, SplitStatus::Waiting));
            }
            self.listings += 1;
            self.adopt();
        }

        /// Opens what waits no longer; checks that no parent that the engine knows is still being read.
        fn adopt(&mut self) {
            let ended = |known: &KnownSplits, id: &SplitId| known[id].status == SplitStatus::Ended;
            let ready: Vec<SplitId> = self
                .known
                .iter()
                .filter(|(_, split)| split.status == SplitStatus::Waiting)
                .filter(|(_, split)| split.parents.iter().all(|parent| ended(&self.known, parent)))
                .map(|(id, _)| id.clone())
                .collect();
            for id in ready {
                let shard = self.shards.iter().find(|shard| shard.id == id.as_str()).unwrap();
                for parent in shard.parents.iter().map(SplitId::new) {
                    assert!(!self.known.contains_key(&parent) || ended(&self.known, &parent), "{id} before {parent}");
                }
                *self.opened.entry(id.to_string()).or_default() += 1;
                self.known.get_mut(&id).unwrap().status = SplitStatus::Reading;
            }
        }

        fn end(&mut self, pick: usize) {
            let closed: Vec<SplitId> = self
                .known
                .iter()
                .filter(|(id, split)| split.status == SplitStatus::Reading && !self.open.contains(&id.to_string()))
                .map(|(id, _)| id.clone())
                .collect();
            if let Some(id) = closed.get(pick % closed.len().max(1)) {
                self.known.get_mut(id).unwrap().status = SplitStatus::Ended;
                self.adopt();
            }
        }

        fn happen(&mut self, event: &Event) {
            match event {
                Event::Split(pick) => {
                    let parent = self.open[pick % self.open.len()].clone();
                    self.reshard(vec![parent], 2);
                }
                Event::Merge(a, b) => {
                    let (a, b) = (self.open[a % self.open.len()].clone(), self.open[b % self.open.len()].clone());
                    if a != b {
                        self.reshard(vec![a, b], 1);
                    }
                }
                Event::Expire => {
                    let oldest =
                        self.shards.iter().find(|s| !self.open.contains(&s.id) && !self.expired.contains(&s.id));
                    self.expired.extend(oldest.map(|shard| shard.id.clone()));
                }
                Event::List => self.list(),
                Event::End(pick) => self.end(*pick),
                Event::Restart => {
                    let first_start = self.listings == 0;
                    self.lineage = Lineage::new(&self.known, first_start, at());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn every_listed_shard_is_read_once_and_after_its_parents(events in proptest::collection::vec(any_event(), 0..120)) {
            let mut world = World::new();
            for event in &events {
                world.happen(event);
            }
            // Whatever happened, in the end everything that is still there is read.
            for _ in 0..world.shards.len() + 1 {
                world.list();
                for _ in 0..world.shards.len() {
                    world.end(0);
                }
            }
            for shard in &world.shards {
                let expected = usize::from(world.known.contains_key(&SplitId::new(&shard.id)));
                prop_assert_eq!(world.opened.get(&shard.id).copied().unwrap_or(0), expected, "{:?}", shard);
                prop_assert!(expected == 1 || world.expired.contains(&shard.id), "{:?} was never listed", shard);
            }
        }
    }
}
