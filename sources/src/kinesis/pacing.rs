//! When to call GetRecords next. Pure: a function of the last call, what it gave, and the settings.
//!
//! A shard allows five calls a second, shared by all that read it. Behind the end, or while records flow, calls come as
//! fast as the setting allows; at a quiet end they slow down gently, so that an idle shard costs little and the first
//! records after a pause still come within a second.

use std::time::{Duration, Instant};

/// What a shard allows, in calls a second: all its readers together.
pub(super) const CALLS_PER_SECOND: f64 = 5.0;

/// The default of the longest gap between two calls to a quiet shard.
pub(super) const IDLE_GAP: Duration = Duration::from_secs(1);

/// What the last call gave, as far as it decides about the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// How many records.
    pub(super) records: usize,
    /// How far behind the shard's end it was, in milliseconds; `None` where the service did not say.
    pub(super) millis_behind: Option<u64>,
}

/// The bounds of the gap between two calls to one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    shortest: Duration,
    longest: Duration,
}

impl Pace {
    /// At most `calls_per_second` (0.01 to 5, clamped), at least one call in `idle_gap` while the shard is quiet.
    pub(super) fn new(calls_per_second: f64, idle_gap: Duration) -> Self {
        let calls = if calls_per_second.is_finite() { calls_per_second } else { CALLS_PER_SECOND };
        let shortest = Duration::from_secs_f64(1.0 / calls.clamp(0.01, CALLS_PER_SECOND));
        Self { shortest, longest: idle_gap.max(shortest) }
    }

    /// The gap before the first call's successor, before anything is known.
    pub(super) fn shortest(&self) -> Duration {
        self.shortest
    }

    /// The longest gap: how long an answer that there is nothing may stand before the next call.
    pub(super) fn longest(&self) -> Duration {
        self.longest
    }

    /// The gap to leave after the last call, whose own gap was `last`.
    pub(super) fn gap(&self, last: Duration, answer: Answer) -> Duration {
        let busy = answer.records > 0 || answer.millis_behind.is_some_and(|millis| millis > 0);
        if busy { self.shortest } else { last.mul_f64(1.5).clamp(self.shortest, self.longest) }
    }
}

/// How long to wait at `now`, where the last call began at `last_call`: the gap counts from call to call, so that slow
/// answers do not slow the calls down.
pub(super) fn wait(now: Instant, last_call: Option<Instant>, gap: Duration) -> Duration {
    last_call.map_or(Duration::ZERO, |last| gap.saturating_sub(now.saturating_duration_since(last)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn default_pace() -> Pace {
        Pace::new(CALLS_PER_SECOND, IDLE_GAP)
    }

    fn answer(records: usize, millis_behind: u64) -> Answer {
        Answer { records, millis_behind: Some(millis_behind) }
    }

    #[test]
    fn a_reader_that_is_behind_or_gets_records_calls_as_fast_as_allowed() {
        let pace = default_pace();
        assert_eq!(pace.gap(IDLE_GAP, answer(0, 5000)), Duration::from_millis(200));
        assert_eq!(pace.gap(IDLE_GAP, answer(10, 0)), Duration::from_millis(200));
        assert_eq!(pace.gap(IDLE_GAP, Answer { records: 1, millis_behind: None }), Duration::from_millis(200));
    }

    #[test]
    fn a_quiet_shard_is_called_less_and_less_often_down_to_once_a_second() {
        let pace = default_pace();
        let mut gap = pace.shortest();
        let gaps: Vec<_> = std::iter::repeat_with(|| {
            gap = pace.gap(gap, answer(0, 0));
            gap.as_millis()
        })
        .take(6)
        .collect();
        assert_eq!(gaps, [300, 450, 675, 1000, 1000, 1000]);
    }

    #[test]
    fn the_gap_counts_from_call_to_call() {
        let start = Instant::now();
        let gap = Duration::from_millis(200);
        assert_eq!(wait(start, None, gap), Duration::ZERO);
        assert_eq!(wait(start + Duration::from_millis(50), Some(start), gap), Duration::from_millis(150));
        assert_eq!(wait(start + Duration::from_millis(500), Some(start), gap), Duration::ZERO);
    }

    #[test]
    fn settings_outside_their_range_are_clamped() {
        assert_eq!(Pace::new(100.0, Duration::ZERO).shortest(), Duration::from_millis(200));
        assert_eq!(Pace::new(0.0, IDLE_GAP).shortest(), Duration::from_secs(100));
        assert_eq!(Pace::new(f64::NAN, IDLE_GAP), default_pace());
        assert_eq!(Pace::new(-1.0, IDLE_GAP).gap(IDLE_GAP, answer(0, 0)), Duration::from_secs(100));
    }

    proptest! {
        #[test]
        fn no_six_calls_begin_within_one_second(
            answers in proptest::collection::vec((0usize..3, 0u64..3, 0u64..900), 6..60),
        ) {
            let pace = default_pace();
            let mut now = Instant::now();
            let (mut last, mut gap, mut calls) = (None, pace.shortest(), Vec::new());
            for (records, behind, took) in answers {
                now += wait(now, last, gap);
                calls.push(now);
                last = Some(now);
                now += Duration::from_millis(took);
                gap = pace.gap(gap, answer(records, behind));
            }
            for six in calls.windows(6) {
                prop_assert!(six[5] - six[0] >= Duration::from_secs(1));
            }
        }
    }
}
