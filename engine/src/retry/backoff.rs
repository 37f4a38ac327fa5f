//! How long to wait after a failed call, and when to give up. Pure: time and chance are handed in.

use std::time::{Duration, Instant};

/// The first wait, halved by chance at most.
const FIRST: Duration = Duration::from_millis(200);

/// The longest wait. A read of 10 MiB is followed by 5 s of throttling, and the wait after that should not be much more.
const LONGEST: Duration = Duration::from_secs(5);

/// Doublings after which the wait is [`LONGEST`] anyway.
const MOST_DOUBLINGS: u32 = 10;

/// What kind of failure a call met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The service asks to slow down. It is alive and will serve us, so this is never given up on.
    Throttled,
    /// The network, a time-out, a fault of the service: may pass, but not for ever.
    Transient,
    /// Credentials had run out, or our clock and the service's differ: passes with fresh credentials or a clock that is set
    /// right, but not for ever.
    Credentials,
}

/// The failures in a row of one caller.
///
/// # Examples
/// ```
/// use shardflow::retry::{Backoff, Failed};
/// use std::time::{Duration, Instant};
/// let (mut backoff, now) = (Backoff::new(Duration::from_secs(60)), Instant::now());
/// let wait = backoff.failed(Failed::Transient, now, 0.5).expect("a first failure is retried");
/// assert!(wait >= Duration::from_millis(100) && wait <= Duration::from_millis(200));
/// assert_eq!(backoff.failed(Failed::Transient, now + Duration::from_secs(60), 0.5), None);
/// ```
#[derive(Debug, Clone)]
pub struct Backoff {
    give_up_after: Duration,
    in_a_row: u32,
    failing_since: Option<Instant>,
    /// When the first of the failures in a row was met, whatever its kind.
    first: Option<Instant>,
    /// Whether they have been told of.
    told: bool,
}

/// After how long failures in a row are told of: a throttled or failing call now and then is the service's everyday life.
const TELL_AFTER: Duration = Duration::from_secs(10);

impl Backoff {
    /// Gives up when nothing but transient failures were met for `give_up_after`.
    #[must_use]
    pub fn new(give_up_after: Duration) -> Self {
        Self { give_up_after, in_a_row: 0, failing_since: None, first: None, told: false }
    }

    /// A call failed at `now`. How long to wait before the next, or `None` to give up. `dice` lies in `[0, 1)`.
    pub fn failed(&mut self, failed: Failed, now: Instant, dice: f64) -> Option<Duration> {
        let wait = wait(self.in_a_row, dice);
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.first.get_or_insert(now);
        match failed {
            Failed::Throttled => self.failing_since = None,
            Failed::Transient | Failed::Credentials => {
                let since = *self.failing_since.get_or_insert(now);
                if now.saturating_duration_since(since) >= self.give_up_after && now > since {
                    return None;
                }
            }
        }
        Some(wait)
    }

    /// Whether the failures have lasted so long by `now` that they are to be told of; true once in a row.
    pub fn is_news(&mut self, now: Instant) -> bool {
        let lasts = self.first.is_some_and(|first| now.saturating_duration_since(first) >= TELL_AFTER);
        lasts && !std::mem::replace(&mut self.told, true)
    }

    /// How many calls in a row have failed.
    #[must_use]
    pub fn in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// A call succeeded at `now`. Gives for how long none had, where that was told of.
    pub fn succeeded(&mut self, now: Instant) -> Option<Duration> {
        let lasted = self.first.filter(|_| self.told).map(|first| now.saturating_duration_since(first));
        *self = Self::new(self.give_up_after);
        lasted
    }
}

/// Doubles with each failure; the upper half is left to chance, so that callers who were throttled
/// together do not come back together.
fn wait(in_a_row: u32, dice: f64) -> Duration {
    let full = FIRST.saturating_mul(1 << in_a_row.min(MOST_DOUBLINGS)).min(LONGEST);
    full.mul_f64(0.5 + 0.5 * dice.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    const BUDGET: Duration = Duration::from_secs(300);

    #[test]
    fn waits_grow_to_their_limit_and_start_again_after_a_success() {
        let mut backoff = Backoff::new(BUDGET);
        let now = Instant::now();
        let mut next = || backoff.failed(Failed::Throttled, now, 1.0).unwrap().as_millis();
        assert_eq!([next(), next(), next(), next(), next(), next(), next()], [200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.succeeded(now);
        assert_eq!(backoff.failed(Failed::Transient, now, 0.0).unwrap(), FIRST / 2);
    }

    #[test]
    fn throttling_is_never_given_up_on() {
        let mut backoff = Backoff::new(BUDGET);
        let mut now = Instant::now();
        for _ in 0..10_000 {
            now += backoff.failed(Failed::Throttled, now, 0.5).expect("goes on");
        }
    }

    #[test]
    fn other_failures_are_given_up_on_when_they_last() {
        let mut backoff = Backoff::new(BUDGET);
        let start = Instant::now();
        let mut now = start;
        while let Some(wait) = backoff.failed(Failed::Transient, now, 0.5) {
            now += wait;
            assert!(now - start < BUDGET + LONGEST, "should have given up by now");
        }
        assert!(now - start >= BUDGET);
    }

    #[test]
    fn a_throttle_shows_that_the_service_lives_and_resets_the_budget() {
        let mut backoff = Backoff::new(BUDGET);
        let start = Instant::now();
        assert!(backoff.failed(Failed::Transient, start, 0.5).is_some());
        assert!(backoff.failed(Failed::Throttled, start + BUDGET, 0.5).is_some());
        assert!(backoff.failed(Failed::Transient, start + BUDGET * 2, 0.5).is_some());
    }

    #[test]
    fn a_first_failure_is_retried_even_without_a_budget() {
        let mut backoff = Backoff::new(Duration::ZERO);
        let now = Instant::now();
        assert!(backoff.failed(Failed::Transient, now, 0.5).is_some());
        assert!(backoff.failed(Failed::Transient, now + FIRST, 0.5).is_none());
    }

    #[test]
    fn failures_are_told_of_once_when_they_last_and_so_is_their_end() {
        let mut backoff = Backoff::new(BUDGET);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!backoff.is_news(start));
        let mut told = Vec::new();
        for second in 0..60 {
            backoff.failed(Failed::Throttled, at(second), 0.5);
            told.extend(backoff.is_news(at(second)).then_some(second));
        }
        assert_eq!(told, [10]);
        assert_eq!(backoff.succeeded(at(61)), Some(Duration::from_secs(61)));
        // What passes quickly is no news, neither when it begins nor when it ends.
        backoff.failed(Failed::Transient, at(70), 0.5);
        assert!(!backoff.is_news(at(71)));
        assert_eq!(backoff.succeeded(at(72)), None);
    }

    proptest! {
        #[test]
        fn waits_stay_in_the_upper_half_of_their_step(seed: u64, in_a_row in 0u32..u32::MAX) {
            let dice = StdRng::seed_from_u64(seed).random::<f64>();
            let wait = wait(in_a_row, dice);
            prop_assert!(wait >= FIRST / 2 && wait <= LONGEST, "{wait:?}");
        }
    }
}
