//! The job's account of memory for state: how much its maps may keep of what the base has too.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Shared by all maps of a process that can leave entries in the base. What they keep is as of each one's last batch.
#[derive(Debug)]
pub(crate) struct Memory {
    budget: usize,
    entries: AtomicUsize,
    resident: AtomicUsize,
    bound: AtomicUsize,
    changed: AtomicUsize,
    /// How many of them cannot make room before the base is brought up to date.
    pressing: AtomicUsize,
}

/// What a map keeps in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) entries: usize,
    /// Their bytes.
    pub(super) resident: usize,
    /// Bytes of those that may not leave before the base has them, at most.
    pub(super) bound: usize,
    /// Bytes of those that changed in the open epoch.
    pub(super) changed: usize,
}

impl Memory {
    pub(super) fn new(budget: u64) -> Self {
        Self {
            budget: usize::try_from(budget).unwrap_or(usize::MAX),
            entries: AtomicUsize::new(0),
            resident: AtomicUsize::new(0),
            bound: AtomicUsize::new(0),
            changed: AtomicUsize::new(0),
            pressing: AtomicUsize::new(0),
        }
    }

    /// A map that kept `before` keeps `now`.
    pub(super) fn account(&self, before: Kept, now: Kept) {
        let revise = |sum: &AtomicUsize, before: usize, now: usize| {
            // Never below 0: each map takes back only what it has put in.
            sum.fetch_add(now, Ordering::Relaxed);
            sum.fetch_sub(before, Ordering::Relaxed);
        };
        revise(&self.entries, before.entries, now.entries);
        revise(&self.resident, before.resident, now.resident);
        revise(&self.bound, before.bound, now.bound);
        revise(&self.changed, before.changed, now.changed);
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

    /// Whether so much of memory is bound that what one epoch more may bring in, a third, would find no room.
    pub(super) fn is_bound(&self) -> bool {
        self.bound.load(Ordering::Relaxed) > self.budget / 3 * 2
    }

    /// Whether the open epoch has changed as much as one should: three may be on their way into the base at a time.
    pub(super) fn is_epoch_long(&self) -> bool {
        self.changed.load(Ordering::Relaxed) > self.budget / 6
    }

    /// How many records may be on their way to the maps: each may be of a key that is not there, and bring in an entry. As
    /// many as there is room for, and some where entries have to leave for them. `None`: memory is not short.
    pub(super) fn room(&self) -> Option<usize> {
        let resident = self.resident.load(Ordering::Relaxed);
        if resident <= self.budget / 2 {
            return None;
        }
        let entry = resident.checked_div(self.entries.load(Ordering::Relaxed))?;
        self.budget.saturating_sub(resident).max(self.budget / 12).checked_div(entry)
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
        let kept = Kept { entries: 1, resident: 80, bound: 40, changed: 10 };
        memory.account(Kept::default(), kept);
        assert_eq!((memory.share_of(80), memory.is_full()), (100, false));
        assert!(!memory.is_bound() && !memory.is_epoch_long());
        memory.account(Kept::default(), kept);
        assert_eq!((memory.share_of(80), memory.is_full()), (50, true));
        assert!(memory.is_bound() && memory.is_epoch_long());
        memory.account(kept, Kept::default());
        assert_eq!(memory.share_of(80), 100);
        assert!(!memory.is_bound() && !memory.is_epoch_long());
    }

    #[test]
    fn there_is_room_for_as_many_records_as_entries_and_for_some_where_memory_is_full() {
        let memory = Memory::new(1_200);
        let kept = |entries| Kept { entries, resident: entries * 10, ..Kept::default() };
        memory.account(Kept::default(), kept(60));
        assert_eq!(memory.room(), None, "half of it is free");
        memory.account(kept(60), kept(100));
        assert_eq!(memory.room(), Some(20));
        memory.account(kept(100), kept(130));
        assert_eq!(memory.room(), Some(10));
    }
}
