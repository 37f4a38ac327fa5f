//! Calls readers when their next record is due.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

/// Calls readers at their time.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    waiting: Mutex<Vec<(Instant, Waker)>>,
}

impl Bell {
    /// Looks every `tick`. Its thread ends with its last owner.
    pub(crate) fn hang(tick: Duration) -> Arc<Self> {
        let bell = Arc::new(Self::default());
        let weak = Arc::downgrade(&bell);
        thread::spawn(move || Self::ring(&weak, tick));
        bell
    }

    fn ring(bell: &Weak<Self>, tick: Duration) {
        let mut next = Instant::now();
        while let Some(bell) = bell.upgrade() {
            let now = Instant::now();
            bell.due(now).into_iter().for_each(Waker::wake);
            drop(bell);
            // Ticks that were missed are skipped: nobody waits longer for it.
            next = (next + tick).max(now);
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }

    /// Calls `waker` at the first look at or after `due`.
    pub(crate) fn call_at(&self, due: Instant, waker: Waker) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((due, waker));
    }

    /// Takes out those whose time has come.
    fn due(&self, now: Instant) -> Vec<Waker> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extract_if(.., |(due, _)| *due <= now).map(|(_, waker)| waker).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_whose_time_has_come_are_called() {
        let bell = Bell::default();
        let now = Instant::now();
        for millis in [5, 0, 9] {
            bell.call_at(now + Duration::from_millis(millis), Waker::noop().clone());
        }
        assert_eq!(bell.due(now + Duration::from_millis(5)).len(), 2);
        assert!(bell.due(now + Duration::from_millis(8)).is_empty());
        assert_eq!(bell.due(now + Duration::from_millis(9)).len(), 1);
    }
}
