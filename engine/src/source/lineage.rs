//! Which splits may be opened: a child never before its parents have ended.
//!
//! What enters is what the last committed epoch knows, what the enumerator finds and which splits end. What leaves is
//! splits to open, each with the epoch that it must come after. What survives a crash is [`KnownSplits`], which the
//! engine stores epoch by epoch; restoring it at any point leads to the same splits being read, in the same order of
//! generations.
//!
//! Why an *epoch* after: operators work in epoch order, so when a child begins in a later epoch than the one in which its
//! parents ended, all records of the parents go before all of the child's, key by key, although other workers may read
//! them.

use std::collections::{BTreeMap, BTreeSet};

use super::{KnownSplits, Position, Split, SplitRecord, SplitStatus};
use crate::vocabulary::{Epoch, SplitId};

/// A split that may be opened now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// Which one.
    pub split: SplitId,
    /// Those of its parents that are known: their watermarks are held until this split holds its own.
    pub parents: Vec<SplitId>,
    /// Where to open it.
    pub position: Position,
    /// The epoch in which the last of its parents ended in this run: the split's records must be in a later one. `None`
    /// where the parents' end was committed by an earlier run, or where there are none.
    pub after: Option<Epoch>,
}

#[derive(Debug)]
struct Entry {
    record: SplitRecord,
    /// When it ended in this run. A restored end is committed, so nothing needs to come after it.
    ended_in: Option<Epoch>,
    /// Whether this run has given it to be opened. Without it, a restored split that is being read could not be told
    /// from one that this run has opened.
    given: bool,
    /// In how many listings in a row it was missing.
    missed: u32,
}

/// An ended split that is no longer remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// Which one.
    pub split: SplitId,
    /// The epoch in which it ended in this run, and which stored that: what removes it must come in a later one. `None`
    /// where an earlier run has committed its end.
    pub ended_in: Option<Epoch>,
}

/// In how many listings in a row, an interval apart, an ended split must be missing before it is forgotten. One listing may
/// lag or be answered by a server that is behind; and what is forgotten and then listed again is read again as a whole.
pub const FORGET_AFTER: u32 = 10;

/// Decides which splits of one source may be opened. One a source; it must see all of the source's splits.
///
/// # Examples
/// ```
/// use shardflow::source::{Lineage, Position, Split};
/// use shardflow::vocabulary::{Epoch, SplitId};
/// let split = |id: &str, parents: &[&str]| {
///     Split::new(id, parents.iter().map(|&id| id.into()).collect(), Position::new("start"))
/// };
/// let mut lineage = Lineage::restore(Default::default());
/// lineage.discovered(&[split("parent", &[]), split("child", &["parent"])]);
/// assert_eq!(lineage.take_adoptable()[0].split, "parent".into());
/// assert!(lineage.take_adoptable().is_empty());
///
/// lineage.ended(&"parent".into(), Epoch::new(7));
/// let child = &lineage.take_adoptable()[0];
/// assert_eq!((child.split.as_str(), child.after), ("child", Some(Epoch::new(7))));
/// ```
#[derive(Debug)]
pub struct Lineage {
    splits: BTreeMap<SplitId, Entry>,
    /// Whether something has changed that may have made a split adoptable. Asked at every listing and every end.
    changed: bool,
}

impl Lineage {
    /// The lineage as the last committed epoch knows it; empty at a first start.
    #[must_use]
    pub fn restore(known: KnownSplits) -> Self {
        let entry = |record| Entry { record, ended_in: None, given: false, missed: 0 };
        Self { splits: known.into_iter().map(|(id, record)| (id, entry(record))).collect(), changed: true }
    }

    /// Takes in what the enumerator found, or what the end of a split named. Gives the splits that are new, in their order,
    /// to be stored as they are.
    ///
    /// A parent that is neither known nor among `found` has left the source's memory and is not waited for. So a source
    /// must list a parent that it still has no later than its children.
    pub fn discovered(&mut self, found: &[Split]) -> Vec<(SplitId, SplitRecord)> {
        let mut new = Vec::new();
        for split in found {
            if self.splits.contains_key(&split.id) {
                continue;
            }
            let record = split.record();
            let entry = Entry { record: record.clone(), ended_in: None, given: false, missed: 0 };
            self.splits.insert(split.id.clone(), entry);
            new.push((split.id.clone(), record));
        }
        self.changed |= !new.is_empty();
        new
    }

    /// Notes that a split was read to its end, its last record in `epoch`. A split that is not known is ignored.
    pub fn ended(&mut self, split: &SplitId, epoch: Epoch) {
        if let Some(entry) = self.splits.get_mut(split) {
            entry.record.status = SplitStatus::Ended;
            entry.ended_in = Some(epoch);
            self.changed = true;
        }
    }

    /// The splits that may be opened now and have not been given yet, which are being read from here on: first those that
    /// were being read when the last run stopped, at their stored positions, then those whose known parents have all
    /// ended. Each in the order of their names.
    pub fn take_adoptable(&mut self) -> Vec<Adoption> {
        if !std::mem::take(&mut self.changed) {
            return Vec::new();
        }
        let (mut resumed, mut begun) = (Vec::new(), Vec::new());
        for (id, entry) in &self.splits {
            match entry.record.status {
                SplitStatus::Reading if !entry.given => resumed.push(self.adoption(id, &entry.record)),
                SplitStatus::Waiting if self.parents(id, &entry.record).all(|(_, parent)| parent.has_ended()) => {
                    begun.push(self.adoption(id, &entry.record));
                }
                _ => {}
            }
        }
        resumed.append(&mut begun);
        for adoption in &resumed {
            if let Some(entry) = self.splits.get_mut(&adoption.split) {
                entry.record.status = SplitStatus::Reading;
                entry.given = true;
            }
        }
        resumed
    }

    fn adoption(&self, id: &SplitId, record: &SplitRecord) -> Adoption {
        Adoption {
            split: id.clone(),
            parents: self.parents(id, record).map(|(id, _)| id.clone()).collect(),
            position: record.position.clone(),
            after: self.parents(id, record).filter_map(|(_, parent)| parent.ended_in).max(),
        }
    }

    /// The parents that are known. A split that names itself is not its own parent: it would wait for ever.
    fn parents<'a>(
        &'a self,
        id: &'a SplitId,
        record: &'a SplitRecord,
    ) -> impl Iterator<Item = (&'a SplitId, &'a Entry)> {
        record.parents.iter().filter(move |parent| *parent != id).filter_map(|parent| self.splits.get_key_value(parent))
    }

    /// Whether every known split was read to its end. True of none at all.
    #[must_use]
    pub fn all_ended(&self) -> bool {
        self.splits.values().all(Entry::has_ended)
    }

    /// Takes in `listed`, all that the source lists now, and counts which splits are missing. To be called with listings
    /// that are the source's interval apart: many within a moment would not tell more than one.
    pub fn missing_from(&mut self, listed: &BTreeSet<SplitId>) {
        for (id, entry) in &mut self.splits {
            entry.missed = if listed.contains(id) { 0 } else { entry.missed.saturating_add(1) };
        }
    }

    /// Ended splits that may be forgotten: the last [`FORGET_AFTER`] listings did not have them, and no split that has not
    /// ended names them as its parent: until it has a watermark of its own, theirs is where it begins. Without this the
    /// snapshot would grow with every reshard for ever.
    ///
    /// They stay until [`Lineage::forget`] is called, together with their removal from the snapshot. A source that lists
    /// a forgotten split again has it read again, from its start.
    #[must_use]
    pub fn forgettable(&self) -> Vec<SplitId> {
        let going_on = self.splits.values().filter(|entry| !entry.has_ended());
        let needed: BTreeSet<&SplitId> = going_on.flat_map(|entry| &entry.record.parents).collect();
        let gone =
            |id: &SplitId, entry: &Entry| entry.has_ended() && entry.missed >= FORGET_AFTER && !needed.contains(id);
        self.splits.iter().filter(|(id, entry)| gone(id, entry)).map(|(id, _)| id.clone()).collect()
    }

    /// Whether a split was ever found, and not forgotten.
    #[must_use]
    pub fn knows(&self, split: &SplitId) -> bool {
        self.splits.contains_key(split)
    }

    /// The parents that some waiting split names.
    #[must_use]
    pub fn awaited(&self) -> BTreeSet<SplitId> {
        let waiting = self.splits.values().filter(|entry| entry.record.status == SplitStatus::Waiting);
        waiting.flat_map(|entry| entry.record.parents.iter().cloned()).collect()
    }

    /// Forgets splits that [`Lineage::forgettable`] gave. Those that have not ended stay.
    pub fn forget(&mut self, splits: Vec<SplitId>) -> Vec<Forgotten> {
        let mut forgotten = Vec::with_capacity(splits.len());
        for split in splits {
            if self.splits.get(&split).is_some_and(Entry::has_ended)
                && let Some(entry) = self.splits.remove(&split)
            {
                forgotten.push(Forgotten { split, ended_in: entry.ended_in });
            }
        }
        forgotten
    }

    /// Splits that can never be opened, because following their parents leads back to themselves or to such a split. A
    /// source that lists them is broken; to wait for them would be to wait for ever.
    #[must_use]
    pub fn circular(&self) -> Vec<SplitId> {
        let mut stuck: BTreeSet<&SplitId> =
            self.splits.iter().filter(|(_, e)| e.is_waiting()).map(|(id, _)| id).collect();
        loop {
            let blocked = |id: &SplitId| {
                self.splits
                    .get(id)
                    .is_some_and(|entry| self.parents(id, &entry.record).any(|(parent, _)| stuck.contains(parent)))
            };
            let still: BTreeSet<&SplitId> = stuck.iter().copied().filter(|id| blocked(id)).collect();
            if still.len() == stuck.len() {
                return still.into_iter().cloned().collect();
            }
            stuck = still;
        }
    }
}

impl Entry {
    fn has_ended(&self) -> bool {
        self.record.status == SplitStatus::Ended
    }

    fn is_waiting(&self) -> bool {
        self.record.status == SplitStatus::Waiting
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(id: &str, parents: &[&str]) -> Split {
        let parents = parents.iter().map(|&id| id.into()).collect();
        Split::new(id, parents, Position::new(format!("start of {id}")))
    }

    fn names(adoptions: &[Adoption]) -> Vec<&str> {
        adoptions.iter().map(|adoption| adoption.split.as_str()).collect()
    }

    #[test]
    fn a_merged_child_waits_for_both_parents_and_comes_after_the_later_end() {
        let mut lineage = Lineage::restore(KnownSplits::new());
        lineage.discovered(&[split("c", &["a", "b"]), split("a", &[]), split("b", &[])]);
        assert_eq!(names(&lineage.take_adoptable()), ["a", "b"]);
        lineage.ended(&"b".into(), Epoch::new(9));
        assert!(lineage.take_adoptable().is_empty());
        lineage.ended(&"a".into(), Epoch::new(4));
        let child = lineage.take_adoptable().remove(0);
        assert_eq!(child.after, Some(Epoch::new(9)));
        assert_eq!(child.parents, ["a".into(), "b".into()]);
        assert_eq!(child.position, Position::new("start of c"));
    }

    #[test]
    fn a_parent_that_the_source_no_longer_has_is_not_waited_for() {
        let mut lineage = Lineage::restore(KnownSplits::new());
        lineage.discovered(&[split("child", &["expired"])]);
        let child = lineage.take_adoptable().remove(0);
        assert_eq!((child.parents, child.after), (vec![], None));
    }

    #[test]
    fn after_a_restart_reading_splits_come_first_and_committed_ends_need_no_epoch() {
        let record = |status, position: &str, parents: &[&str]| SplitRecord {
            parents: parents.iter().map(|&id| id.into()).collect(),
            position: Position::new(position),
            status,
        };
        let known = KnownSplits::from([
            ("a".into(), record(SplitStatus::Ended, "end", &[])),
            ("b".into(), record(SplitStatus::Waiting, "start", &["a"])),
            ("c".into(), record(SplitStatus::Reading, "17", &[])),
            ("d".into(), record(SplitStatus::Waiting, "start", &["c"])),
        ]);
        let mut lineage = Lineage::restore(known);
        assert!(lineage.discovered(&[split("a", &[]), split("c", &[])]).is_empty(), "known ones are not new");
        let adoptions = lineage.take_adoptable();
        assert_eq!(names(&adoptions), ["c", "b"]);
        assert_eq!(adoptions[0].position, Position::new("17"));
        assert_eq!(adoptions[1].after, None);
        assert!(lineage.take_adoptable().is_empty(), "each is given once");
    }

    fn list(lineage: &mut Lineage, times: u32, listed: &[&str]) -> Vec<SplitId> {
        let listed = listed.iter().map(|&id| id.into()).collect();
        (0..times).for_each(|_| lineage.missing_from(&listed));
        lineage.forgettable()
    }

    #[test]
    fn an_ended_split_is_forgotten_only_when_unlisted_and_no_child_goes_on() {
        let mut lineage = Lineage::restore(KnownSplits::new());
        lineage.discovered(&[split("a", &[]), split("b", &[]), split("child", &["a", "b"])]);
        lineage.take_adoptable();
        lineage.ended(&"a".into(), Epoch::new(1));
        assert!(list(&mut lineage, FORGET_AFTER, &[]).is_empty(), "its child waits");
        lineage.ended(&"b".into(), Epoch::new(2));
        lineage.take_adoptable();
        assert!(list(&mut lineage, FORGET_AFTER, &[]).is_empty(), "its child may have no watermark of its own");
        lineage.ended(&"child".into(), Epoch::new(3));
        assert_eq!(list(&mut lineage, FORGET_AFTER, &["a", "child"]), ["b".into()]);
        let forgotten = lineage.forget(vec!["b".into()]);
        assert_eq!(forgotten, [Forgotten { split: "b".into(), ended_in: Some(Epoch::new(2)) }]);
        assert_eq!(list(&mut lineage, FORGET_AFTER, &[]), ["a".into(), "child".into()]);
    }

    #[test]
    fn a_listing_that_omits_a_split_for_a_while_does_not_have_it_forgotten() {
        let mut lineage = Lineage::restore(KnownSplits::new());
        lineage.discovered(&[split("a", &[]), split("b", &[])]);
        lineage.take_adoptable();
        lineage.ended(&"a".into(), Epoch::new(1));
        assert!(list(&mut lineage, FORGET_AFTER - 1, &["b"]).is_empty());
        assert!(list(&mut lineage, 1, &["a", "b"]).is_empty());
        assert!(list(&mut lineage, FORGET_AFTER - 1, &["b"]).is_empty());
        assert!(lineage.discovered(&[split("a", &[])]).is_empty(), "it is still known, and not read again");
        assert_eq!(list(&mut lineage, 1, &["b"]), ["a".into()]);
        assert!(lineage.forget(vec!["b".into()]).is_empty(), "what is being read is not forgotten");
    }

    #[test]
    fn splits_that_wait_for_each_other_are_found() {
        let mut lineage = Lineage::restore(KnownSplits::new());
        lineage.discovered(&[split("a", &["b"]), split("b", &["a"]), split("c", &["b"]), split("d", &["d"])]);
        lineage.discovered(&[split("e", &["d"])]);
        assert_eq!(lineage.circular(), ["a".into(), "b".into(), "c".into()]);
        assert_eq!(names(&lineage.take_adoptable()), ["d"]);
    }

    #[test]
    fn an_end_of_an_unknown_split_changes_nothing() {
        let mut lineage = Lineage::restore(KnownSplits::new());
        lineage.ended(&"ghost".into(), Epoch::new(1));
        assert!(lineage.all_ended() && lineage.take_adoptable().is_empty());
    }

    /// A source whose splits have parents among the earlier ones, and an engine that reads them, commits and crashes.
    struct World {
        splits: Vec<Split>,
        listed: usize,
        lineage: Lineage,
        stored: KnownSplits,
        committed: KnownSplits,
        open: BTreeSet<SplitId>,
        ended_now: BTreeMap<SplitId, Epoch>,
        epoch: Epoch,
    }

    #[derive(Debug, Clone)]
    enum Step {
        List,
        Adopt,
        End(prop::sample::Index),
        Commit,
        Crash,
    }

    impl World {
        fn new(parents: &[(Vec<prop::sample::Index>, bool)]) -> Self {
            let name = |n: usize| format!("{n:03}");
            let split = |n: usize, (chosen, expired): &(Vec<prop::sample::Index>, bool)| {
                let known = chosen.iter().filter(|_| n > 0).map(|index| name(index.index(n)));
                let all: Vec<String> = known.chain(expired.then(|| "expired".into())).collect();
                self::split(&name(n), &all.iter().map(String::as_str).collect::<Vec<_>>())
            };
            Self {
                splits: parents.iter().enumerate().map(|(n, chosen)| split(n, chosen)).collect(),
                listed: 0,
                lineage: Lineage::restore(KnownSplits::new()),
                stored: KnownSplits::new(),
                committed: KnownSplits::new(),
                open: BTreeSet::new(),
                ended_now: BTreeMap::new(),
                epoch: Epoch::new(1),
            }
        }

        fn act(&mut self, step: &Step) {
            match step {
                Step::List => {
                    self.listed = (self.listed + 2).min(self.splits.len());
                    // Listed in reverse: the order of a listing must not matter.
                    let listing: Vec<Split> = self.splits[..self.listed].iter().rev().cloned().collect();
                    self.stored.extend(self.lineage.discovered(&listing));
                }
                Step::Adopt => {
                    let adoptions = self.lineage.take_adoptable();
                    adoptions.into_iter().for_each(|adoption| self.adopt(adoption));
                }
                Step::End(index) => {
                    if let Some(id) = self.open.iter().nth(index.index(self.open.len().max(1))).cloned() {
                        self.open.remove(&id);
                        self.stored.get_mut(&id).unwrap().status = SplitStatus::Ended;
                        self.ended_now.insert(id.clone(), self.epoch);
                        self.lineage.ended(&id, self.epoch);
                    }
                }
                Step::Commit => {
                    self.epoch = self.epoch.next();
                    self.committed.clone_from(&self.stored);
                }
                Step::Crash => {
                    self.stored.clone_from(&self.committed);
                    self.lineage = Lineage::restore(self.stored.clone());
                    self.open.clear();
                    self.ended_now.clear();
                }
            }
        }

        fn adopt(&mut self, adoption: Adoption) {
            let record = self.stored[&adoption.split].clone();
            assert_ne!(record.status, SplitStatus::Ended, "an ended split is never opened again");
            assert_eq!(adoption.position, record.position);
            let known: Vec<SplitId> =
                record.parents.iter().filter(|id| self.stored.contains_key(id)).cloned().collect();
            assert!(known.iter().all(|id| self.stored[id].status == SplitStatus::Ended), "no child before its parents");
            assert_eq!(adoption.after, known.iter().filter_map(|id| self.ended_now.get(id)).max().copied());
            assert_eq!(adoption.parents, known);
            assert!(self.open.insert(adoption.split.clone()), "each split is given once");
            let record = self.stored.get_mut(&adoption.split).unwrap();
            (record.status, record.position) = (SplitStatus::Reading, Position::new("somewhere"));
        }
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => Just(Step::List),
            4 => Just(Step::Adopt),
            4 => any::<prop::sample::Index>().prop_map(Step::End),
            2 => Just(Step::Commit),
            1 => Just(Step::Crash),
        ];
        prop::collection::vec(step, 0..80)
    }

    proptest! {
        #[test]
        fn every_split_is_read_to_its_end_after_its_parents_whatever_crashes(
            parents in prop::collection::vec((prop::collection::vec(any::<prop::sample::Index>(), 0..3), any::<bool>()), 1..20),
            steps in steps(),
            any_open: prop::sample::Index,
        ) {
            let mut world = World::new(&parents);
            steps.iter().for_each(|step| world.act(step));
            for _ in 0..2 * world.splits.len() {
                [Step::List, Step::Adopt, Step::End(any_open), Step::Commit].iter().for_each(|step| world.act(step));
            }
            prop_assert_eq!(world.stored.len(), world.splits.len());
            prop_assert!(world.lineage.all_ended() && world.lineage.circular().is_empty());
            prop_assert!(world.stored.values().all(|record| record.status == SplitStatus::Ended));
            prop_assert_eq!(list(&mut world.lineage, FORGET_AFTER, &[]).len(), world.splits.len());
        }
    }
}
