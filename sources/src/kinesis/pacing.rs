//! When to call GetRecords next. Pure: a function of the last call, what it gave, and the settings.
//!
//! A shard allows five calls and 2 MiB a second, shared by all that poll it. Behind the end, or while records flow, calls
//! come as fast as our share of that allows; at a quiet end they slow down gently, so that an idle shard costs little and the
//! first records after a pause still come within a second.

use std::time::{Duration, Instant};

/// What a shard allows, in calls a second: all its readers together.
pub(crate) const CALLS_PER_SECOND: f64 = 5.0;

/// What a shard allows, in bytes a second: all its readers together that do not have a throughput of their own. An answer
/// of 10 MiB uses up five seconds of it, after which the service refuses calls for as long.
pub(crate) const BYTES_PER_SECOND: u64 = 2 << 20;

/// The default of the longest gap between two calls to a quiet shard.
pub(crate) const IDLE_GAP: Duration = Duration::from_secs(1);

/// What the last call gave, as far as it decides about the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// How many records.
    pub(crate) records: usize,
    /// How many bytes of data.
    pub(crate) bytes: u64,
    /// How far behind the shard's end it was, in milliseconds; `None` where the service did not say.
    pub(crate) millis_behind: Option<u64>,
}

/// How much of what a shard allows this job may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Allowance {
    /// Calls a second: 0.01 to 5.
    pub(crate) calls: f64,
    /// Bytes a second: at least 1 KiB.
    pub(crate) bytes: u64,
    /// How many other programs poll the same shards; they get as much each.
    pub(crate) others: u32,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { calls: CALLS_PER_SECOND, bytes: BYTES_PER_SECOND, others: 0 }
    }
}

/// The bounds of the gap between two calls to one shard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pace {
    shortest: Duration,
    longest: Duration,
    bytes_per_second: f64,
}

impl Pace {
    /// No more than what is allowed, clamped to its ranges; at least one call in `idle_gap` while the shard is quiet.
    pub(crate) fn new(allowance: Allowance, idle_gap: Duration) -> Self {
        let calls = if allowance.calls.is_finite() { allowance.calls } else { CALLS_PER_SECOND };
        let readers = f64::from(allowance.others) + 1.0;
        let shortest = Duration::from_secs_f64(readers / calls.clamp(0.01, CALLS_PER_SECOND));
        let bytes_per_second = allowance.bytes.max(1 << 10) as f64 / readers;
        Self { shortest, longest: idle_gap.max(shortest), bytes_per_second }
    }

    /// The gap before the first call's successor, before anything is known.
    pub(crate) fn shortest(&self) -> Duration {
        self.shortest
    }

    /// The longest gap of a quiet shard: how long an answer that there is nothing may stand before the next call.
    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    /// The gap to leave after the last call, whose own gap was `last`.
    pub(crate) fn gap(&self, last: Duration, answer: Answer) -> Duration {
        let busy = answer.records > 0 || answer.millis_behind.is_some_and(|millis| millis > 0);
        if busy {
            self.shortest.max(Duration::from_secs_f64(answer.bytes as f64 / self.bytes_per_second))
        } else {
            last.mul_f64(1.5).clamp(self.shortest, self.longest)
        }
    }
}

/// How long to wait at `now`, where the last call began at `last_call`: the gap counts from call to call, so that slow
/// answers do not slow the calls down.
pub(crate) fn wait(now: Instant, last_call: Option<Instant>, gap: Duration) -> Duration {
    last_call.map_or(Duration::ZERO, |last| gap.saturating_sub(now.saturating_duration_since(last)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn default_pace() -> Pace {
        Pace::new(Allowance::default(), IDLE_GAP)
    }

    fn with_calls(calls: f64, idle_gap: Duration) -> Pace {
        Pace::new(Allowance { calls, ..Allowance::default() }, idle_gap)
    }

    fn answer(records: usize, millis_behind: u64) -> Answer {
        Answer { records, bytes: 0, millis_behind: Some(millis_behind) }
    }

    #[test]
    fn a_reader_that_is_behind_or_gets_records_calls_as_fast_as_allowed() {
        let pace = default_pace();
        assert_eq!(pace.gap(IDLE_GAP, answer(0, 5000)), Duration::from_millis(200));
        assert_eq!(pace.gap(IDLE_GAP, answer(10, 0)), Duration::from_millis(200));
        assert_eq!(
            pace.gap(IDLE_GAP, Answer { records: 1, bytes: 1, millis_behind: None }),
            Duration::from_millis(200)
        );
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
        assert_eq!(with_calls(100.0, Duration::ZERO).shortest(), Duration::from_millis(200));
        assert_eq!(with_calls(0.0, IDLE_GAP).shortest(), Duration::from_secs(100));
        assert_eq!(with_calls(f64::NAN, IDLE_GAP), default_pace());
        assert_eq!(with_calls(-1.0, IDLE_GAP).gap(IDLE_GAP, answer(0, 0)), Duration::from_secs(100));
    }

    #[test]
    fn what_other_readers_may_use_is_left_to_them() {
        let pace = Pace::new(Allowance { others: 1, ..Allowance::default() }, IDLE_GAP);
        assert_eq!(pace.shortest(), Duration::from_millis(400));
        let large = Answer { records: 1, bytes: 2 << 20, millis_behind: Some(0) };
        assert_eq!(pace.gap(IDLE_GAP, large), Duration::from_secs(2));
    }

    #[test]
    fn a_large_answer_uses_up_the_time_in_which_the_service_would_refuse_the_next() {
        let whole = Answer { records: 1, bytes: 10 << 20, millis_behind: Some(9) };
        assert_eq!(default_pace().gap(IDLE_GAP, whole), Duration::from_secs(5));
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
