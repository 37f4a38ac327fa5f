//! The job's account of memory for state: how much its maps may keep of what the base has too.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Shared by all maps of a process that can leave entries in the base.
#[derive(Debug)]
pub(crate) struct Memory {
    budget: usize,
    /// What all of them keep, in bytes, as of each one's last epoch.
    resident: AtomicUsize,
    /// Bytes of an entry, of the map that has the largest.
    entry: AtomicUsize,
    /// How many of them cannot make room before the base is brought up to date.
    pressing: AtomicUsize,
}

impl Memory {
    pub(super) fn new(budget: u64) -> Self {
        Self {
            budget: usize::try_from(budget).unwrap_or(usize::MAX),
            resident: AtomicUsize::new(0),
            entry: AtomicUsize::new(0),
            pressing: AtomicUsize::new(0),
        }
    }

    /// A map that kept `before` keeps `now`, in entries of `entry` bytes each.
    pub(super) fn account(&self, before: usize, now: usize, entry: usize) {
        self.entry.fetch_max(entry, Ordering::Relaxed);
        // Never below 0: each map takes back only what it has put in.
        self.resident.fetch_add(now, Ordering::Relaxed);
        self.resident.fetch_sub(before, Ordering::Relaxed);
    }

    /// What a map of `resident` bytes may keep: all of it while there is room, else its part of the budget.
    pub(super) fn share_of(&self, resident: usize) -> usize {
        share(self.budget, self.resident.load(Ordering::Relaxed), resident)
    }

    /// Whether the maps keep as much as they may, nearly.
    pub(super) fn is_full(&self) -> bool {
        let resident = self.resident.load(Ordering::Relaxed);
        resident > self.budget.saturating_sub(self.budget / 20)
    }

    /// How many records may be on their way to the maps: each may be of a key that is not there, and bring in an entry. As
    /// many as there is room for, and some where entries have to leave for them. `None`: there are no maps.
    pub(super) fn room(&self) -> Option<usize> {
        let free = self.budget.saturating_sub(self.resident.load(Ordering::Relaxed));
        free.max(self.budget / 12).checked_div(self.entry.load(Ordering::Relaxed))
    }

    /// A map begins, or ceases, to be over its share.
    pub(super) fn press(&self, pressing: bool) {
        if pressing {
            self.pressing.fetch_add(1, Ordering::SeqCst);
        } else {
            self.pressing.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Whether the sources are to wait for room.
    pub(super) fn is_pressing(&self) -> bool {
        self.pressing.load(Ordering::SeqCst) > 0
    }
}

/// The part of `budget` that a map of `own` bytes has, where all together have `total`.
fn share(budget: usize, total: usize, own: usize) -> usize {
    if total <= budget {
        return own.saturating_add(budget.saturating_sub(total));
    }
    let part = (budget as u128).saturating_mul(own as u128) / (total as u128).max(1);
    usize::try_from(part).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shares_never_exceed_the_budget_and_nobody_shrinks_while_there_is_room(
            budget in 1..1_usize << 40,
            maps in proptest::collection::vec(0..1_usize << 38, 1..10),
        ) {
            let total: usize = maps.iter().sum();
            if total > budget {
                let shares: usize = maps.iter().map(|own| share(budget, total, *own)).sum();
                prop_assert!(shares <= budget);
                prop_assert!(maps.iter().all(|own| share(budget, total, *own) <= *own));
            } else {
                prop_assert!(maps.iter().all(|own| share(budget, total, *own) >= *own));
            }
        }
    }

    #[test]
    fn sources_wait_while_any_map_presses() {
        let memory = Memory::new(100);
        memory.press(true);
        memory.press(true);
        memory.press(false);
        assert!(memory.is_pressing());
        memory.press(false);
        assert!(!memory.is_pressing());
    }

    #[test]
    fn what_is_given_back_is_room_again() {
        let memory = Memory::new(100);
        memory.account(0, 80, 1);
        assert_eq!((memory.share_of(80), memory.is_full()), (100, false));
        memory.account(0, 80, 1);
        assert_eq!((memory.share_of(80), memory.is_full()), (50, true));
        memory.account(80, 0, 1);
        assert_eq!(memory.share_of(80), 100);
    }

    #[test]
    fn there_is_room_for_as_many_records_as_entries_and_for_some_where_memory_is_full() {
        let memory = Memory::new(1_200);
        assert_eq!(memory.room(), None);
        memory.account(0, 1_000, 10);
        assert_eq!(memory.room(), Some(20));
        memory.account(1_000, 1_300, 10);
        assert_eq!(memory.room(), Some(10));
    }
}
