//! One split's watermark.

use std::time::Duration;

use crate::vocabulary::EventTime;

/// How far out of order the records of one split may be, and when a silent split stops holding time back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    bound: Duration,
    idle_after: Option<Duration>,
}

impl Lag {
    /// Records are at most `bound` behind the greatest event time seen before them in their split. Those further behind
    /// may be late.
    ///
    /// A split that has nothing to read for 30 s stops holding time back: long enough that an ordinary pause of its
    /// producers makes no record late, short enough that one empty shard does not stop a minute's charges for long. A
    /// split that cannot be read (its calls fail, hang or are throttled) or is not at its end yet is not silent: it holds
    /// time back for as long as that lasts.
    #[must_use]
    pub const fn of(bound: Duration) -> Self {
        Self { bound, idle_after: Some(Duration::from_secs(30)) }
    }

    /// A split that has nothing to read for this long stops holding time back. Its next record counts again, but may
    /// be late. A split that is read to its end again and again while all its records are rejected or filtered out before
    /// they have event time counts as one that has nothing to read. Time in which the engine itself does not read (backpressure) does not count, and neither does time in
    /// which the source cannot say that it has read everything
    /// ([`Reader::caught_up`](crate::source::Reader::caught_up)).
    #[must_use]
    pub const fn idle_after(mut self, duration: Duration) -> Self {
        self.idle_after = Some(duration);
        self
    }

    /// Every split holds time back however long it is silent.
    #[must_use]
    pub const fn never_idle(mut self) -> Self {
        self.idle_after = None;
        self
    }

    /// The bound.
    #[must_use]
    pub const fn bound(self) -> Duration {
        self.bound
    }

    /// After how long without a record a split is idle.
    #[must_use]
    pub const fn idle_limit(self) -> Option<Duration> {
        self.idle_after
    }
}

/// Follows one split's watermark: the greatest event time so far, less the lag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitClock {
    watermark: u64,
    lag_millis: u64,
}

impl SplitClock {
    /// A clock that starts at `watermark`.
    #[must_use]
    pub fn starting_at(watermark: EventTime, lag: Lag) -> Self {
        let lag_millis = u64::try_from(lag.bound().as_millis()).unwrap_or(u64::MAX);
        Self { watermark: watermark.as_millis(), lag_millis }
    }

    /// Takes the next record's event time; gives the watermark before it, which decides whether the record is late.
    #[inline]
    pub fn observe(&mut self, at: EventTime) -> EventTime {
        let before = self.watermark;
        self.watermark = before.max(at.as_millis().saturating_sub(self.lag_millis));
        EventTime::from_millis(before)
    }

    /// The watermark after all records so far.
    #[must_use]
    pub fn watermark(&self) -> EventTime {
        EventTime::from_millis(self.watermark)
    }

    /// Moves the watermark up to `floor`: a split that was idle cannot hold back time that has passed without it.
    pub fn raise_to(&mut self, floor: EventTime) {
        self.watermark = self.watermark.max(floor.as_millis());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vocabulary::{millis, seconds};

    fn at(millis: u64) -> EventTime {
        EventTime::from_millis(millis)
    }

    #[test]
    fn a_record_is_judged_by_the_watermark_before_it() {
        let mut clock = SplitClock::starting_at(EventTime::MIN, Lag::of(millis(10)));
        assert_eq!(clock.observe(at(100)), at(0));
        assert_eq!(clock.observe(at(95)), at(90));
        assert_eq!(clock.observe(at(200)), at(90));
        assert_eq!(clock.watermark(), at(190));
    }

    #[test]
    fn raising_never_lowers() {
        let mut clock = SplitClock::starting_at(at(50), Lag::of(seconds(0)));
        clock.raise_to(at(40));
        assert_eq!(clock.watermark(), at(50));
        clock.raise_to(at(60));
        assert_eq!(clock.watermark(), at(60));
    }

    proptest! {
        #[test]
        fn the_watermark_is_the_greatest_time_less_the_lag(times in prop::collection::vec(0..10_000u64, 1..50), lag in 0..2_000u64) {
            let mut clock = SplitClock::starting_at(EventTime::MIN, Lag::of(millis(lag)));
            let mut greatest = 0u64;
            for time in times {
                prop_assert_eq!(clock.observe(at(time)), at(greatest.saturating_sub(lag)));
                greatest = greatest.max(time);
            }
        }
    }
}
