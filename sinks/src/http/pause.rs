//! Leaves a server alone for as long as it asks, up to a bound.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shardflow::retry::Clock;

/// Shared by the batches of one writer: what one is told concerns all.
#[derive(Debug)]
pub(crate) struct Pause {
    longest: Duration,
    until: Mutex<Option<Instant>>,
}

impl Pause {
    /// Honours at most `longest` at a time.
    pub(crate) fn new(longest: Duration) -> Self {
        Self { longest, until: Mutex::new(None) }
    }

    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server asked at `now` to be left alone for `time`.
    pub(crate) fn ask(&self, now: Instant, time: Duration) {
        let mut until = self.until();
        let asked = now.checked_add(time.min(self.longest));
        *until = asked.max(*until);
    }

    /// Waits for what is left of it.
    pub(crate) async fn wait(&self, clock: &impl Clock) {
        let left = self.left(clock.now());
        if !left.is_zero() {
            clock.sleep(left).await;
        }
    }

    /// How long is left of it at `now`.
    fn left(&self, now: Instant) -> Duration {
        self.until().map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_server_is_left_alone_for_as_long_as_it_asks_and_no_longer_than_the_bound() {
        let (pause, now) = (Pause::new(seconds(60)), Instant::now());
        assert_eq!(pause.left(now), Duration::ZERO);
        pause.ask(now, seconds(10));
        assert_eq!(pause.left(now + seconds(4)), seconds(6));
        pause.ask(now, seconds(2));
        assert_eq!(pause.left(now), seconds(10), "a shorter one does not shorten a longer one");
        pause.ask(now, Duration::MAX);
        assert_eq!(pause.left(now), seconds(60));
        assert_eq!(pause.left(now + seconds(61)), Duration::ZERO);
    }
}
