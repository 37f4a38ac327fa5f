//! How fast to write: as fast as records come until the service asks to slow down, then at a pace that is lowered at once
//! and raised slowly. Pure: the time is handed in.
//!
//! The pace is in write units a second, which is what a table's capacity is measured in: one for each KiB of an item, at
//! least one. A table does not tell how much of its capacity is left for this job, so the pace is found by trying: each
//! throttle takes a part of it away, and every second without one adds a little. That is how TCP shares a line, and with it
//! the workers and jobs that write to one table come to a fair share of it without knowing of one another.

use std::time::{Duration, Instant};

/// What is left of the pace after a throttle.
const CUT: f64 = 0.7;

/// Calls that were on their way together are throttled together: that counts once.
const CUT_EVERY: Duration = Duration::from_millis(500);

/// The least pace: what is put off is written some day.
const LEAST: f64 = 1.0;

/// The pace where a throttle comes before anything was written.
const UNKNOWN: f64 = 50.0;

/// What a second without a throttle adds: this part of the pace at the last throttle, so that it takes some ten seconds to
/// come back to where it was.
const RAISE: f64 = 0.05;

/// And at least so much.
const LEAST_RAISE: f64 = 2.0;

/// A pace beyond which there is none to keep: more than a table gives a job before its quota is raised.
const UNBOUNDED: f64 = 200_000.0;

/// Pauses between writes do not raise the pace: it was not tried then.
const LONGEST_STEP: Duration = Duration::from_secs(1);

/// How long the measure of what is written goes back.
const MEASURED_OVER: Duration = Duration::from_secs(1);

/// The pace of one worker's writes.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// Units a second; `None`: as fast as they come.
    limit: Option<f64>,
    /// When the next write may begin.
    free_at: Option<Instant>,
    /// By how much a second without a throttle raises the limit.
    raise: f64,
    last_cut: Option<Instant>,
    last_raise: Option<Instant>,
    measure: Measure,
}

/// What was written lately.
#[derive(Debug, Clone, Default)]
struct Measure {
    since: Option<Instant>,
    units: f64,
    /// Units a second over the stretch before.
    before: f64,
}

impl Measure {
    fn add(&mut self, units: f64, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since);
        if passed >= MEASURED_OVER {
            *self = Self { since: Some(now), units: 0.0, before: self.units / passed.as_secs_f64() };
        }
        self.units += units;
    }

    /// Units a second; `None` before anything was written.
    fn rate(&self, now: Instant) -> Option<f64> {
        let passed = now.saturating_duration_since(self.since?).as_secs_f64();
        // Over a moment it says nothing; it is at least what the whole stretch would have.
        let so_far = self.units / passed.max(MEASURED_OVER.as_secs_f64() / 4.0);
        let rate = self.before.max(so_far);
        (rate > 0.0).then_some(rate)
    }
}

impl Pace {
    /// Without a limit.
    pub(super) fn new() -> Self {
        Self {
            limit: None,
            free_at: None,
            raise: LEAST_RAISE,
            last_cut: None,
            last_raise: None,
            measure: Measure::default(),
        }
    }

    /// Takes room for a write of so many units. Gives how long it has to wait before it begins.
    pub(super) fn take(&mut self, units: u64, now: Instant) -> Duration {
        let Some(limit) = self.limit else { return Duration::ZERO };
        let begins = self.free_at.filter(|at| *at > now).unwrap_or(now);
        let lasts = Duration::try_from_secs_f64(units as f64 / limit).unwrap_or(Duration::MAX);
        self.free_at = begins.checked_add(lasts);
        begins.saturating_duration_since(now)
    }

    /// So many units were written.
    pub(super) fn written(&mut self, units: u64, now: Instant) {
        self.measure.add(units as f64, now);
        let Some(limit) = &mut self.limit else { return };
        let since = self.last_raise.replace(now).or(self.last_cut);
        let passed = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)).min(LONGEST_STEP);
        *limit += self.raise * passed.as_secs_f64();
        if *limit > UNBOUNDED {
            (self.limit, self.free_at) = (None, None);
        }
    }

    /// The service asked to slow down. Gives whether the pace was lowered for it.
    pub(super) fn throttled(&mut self, now: Instant) -> bool {
        if self.last_cut.is_some_and(|last| now.saturating_duration_since(last) < CUT_EVERY) {
            return false;
        }
        // A limit far above what is written means nothing: what was written is what was too much.
        let limit = match (self.limit, self.measure.rate(now)) {
            (Some(limit), Some(rate)) => limit.min(rate.max(limit / 2.0)),
            (Some(limit), None) => limit,
            (None, rate) => rate.unwrap_or(UNKNOWN),
        };
        self.limit = Some((limit * CUT).max(LEAST));
        self.raise = (limit * RAISE).max(LEAST_RAISE);
        (self.last_cut, self.last_raise) = (Some(now), Some(now));
        true
    }

    /// Units a second; `None`: no limit.
    pub(super) fn limit(&self) -> Option<f64> {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn after(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn without_a_throttle_nothing_waits() {
        let (mut pace, start) = (Pace::new(), Instant::now());
        for n in 0..10_000 {
            assert_eq!(pace.take(1_000, after(start, f64::from(n) / 1e4)), Duration::ZERO);
            pace.written(1_000, after(start, f64::from(n) / 1e4));
        }
        assert_eq!(pace.limit(), None);
    }

    #[test]
    fn a_throttle_lowers_the_pace_to_below_what_was_written() {
        let (mut pace, start) = (Pace::new(), Instant::now());
        for n in 0..200 {
            pace.written(10, after(start, f64::from(n) / 100.0));
        }
        assert!(pace.throttled(after(start, 2.0)));
        let limit = pace.limit().unwrap();
        assert!((600.0..800.0).contains(&limit), "{limit}");
        // 100 units take their time, and the next wait for it.
        assert_eq!(pace.take(100, after(start, 2.0)), Duration::ZERO);
        let wait = pace.take(100, after(start, 2.0)).as_secs_f64();
        assert!((wait - 100.0 / limit).abs() < 1e-6, "{wait}");
    }

    #[test]
    fn throttles_that_come_together_count_once() {
        let (mut pace, start) = (Pace::new(), Instant::now());
        assert!(pace.throttled(start));
        let once = pace.limit();
        assert!(!pace.throttled(after(start, 0.1)) && !pace.throttled(after(start, 0.4)));
        assert_eq!(pace.limit(), once);
        assert!(pace.throttled(after(start, 0.6)));
        assert!(pace.limit() < once);
    }

    #[test]
    fn it_never_stops_altogether_and_never_waits_for_a_pause() {
        let (mut pace, start) = (Pace::new(), Instant::now());
        for n in 0..100 {
            pace.throttled(after(start, f64::from(n)));
        }
        assert_eq!(pace.limit(), Some(LEAST));
        pace.take(3, after(start, 100.0));
        assert_eq!(pace.take(1, after(start, 200.0)), Duration::ZERO);
    }

    #[test]
    fn it_is_raised_slowly_back_to_where_it_was_and_pauses_do_not_count() {
        let (mut pace, start) = (Pace::new(), Instant::now());
        for n in 0..200 {
            pace.written(10, after(start, f64::from(n) / 100.0));
        }
        pace.throttled(after(start, 2.0));
        let lowered = pace.limit().unwrap();
        let mut second = 0.0;
        while pace.limit().unwrap() < lowered / CUT {
            second += 0.1;
            pace.written(1, after(start, 2.0 + second));
        }
        assert!((4.0..12.0).contains(&second), "{second}");
        let before = pace.limit().unwrap();
        pace.written(1, after(start, 10_000.0));
        assert!(pace.limit().unwrap() - before <= before / 10.0);
    }

    #[test]
    fn after_a_long_time_without_throttles_there_is_no_limit() {
        let (mut pace, start) = (Pace::new(), Instant::now());
        pace.throttled(start);
        let mut second = 0.0;
        while pace.limit().is_some() {
            second += 1.0;
            pace.written(1, after(start, second));
            assert!(second < 1e6);
        }
        assert!(second > 1_000.0);
    }

    /// A table that gives so many units a second and throttles what is more, and a writer that is always busy. Gives what was
    /// written and what was throttled, both a second.
    fn run(capacity: f64, workers: usize, seconds: f64) -> (f64, f64, Vec<f64>) {
        let start = Instant::now();
        let mut paces = vec![Pace::new(); workers];
        let (mut written, mut throttled, mut each) = (0.0, 0.0, vec![0.0; workers]);
        // Half a second of capacity may be saved.
        let (mut room, mut last) = (capacity / 2.0, 0.0);
        let mut due: VecDeque<(f64, usize)> = (0..workers).map(|worker| (worker as f64 / 1e3, worker)).collect();
        while let Some((time, worker)) = due.pop_front().filter(|(time, _)| *time < seconds) {
            room = f64::min(room + (time - last) * capacity, capacity / 2.0);
            last = time;
            let now = after(start, time);
            if room >= 25.0 {
                room -= 25.0;
                written += 25.0;
                each[worker] += 25.0;
                paces[worker].written(25, now);
            } else {
                throttled += 25.0;
                paces[worker].throttled(now);
            }
            // A call takes 5 ms.
            let next = time + 0.005 + paces[worker].take(25, now).as_secs_f64();
            let at = due.iter().position(|(other, _)| *other > next).unwrap_or(due.len());
            due.insert(at, (next, worker));
        }
        (written / seconds, throttled / seconds, each)
    }

    #[test]
    fn workers_that_share_a_table_use_it_and_come_to_like_shares() {
        for (capacity, workers) in [(200.0, 1), (1_000.0, 1), (1_000.0, 4), (4_000.0, 3)] {
            let (written, throttled, each) = run(capacity, workers, 300.0);
            assert!(written > 0.7 * capacity, "{capacity} {workers}: only {written} of it is used");
            assert!(throttled < 0.2 * capacity, "{capacity} {workers}: {throttled} are throttled");
            let (least, most) = each.iter().fold((f64::MAX, 0.0_f64), |(least, most), n| (least.min(*n), most.max(*n)));
            assert!(least > most / 3.0, "{capacity} {workers}: {each:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_happens_the_limit_stays_in_its_bounds(events in proptest::collection::vec((0u8..3, 0u64..5_000, 0u32..3_000), 0..200)) {
            let (mut pace, mut now) = (Pace::new(), Instant::now());
            for (event, units, millis) in events {
                now += Duration::from_millis(u64::from(millis));
                let before = pace.limit();
                match event {
                    0 => pace.written(units, now),
                    1 => drop(pace.take(units, now)),
                    _ => if pace.throttled(now) {
                        prop_assert!(before.is_none_or(|before| pace.limit().unwrap() <= before.max(LEAST)));
                    },
                }
                prop_assert!(pace.limit().is_none_or(|limit| (LEAST..=UNBOUNDED).contains(&limit)));
            }
        }
    }
}
