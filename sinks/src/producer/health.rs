//! Whether calls are made at all while they fail. Pure: time and chance are handed in.
//!
//! A call that fails as a whole is waited out before any other begins; after a few in a row, one call at a time probes the
//! service. Without this each new record would call a service that lies down. Calls that were under way together fail of one
//! cause, and count once.

use std::time::{Duration, Instant};

use shardflow::retry::{Backoff, Failed};
use shardflow_aws::failure::Failure;

/// Calls in a row that failed, after which one at a time is made.
const PROBES_AFTER: u32 = 5;

/// How the last calls went.
#[derive(Debug)]
pub(super) struct Health {
    backoff: Backoff,
    not_before: Option<Instant>,
    /// When the last failure was met that counts.
    failed_at: Option<Instant>,
    outage: Option<Outage>,
}

/// Nothing but failures came back for a while, and none that ask to slow down: whoever asks that is alive.
#[derive(Debug)]
struct Outage {
    since: Instant,
    last: Failure,
}

impl Health {
    pub(super) fn new() -> Self {
        // Records are given up, calls are not.
        Self { backoff: Backoff::new(Duration::MAX), not_before: None, failed_at: None, outage: None }
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

    /// No record was taken of a call that began at `begun`. Gives whether that is news: it has lasted for a while.
    pub(super) fn failed(&mut self, failed: Failed, failure: Failure, begun: Instant, now: Instant, dice: f64) -> bool {
        self.outage = match (failed, self.outage.take()) {
            (Failed::Throttled, _) => None,
            (_, outage) => Some(Outage { since: outage.map_or(now, |outage| outage.since), last: failure }),
        };
        if self.failed_at.is_some_and(|at| begun < at) {
            return false;
        }
        self.failed_at = Some(now);
        let wait = self.backoff.failed(failed, now, dice).unwrap_or_default();
        self.not_before = Some(now + wait);
        self.backoff.is_news(now)
    }

    /// The last failure, where nothing else has come back for so long.
    pub(super) fn down_for(&self, patience: Duration, now: Instant) -> Option<(Instant, &Failure)> {
        let outage = self.outage.as_ref()?;
        let lasts = now.saturating_duration_since(outage.since);
        // However little patience there is, one failure alone does not last.
        (lasts >= patience && !lasts.is_zero()).then_some((outage.since, &outage.last))
    }

    /// Some were. Gives for how long none had been, where that was news.
    pub(super) fn succeeded(&mut self, now: Instant) -> Option<Duration> {
        (self.not_before, self.outage) = (None, None);
        self.backoff.succeeded(now)
    }
}

#[cfg(test)]
mod tests {
    use shardflow_aws::failure::Remedy;

    use super::*;

    fn failure() -> Failure {
        Failure { remedy: Remedy::None, text: "not now".to_owned() }
    }

    #[test]
    fn calls_that_were_under_way_together_fail_once() {
        let (mut health, begun) = (Health::new(), Instant::now());
        let answered = begun + Duration::from_millis(20);
        for _ in 0..8 {
            health.failed(Failed::Transient, failure(), begun, answered, 1.0);
        }
        let next = answered + Duration::from_millis(200);
        assert_eq!(health.not_before(), Some(next));
        assert!(health.admits(next, 7, 8), "that is no reason to probe");
    }

    #[test]
    fn a_service_that_asks_to_slow_down_is_not_down() {
        let (mut health, start) = (Health::new(), Instant::now());
        let minute = Duration::from_secs(60);
        health.failed(Failed::Transient, failure(), start, start, 0.5);
        assert!(health.down_for(minute, start + minute - Duration::from_millis(1)).is_none());
        assert_eq!(health.down_for(minute, start + minute).map(|(since, _)| since), Some(start));
        for failed in [Failed::Throttled, Failed::Credentials] {
            health.failed(failed, failure(), start + minute, start + minute, 0.5);
            assert!(health.down_for(minute, start + minute).is_none());
        }
        assert!(health.down_for(minute, start + 2 * minute).is_some());
        health.succeeded(start + 2 * minute);
        assert!(health.down_for(minute, start + 3 * minute).is_none());
    }

    #[test]
    fn after_a_failure_none_begins_for_a_while_and_after_some_one_at_a_time() {
        let (mut health, mut now) = (Health::new(), Instant::now());
        for failures in 1..20 {
            assert!(health.admits(now, 0, 8) && health.admits(now, 7, 8) == (failures <= PROBES_AFTER));
            assert!(!health.admits(now, 8, 8));
            health.failed(Failed::Transient, failure(), now, now, 1.0);
            assert!(!health.admits(now, 0, 8), "not at once");
            let next = health.not_before().unwrap();
            assert!(next - now >= Duration::from_millis(200) && next - now <= Duration::from_secs(5));
            now = next;
        }
        assert!(health.succeeded(now).is_some(), "it was long enough to be told of");
        assert!(health.admits(now, 7, 8));
    }
}
