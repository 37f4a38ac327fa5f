//! Which epoch the sources emit into, and whether they may.
//!
//! One clock a process. The beat moves it; commits free it; the source operators read it at each activation.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::vocabulary::Epoch;

/// The epoch that the beat may move to: the next, unless too many are open already.
///
/// `committed` is the last epoch whose work is done, so `current - committed` epochs are open.
#[must_use]
pub(crate) fn next_epoch(current: u64, committed: u64, max_open: u64) -> Option<u64> {
    (current.saturating_sub(committed) < max_open).then(|| current.saturating_add(1))
}

/// The process's epoch clock.
#[derive(Debug)]
pub(crate) struct EpochClock {
    current: AtomicU64,
    committed: AtomicU64,
    /// The last epoch of a job that was asked to stop; `u64::MAX` while it was not.
    last: AtomicU64,
    /// A beat came due and could not be taken: sources wait for a commit.
    stalled: AtomicBool,
    max_open: u64,
}

impl EpochClock {
    /// A clock that stands at `first`, with everything before it committed.
    pub(crate) fn starting_at(first: Epoch, max_open: u64) -> Self {
        Self {
            current: AtomicU64::new(first.number()),
            committed: AtomicU64::new(first.number().saturating_sub(1)),
            last: AtomicU64::new(u64::MAX),
            stalled: AtomicBool::new(false),
            max_open,
        }
    }

    /// The epoch that sources emit into.
    pub(crate) fn current(&self) -> Epoch {
        Epoch::new(self.current.load(Ordering::SeqCst))
    }

    /// The last epoch whose work is done.
    pub(crate) fn committed(&self) -> Epoch {
        Epoch::new(self.committed.load(Ordering::SeqCst))
    }

    /// How many epochs are open, the current one included.
    pub(crate) fn open(&self) -> u64 {
        self.current().number().saturating_sub(self.committed().number())
    }

    /// Takes one beat. Only the beat's thread calls it.
    pub(crate) fn beat(&self) {
        if self.stopping() {
            return;
        }
        match next_epoch(self.current().number(), self.committed().number(), self.max_open) {
            Some(next) => {
                self.current.store(next, Ordering::SeqCst);
                self.stalled.store(false, Ordering::SeqCst);
            }
            None => self.stalled.store(true, Ordering::SeqCst),
        }
    }

    /// Takes in that everything up to `epoch` is done.
    pub(crate) fn commit(&self, epoch: Epoch) {
        self.committed.fetch_max(epoch.number(), Ordering::SeqCst);
    }

    /// Whether the sources may read.
    pub(crate) fn may_emit(&self) -> bool {
        !self.stopping() && !self.stalled()
    }

    /// Whether a beat came due that could not be taken. The next commit makes room for it: it is not to wait for another.
    pub(crate) fn stalled(&self) -> bool {
        self.stalled.load(Ordering::SeqCst)
    }

    /// Makes the current epoch the last one. Only the beat's thread calls it.
    pub(crate) fn stop(&self) {
        if !self.stopping() {
            let last = self.current.fetch_add(1, Ordering::SeqCst);
            self.last.store(last, Ordering::SeqCst);
        }
    }

    /// Whether [`EpochClock::stop`] was called.
    pub(crate) fn stopping(&self) -> bool {
        self.last.load(Ordering::SeqCst) != u64::MAX
    }

    /// Whether a stopping job has done its last epoch.
    pub(crate) fn stopped(&self) -> bool {
        self.committed().number() >= self.last.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_stall_at_the_limit_and_go_on_after_a_commit() {
        let clock = EpochClock::starting_at(Epoch::new(10), 3);
        assert_eq!(clock.open(), 1);
        clock.beat();
        clock.beat();
        assert!(clock.may_emit());
        assert_eq!(clock.current(), Epoch::new(12));
        clock.beat();
        assert_eq!(clock.current(), Epoch::new(12));
        assert!(!clock.may_emit());
        clock.commit(Epoch::new(10));
        clock.beat();
        assert_eq!(clock.current(), Epoch::new(13));
        assert!(clock.may_emit());
    }

    #[test]
    fn a_stopping_clock_ends_its_epoch_and_takes_no_more_beats() {
        let clock = EpochClock::starting_at(Epoch::new(1), 3);
        clock.stop();
        clock.stop();
        clock.beat();
        assert_eq!(clock.current(), Epoch::new(2));
        assert!(!clock.may_emit());
        assert!(!clock.stopped());
        clock.commit(Epoch::new(1));
        assert!(clock.stopped());
    }
}
