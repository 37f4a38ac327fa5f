//! What was written lately. Pure.

use std::time::{Duration, Instant};

/// How long the measure goes back, and the least time over which it says what a table takes.
const OVER: Duration = Duration::from_secs(1);

/// Over less than this part of it nothing is reckoned: a call of a few milliseconds says nothing of a second.
const LEAST_PART: f64 = 0.25;

/// What was written, a second.
#[derive(Debug, Clone, Default)]
pub(super) struct Measure {
    since: Option<Instant>,
    units: f64,
    /// Units a second over the stretch before.
    before: f64,
}

impl Measure {
    pub(super) fn add(&mut self, units: u64, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since);
        if passed >= OVER {
            *self = Self { since: Some(now), units: 0.0, before: self.units / passed.as_secs_f64() };
        }
        self.units += units as f64;
    }

    /// Units a second; none before anything was written.
    pub(super) fn rate(&self, now: Instant) -> f64 {
        let Some(since) = self.since else { return 0.0 };
        let passed = now.saturating_duration_since(since).as_secs_f64();
        self.before.max(self.units / passed.max(OVER.as_secs_f64() * LEAST_PART))
    }

    /// Whether it covers time enough to say what the table takes, and not only how the writing began.
    pub(super) fn is_whole(&self, now: Instant) -> bool {
        self.before > 0.0 || self.since.is_some_and(|since| now.saturating_duration_since(since) >= OVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_rate_of_the_last_second_and_whole_after_one() {
        let (mut measure, start) = (Measure::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!((measure.rate(start), measure.is_whole(at(5_000))), (0.0, false));
        for n in 0..100 {
            measure.add(5, at(n * 10));
        }
        assert!(!measure.is_whole(at(990)) && measure.is_whole(at(1_000)));
        let rate = measure.rate(at(1_000));
        assert!((490.0..=510.0).contains(&rate), "{rate}");
        for n in 100..400 {
            measure.add(1, at(n * 10));
        }
        let rate = measure.rate(at(4_000));
        assert!((90.0..=110.0).contains(&rate), "{rate}");
    }

    #[test]
    fn a_moment_is_not_taken_for_a_second() {
        let (mut measure, start) = (Measure::default(), Instant::now());
        measure.add(100, start);
        assert!((measure.rate(start + Duration::from_millis(2)) - 400.0).abs() < 1e-9);
    }
}
