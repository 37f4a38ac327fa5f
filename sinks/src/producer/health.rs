//! Whether calls are made at all while they fail. Pure: time and chance are handed in.
//!
//! A call that fails as a whole is waited out before any other begins; after a few in a row, one call at a time probes the
//! service. Without this each new record would call a service that lies down.

use std::time::{Duration, Instant};

use shardflow::retry::{Backoff, Failed};

/// Calls in a row that failed, after which one at a time is made.
const PROBES_AFTER: u32 = 5;

/// How the last calls went.
#[derive(Debug)]
pub(super) struct Health {
    backoff: Backoff,
    not_before: Option<Instant>,
}

impl Health {
    pub(super) fn new() -> Self {
        // Records are given up, calls are not.
        Self { backoff: Backoff::new(Duration::MAX), not_before: None }
    }

    /// Whether one more call may begin.
    pub(super) fn admits(&self, now: Instant, under_way: usize, most: usize) -> bool {
        let most = if self.backoff.in_a_row() >= PROBES_AFTER { 1 } else { most };
        under_way < most && self.not_before.is_none_or(|at| at <= now)
    }

    /// When calls may begin again, where only time keeps them.
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// No record of a call was taken. Gives whether that is news: it has lasted for a while.
    pub(super) fn failed(&mut self, failed: Failed, now: Instant, dice: f64) -> bool {
        let wait = self.backoff.failed(failed, now, dice).unwrap_or_default();
        self.not_before = Some(now + wait);
        self.backoff.is_news(now)
    }

    /// Some were. Gives for how long none had been, where that was news.
    pub(super) fn succeeded(&mut self, now: Instant) -> Option<Duration> {
        self.not_before = None;
        self.backoff.succeeded(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failure_none_begins_for_a_while_and_after_some_one_at_a_time() {
        let (mut health, mut now) = (Health::new(), Instant::now());
        for failures in 1..20 {
            assert!(health.admits(now, 0, 8) && health.admits(now, 7, 8) == (failures <= PROBES_AFTER));
            assert!(!health.admits(now, 8, 8));
            health.failed(Failed::Transient, now, 1.0);
            assert!(!health.admits(now, 0, 8), "not at once");
            let next = health.not_before().unwrap();
            assert!(next - now >= Duration::from_millis(200) && next - now <= Duration::from_secs(5));
            now = next;
        }
        assert!(health.succeeded(now).is_some(), "it was long enough to be told of");
        assert!(health.admits(now, 7, 8));
    }
}
