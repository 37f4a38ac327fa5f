//! The accumulators of one key, by pane.

use std::collections::VecDeque;

use crate::vocabulary::EventTime;
use crate::window::Pane;

/// An accumulator, and what the changelog must know of it.
#[derive(Debug)]
pub(super) struct Cell<A> {
    pub(super) value: A,
    /// Where its pane is among the open ones.
    pub(super) pane: u32,
    /// Changed since the last drain.
    pub(super) dirty: bool,
    /// In a changelog or the base: its removal must be written too.
    pub(super) persisted: bool,
}

/// A key's accumulators, in the order of their panes.
#[derive(Debug)]
pub(super) struct Cells<A> {
    /// That of the latest pane. It lies beside the key, because most records go to it.
    newest: Option<Cell<A>>,
    /// Those before it.
    older: VecDeque<Cell<A>>,
    /// The last window that was fired for the key, by when it begins. Without this a key would give a row for each of
    /// its panes.
    fired: Option<EventTime>,
}

impl<A> Cells<A> {
    pub(super) fn new() -> Self {
        Self { newest: None, older: VecDeque::new(), fired: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.newest.is_none()
    }

    /// The accumulator of a pane, by the pane's place.
    #[inline]
    pub(super) fn find_mut(&mut self, pane: u32) -> Option<&mut Cell<A>> {
        match &mut self.newest {
            Some(newest) if newest.pane == pane => Some(newest),
            // From the back: what is out of order is mostly so by little.
            _ => self.older.iter_mut().rev().find(|cell| cell.pane == pane),
        }
    }

    /// Puts in a new accumulator. `pane_at` knows the panes by their places.
    pub(super) fn insert(&mut self, cell: Cell<A>, pane_at: impl Fn(u32) -> Pane) {
        let pane = pane_at(cell.pane);
        match &mut self.newest {
            None => self.newest = Some(cell),
            Some(newest) if pane_at(newest.pane) < pane => {
                let before = std::mem::replace(newest, cell);
                self.older.push_back(before);
            }
            Some(_) => {
                let place = self.older.partition_point(|other| pane_at(other.pane) < pane);
                self.older.insert(place, cell);
            }
        }
    }

    /// Removes the first accumulator if its pane is `over`, and gives it back.
    pub(super) fn pop_if(&mut self, over: impl Fn(u32) -> bool) -> Option<Cell<A>> {
        match self.older.front() {
            Some(first) if over(first.pane) => self.older.pop_front(),
            Some(_) => None,
            None => self.newest.take_if(|newest| over(newest.pane)),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Cell<A>> {
        self.older.iter().chain(&self.newest)
    }

    /// Takes in that the window from `start` is fired for this key. Says whether it is for the first time.
    pub(super) fn fire(&mut self, start: EventTime) -> bool {
        self.fired.replace(start) != Some(start)
    }
}
