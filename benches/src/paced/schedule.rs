//! When records are due, by steady clock and in event time. Pure, but for the moment at which it begins.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shardflow::EventTime;

const NANOS: u128 = 1_000_000_000;

/// When the records are due.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    started: Arc<OnceLock<Instant>>,
    rate: u64,
    /// Event time of the first record, in milliseconds.
    base: u64,
}

impl Schedule {
    /// `rate` records a second, from the first look on. Event time begins at a whole second near the present.
    pub(super) fn new(rate: u64) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Arc::default(), rate: rate.max(1), base: wall.as_secs().saturating_mul(1000) }
    }

    /// The first look; `now` at the first call.
    fn started(&self) -> Instant {
        *self.started.get_or_init(Instant::now)
    }

    /// When record `number` is due.
    pub(super) fn due(&self, number: u64) -> Instant {
        let nanos = u128::from(number) * NANOS / u128::from(self.rate);
        self.started() + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many records are due by `now`.
    pub(super) fn due_by(&self, now: Instant) -> u64 {
        let Some(elapsed) = now.checked_duration_since(self.started()) else { return 0 };
        let passed = elapsed.as_nanos() * u128::from(self.rate) / NANOS;
        u64::try_from(passed).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// How many records are due in the first `time`.
    pub(super) fn within(&self, time: Duration) -> u64 {
        u64::try_from(time.as_nanos() * u128::from(self.rate) / NANOS).unwrap_or(u64::MAX)
    }

    /// The event time of record `number`: when it is due, to the millisecond.
    pub(super) fn event_time(&self, number: u64) -> EventTime {
        let millis = u128::from(number) * 1000 / u128::from(self.rate);
        EventTime::from_millis(self.base.saturating_add(u64::try_from(millis).unwrap_or(u64::MAX)))
    }

    /// The first record at or after `time`.
    pub(super) fn first_at(&self, time: EventTime) -> u64 {
        let millis = u128::from(time.as_millis().saturating_sub(self.base));
        u64::try_from((millis * u128::from(self.rate)).div_ceil(1000)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_evenly_from_the_first_look() {
        let schedule = Schedule::new(50_000);
        assert_eq!(schedule.due(50_000) - schedule.due(0), Duration::from_secs(1));
        assert_eq!(schedule.due(1) - schedule.due(0), Duration::from_micros(20));
        assert_eq!(schedule.within(Duration::from_secs(2)), 100_000);
    }

    #[test]
    fn a_record_is_counted_as_due_from_the_moment_it_is() {
        let schedule = Schedule::new(50_000);
        let third = schedule.due(3);
        assert_eq!(schedule.due_by(third), 4);
        assert_eq!(schedule.due_by(third - Duration::from_nanos(1)), 3);
        assert_eq!(schedule.due_by(schedule.due(0)), 1);
    }

    #[test]
    fn the_first_record_after_a_window_is_found_by_its_event_time() {
        for rate in [10_000, 50_000, 333] {
            let schedule = Schedule::new(rate);
            let end = EventTime::from_millis(schedule.base + 100);
            let first = schedule.first_at(end);
            assert!(schedule.event_time(first) >= end && schedule.event_time(first - 1) < end, "{rate}: {first}");
        }
    }
}
