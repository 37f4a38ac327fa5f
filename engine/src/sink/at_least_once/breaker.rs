//! Decides whether a service is called at all while it fails. Pure.
//!
//! Each batch waits out its own failures. Many that do so together still call a service that lies down, several at a time, and
//! find out late that it is back. So after a few failures in a row, of any batch, one call at a time probes it, and its
//! success lets all others go on at once.

/// Failures in a row after which only one call at a time is made.
const OPENS_AFTER: u32 = 5;

/// The calls of one sink on one worker.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failed_in_a_row: u32,
    probing: bool,
}

impl Breaker {
    /// Whether a call may be made now. What is admitted must end in [`succeeded`](Self::succeeded) or
    /// [`failed`](Self::failed).
    pub(super) fn admits(&mut self) -> bool {
        !self.is_open() || !std::mem::replace(&mut self.probing, true)
    }

    /// A call had some success. Gives whether others have waited for that.
    pub(super) fn succeeded(&mut self) -> bool {
        let was_open = self.is_open();
        *self = Self::default();
        was_open
    }

    /// A call had none.
    pub(super) fn failed(&mut self) {
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
        self.probing = false;
    }

    fn is_open(&self) -> bool {
        self.failed_in_a_row >= OPENS_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_failures_in_a_row_one_call_at_a_time_is_made_until_one_succeeds() {
        let mut breaker = Breaker::default();
        for _ in 0..OPENS_AFTER {
            assert!(breaker.admits() && breaker.admits(), "as many as want to");
            breaker.failed();
        }
        assert!(breaker.admits());
        assert!(!breaker.admits(), "one is on its way");
        breaker.failed();
        assert!(breaker.admits(), "the next");
        assert!(breaker.succeeded());
        assert!(breaker.admits() && breaker.admits());
    }

    #[test]
    fn a_success_in_between_starts_the_count_anew() {
        let mut breaker = Breaker::default();
        for _ in 0..10 {
            (1..OPENS_AFTER).for_each(|_| breaker.failed());
            assert!(!breaker.succeeded());
        }
        assert!(breaker.admits() && breaker.admits());
    }
}
