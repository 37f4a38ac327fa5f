//! How far event time has come over all splits of a source, on all workers of a process.

use std::collections::HashMap;

use crate::vocabulary::{EventTime, SplitId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// Being read: holds time back at its watermark.
    Active,
    /// Nothing to read for a while: holds nothing back.
    Idle,
    /// All its records are in. Holds time back until it is retired, so that its children can start where it stopped.
    Ended,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    watermark: EventTime,
    hold: Hold,
}

/// Says how far event time has come: the least watermark that any split holds.
///
/// Every worker holds its output at this one value and not at the least of its own splits, so that any worker can take
/// over any split (a child shard, an idle split that wakes) without time having passed it by there.
#[derive(Debug, Default)]
pub struct WatermarkBoard {
    splits: HashMap<SplitId, Entry>,
    /// Watermarks of splits that hold nothing: those of the last committed epoch, until they are opened again, and the
    /// last ones of retired splits.
    past: HashMap<SplitId, EventTime>,
    /// Whether the first listing is complete. Before that any split may still turn up.
    ready: bool,
    reached: EventTime,
    /// What `reached` was when the workers were last told.
    told: EventTime,
}

impl WatermarkBoard {
    /// A board that knows the watermarks of the last committed epoch.
    #[must_use]
    pub fn restore(past: HashMap<SplitId, EventTime>) -> Self {
        Self { past, ..Self::default() }
    }

    /// Takes in a split before it is read, at its restored watermark, else at the least of its parents', else at the
    /// beginning of time; never before what time has already reached. Gives that watermark.
    pub fn open(&mut self, split: &SplitId, parents: &[SplitId]) -> EventTime {
        let inherited = || parents.iter().filter_map(|parent| self.watermark(parent)).min();
        let start = self.past.get(split).copied().or_else(inherited).unwrap_or(EventTime::MIN);
        let watermark = start.max(self.reached);
        self.splits.insert(split.clone(), Entry { watermark, hold: Hold::Active });
        watermark
    }

    /// Takes in that the first listing is complete and all its splits are opened: time may move.
    pub fn ready(&mut self) {
        self.ready = true;
    }

    /// Whether [`WatermarkBoard::ready`] was called.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Takes in how far a split has been read.
    pub fn advance(&mut self, split: &SplitId, watermark: EventTime) {
        if let Some(entry) = self.splits.get_mut(split) {
            entry.watermark = entry.watermark.max(watermark);
        }
    }

    /// Takes in that a split has nothing to read.
    pub fn idle(&mut self, split: &SplitId) {
        self.change(split, |hold| if hold == Hold::Active { Hold::Idle } else { hold });
    }

    /// Takes in that an idle split has records again. Gives the watermark it has from now on: time that has passed
    /// without it stays passed.
    pub fn wake(&mut self, split: &SplitId) -> EventTime {
        let reached = self.reached;
        let Some(entry) = self.splits.get_mut(split) else { return reached };
        entry.watermark = entry.watermark.max(reached);
        if entry.hold == Hold::Idle {
            entry.hold = Hold::Active;
        }
        entry.watermark
    }

    /// Takes in that all records of a split are in. It holds time back until it is retired.
    pub fn ended(&mut self, split: &SplitId) {
        self.change(split, |_| Hold::Ended);
    }

    /// Takes in that no child of an ended split waits any more.
    pub fn retire(&mut self, split: &SplitId) {
        if let Some(entry) = self.splits.remove(split) {
            self.past.insert(split.clone(), entry.watermark);
        }
    }

    /// Takes in that no split will ever be opened that begins where this one stopped.
    pub fn forget(&mut self, split: &SplitId) {
        self.past.remove(split);
    }

    /// The watermark of a split, where it is known.
    #[must_use]
    pub fn watermark(&self, split: &SplitId) -> Option<EventTime> {
        self.splits.get(split).map(|entry| entry.watermark).or_else(|| self.past.get(split).copied())
    }

    /// How far event time has come. Never goes back. With no split active it stands where the furthest of them has come:
    /// that is where it would be had the others been found idle a moment earlier, and nobody can tell more.
    pub fn reached(&mut self) -> EventTime {
        if self.ready {
            let holding = |entry: &&Entry| entry.hold != Hold::Idle;
            let least = self.splits.values().filter(holding).map(|entry| entry.watermark).min();
            let furthest = || self.splits.values().map(|entry| entry.watermark).max();
            if let Some(time) = least.or_else(furthest) {
                self.reached = self.reached.max(time);
            }
        }
        self.reached
    }

    /// Whether [`WatermarkBoard::reached`] has moved since the last call: then every worker is to be told, whoever moved it.
    pub fn take_news(&mut self) -> bool {
        std::mem::replace(&mut self.told, self.reached) < self.reached
    }

    fn change(&mut self, split: &SplitId, to: impl Fn(Hold) -> Hold) {
        if let Some(entry) = self.splits.get_mut(split) {
            entry.hold = to(entry.hold);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> EventTime {
        EventTime::from_millis(millis)
    }

    fn board(splits: &[&str]) -> WatermarkBoard {
        let mut board = WatermarkBoard::default();
        for split in splits {
            board.open(&SplitId::new(split), &[]);
        }
        board.ready();
        board
    }

    #[test]
    fn time_is_the_least_of_the_active_splits() {
        let mut board = board(&["a", "b"]);
        board.advance(&"a".into(), at(50));
        assert_eq!(board.reached(), at(0));
        board.advance(&"b".into(), at(30));
        assert_eq!(board.reached(), at(30));
    }

    #[test]
    fn time_stands_until_the_first_listing_is_complete() {
        let mut board = WatermarkBoard::default();
        board.open(&"a".into(), &[]);
        board.advance(&"a".into(), at(50));
        assert_eq!(board.reached(), at(0));
        board.ready();
        assert_eq!(board.reached(), at(50));
    }

    #[test]
    fn an_idle_split_stops_holding_and_wakes_where_time_is() {
        let mut board = board(&["a", "b"]);
        board.advance(&"a".into(), at(50));
        board.idle(&"b".into());
        assert_eq!(board.reached(), at(50));
        assert_eq!(board.wake(&"b".into()), at(50));
        board.advance(&"a".into(), at(80));
        assert_eq!(board.reached(), at(50));
    }

    #[test]
    fn a_move_of_time_is_news_once_whatever_moved_it() {
        let mut board = board(&["a", "b"]);
        board.advance(&"a".into(), at(50));
        assert!(!board.take_news());
        board.idle(&"b".into());
        assert_eq!(board.reached(), at(50));
        assert!(board.take_news());
        assert!(!board.take_news());
    }

    #[test]
    fn time_stands_while_all_splits_are_idle() {
        let mut board = board(&["a"]);
        board.advance(&"a".into(), at(50));
        board.reached();
        board.idle(&"a".into());
        assert_eq!(board.reached(), at(50));
    }

    #[test]
    fn splits_found_idle_at_once_leave_time_where_the_furthest_has_come() {
        let mut board = board(&["a", "b", "c"]);
        board.advance(&"a".into(), at(50));
        board.advance(&"b".into(), at(20));
        ["a", "b", "c"].into_iter().for_each(|split| board.idle(&split.into()));
        assert_eq!(board.reached(), at(50));
        assert_eq!(board.wake(&"b".into()), at(50));
    }

    #[test]
    fn a_parent_holds_time_until_its_children_are_open() {
        let mut board = board(&["parent", "other"]);
        board.advance(&"parent".into(), at(40));
        board.ended(&"parent".into());
        board.advance(&"other".into(), at(90));
        assert_eq!(board.reached(), at(40));
        assert_eq!(board.open(&"child".into(), &["parent".into()]), at(40));
        board.retire(&"parent".into());
        assert_eq!(board.reached(), at(40));
        board.advance(&"child".into(), at(70));
        assert_eq!(board.reached(), at(70));
    }

    #[test]
    fn a_forgotten_split_leaves_nothing_behind() {
        let mut board = board(&["a"]);
        board.advance(&"a".into(), at(40));
        board.ended(&"a".into());
        board.retire(&"a".into());
        assert_eq!(board.watermark(&"a".into()), Some(at(40)));
        board.forget(&"a".into());
        assert_eq!(board.watermark(&"a".into()), None);
        assert!(board.past.is_empty());
    }

    #[test]
    fn a_merged_child_starts_at_its_least_parent() {
        let mut board = board(&["left", "right"]);
        board.advance(&"left".into(), at(40));
        board.advance(&"right".into(), at(20));
        assert_eq!(board.open(&"child".into(), &["left".into(), "right".into()]), at(20));
    }

    #[test]
    fn a_split_opened_again_goes_on_at_its_stored_watermark() {
        let mut board = WatermarkBoard::restore(HashMap::from([("a".into(), at(33)), ("gone".into(), at(44))]));
        assert_eq!(board.open(&"a".into(), &[]), at(33));
        assert_eq!(board.open(&"child".into(), &["gone".into()]), at(44));
    }
}
