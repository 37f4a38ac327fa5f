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

    /// Where the accumulator of a pane is, or would have to be: the pane `at` this place, as `pane_at` knows the others.
    #[inline]
    pub(super) fn find(&self, pane: u32, at: Pane, pane_at: impl Fn(u32) -> Pane) -> Result<usize, usize> {
        match &self.newest {
            Some(newest) if newest.pane == pane => Ok(self.older.len()),
            Some(newest) if pane_at(newest.pane) < at => Err(self.older.len() + 1),
            _ => self.older.binary_search_by_key(&at, |cell| pane_at(cell.pane)),
        }
    }

    /// The accumulator at a place that [`Cells::find`] has found.
    #[inline]
    pub(super) fn at_mut(&mut self, place: usize) -> Option<&mut Cell<A>> {
        if place == self.older.len() { self.newest.as_mut() } else { self.older.get_mut(place) }
    }

    /// Puts a new accumulator where [`Cells::find`] has not found it.
    pub(super) fn insert(&mut self, place: usize, cell: Cell<A>) {
        if place <= self.older.len() && self.newest.is_some() {
            self.older.insert(place, cell);
        } else if let Some(before) = self.newest.replace(cell) {
            self.older.push_back(before);
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
