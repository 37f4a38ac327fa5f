//! The pace's limit: how it falls with a throttle and rises without. Pure.
//!
//! A throttle takes 30 % away. From there the limit rises as in CUBIC (RFC 9438), which the AWS SDKs' adaptive retries use
//! too: quickly towards where the throttle came, slowly around it, and then ever faster, since a table that has not refused
//! for long may take far more than it did. A table of 1,000 units a second is found to its limit again after some 9 s, and
//! one that has become ten times as large after 30 s.
//!
//! Where a throttle comes before it is known what the table takes (a job that starts again while the table is busy), there
//! is no such place. Then the limit doubles each second, until the next throttle says where it is.
//!
//! What is not used says nothing: the limit never rises beyond twice what is written.

use std::time::{Duration, Instant};

use super::measure::Measure;

/// What is left of the limit after a throttle.
const CUT: f64 = 0.7;

/// Calls that were on their way together are throttled together: that counts once.
const CUT_EVERY: Duration = Duration::from_millis(500);

/// The least limit: what is put off is written some day.
const LEAST: f64 = 1.0;

/// The limit where a throttle comes before anything is known, and what is not worth holding back from.
const UNKNOWN: f64 = 50.0;

/// How sharply the limit rises, in units a second per second cubed: the SDKs' number.
const SCALE: f64 = 0.4;

/// How far the limit may be above what is written.
const ABOVE_WRITTEN: f64 = 2.0;

/// A limit beyond which there is none to keep: more than a table gives a job before its quota is raised.
const UNBOUNDED: f64 = 200_000.0;

/// The limit of one worker's writes, in units a second.
#[derive(Debug, Clone, Default)]
pub(super) struct Rate {
    /// `None`: as fast as records come.
    limit: Option<Limit>,
    measure: Measure,
}

#[derive(Debug, Clone, Copy)]
struct Limit {
    now: f64,
    last_cut: Instant,
    /// Right after the cut.
    lowered: f64,
    rises: Rises,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rises {
    /// Twice each second: what the table takes is not known.
    Doubling,
    /// Around the limit at which the throttle came.
    Around(f64),
}

impl Limit {
    /// The limit so many seconds after the cut.
    fn after(&self, seconds: f64) -> f64 {
        match self.rises {
            Rises::Doubling => self.lowered * seconds.exp2(),
            Rises::Around(before) => {
                let back = ((before - self.lowered) / SCALE).cbrt();
                before + SCALE * (seconds - back).powi(3)
            }
        }
    }
}

impl Rate {
    /// So many units were written.
    pub(super) fn written(&mut self, units: u64, now: Instant) {
        self.measure.add(units, now);
        let Some(limit) = &mut self.limit else { return };
        let risen = limit.after(now.saturating_duration_since(limit.last_cut).as_secs_f64());
        let used = (self.measure.rate(now) * ABOVE_WRITTEN).max(UNKNOWN);
        limit.now = limit.now.max(risen.min(used));
        if limit.now > UNBOUNDED {
            self.limit = None;
        }
    }

    /// The service asked to slow down. Gives whether the limit was lowered for it.
    pub(super) fn throttled(&mut self, now: Instant) -> bool {
        if self.limit.is_some_and(|limit| now.saturating_duration_since(limit.last_cut) < CUT_EVERY) {
            return false;
        }
        let written = self.measure.rate(now);
        let (before, is_known) = match self.limit {
            // A limit far above what is written means nothing: what was written is what was too much.
            Some(limit) => (limit.now.min(written.max(limit.now / 2.0)), true),
            None if self.measure.is_whole(now) => (written, true),
            None => (written.max(UNKNOWN), false),
        };
        let lowered = (before * CUT).max(LEAST);
        let rises = if is_known { Rises::Around(before.max(lowered)) } else { Rises::Doubling };
        self.limit = Some(Limit { now: lowered, last_cut: now, lowered, rises });
        true
    }

    /// Units a second; `None`: no limit.
    pub(super) fn limit(&self) -> Option<f64> {
        self.limit.map(|limit| limit.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    /// Writes as much as the limit allows for so many seconds, from `begin` on.
    fn write(rate: &mut Rate, start: Instant, begin: f64, seconds: f64) {
        for n in 0..(seconds * 20.0) as u32 {
            let units = rate.limit().unwrap_or(1_000.0) / 20.0;
            rate.written(units.ceil() as u64, after(start, begin + f64::from(n) / 20.0));
        }
    }

    #[test]
    fn a_throttle_lowers_the_limit_to_below_what_was_written_and_those_that_come_together_count_once() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        write(&mut rate, start, 0.0, 2.0);
        assert!(rate.throttled(after(start, 2.0)));
        let once = rate.limit().unwrap();
        assert!((600.0..800.0).contains(&once), "{once}");
        assert!(!rate.throttled(after(start, 2.1)) && !rate.throttled(after(start, 2.4)));
        assert_eq!(rate.limit(), Some(once));
        assert!(rate.throttled(after(start, 2.6)) && rate.limit() < Some(once));
    }

    #[test]
    fn it_never_stops_altogether() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        for n in 0..100 {
            rate.throttled(after(start, f64::from(n)));
        }
        assert_eq!(rate.limit(), Some(LEAST));
    }

    #[test]
    fn it_rises_back_quickly_stays_a_while_and_then_rises_ever_faster() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        write(&mut rate, start, 0.0, 2.0);
        rate.throttled(after(start, 2.0));
        let before = rate.limit().unwrap() / CUT;
        let mut at = |from: f64, to: f64| {
            write(&mut rate, start, 2.0 + from, to - from);
            rate.limit().unwrap() / before
        };
        let (soon, back, around, later) = (at(0.0, 4.5), at(4.5, 9.0), at(9.0, 12.0), at(12.0, 40.0));
        assert!((0.93..0.98).contains(&soon), "{soon}");
        assert!((0.99..1.01).contains(&back), "{back}");
        assert!((1.0..1.05).contains(&around), "{around}");
        assert!(later > 9.0, "{later}");
    }

    #[test]
    fn a_throttle_before_anything_is_known_is_not_taken_for_what_the_table_takes() {
        for written in [0, 3] {
            let (mut rate, start) = (Rate::default(), Instant::now());
            if written > 0 {
                rate.written(written, start);
            }
            rate.throttled(after(start, 0.005));
            assert_eq!(rate.limit(), Some(UNKNOWN * CUT));
            write(&mut rate, start, 0.01, 5.0);
            let risen = rate.limit().unwrap();
            assert!(risen > 500.0, "{written}: {risen} after 5 s");
            write(&mut rate, start, 5.01, 6.0);
            let risen = rate.limit().unwrap();
            assert!(risen > 10_000.0, "{written}: {risen} after 11 s");
        }
    }

    #[test]
    fn what_is_not_used_does_not_raise_it() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        write(&mut rate, start, 0.0, 2.0);
        rate.throttled(after(start, 2.0));
        // What was written before counts for a second.
        for n in 0..1_000 {
            rate.written(1, after(start, 3.0 + f64::from(n)));
        }
        let limit = rate.limit().unwrap();
        assert!(limit < 1_000.0, "{limit}");
    }

    #[test]
    fn beyond_what_any_table_gives_there_is_no_limit() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        rate.throttled(start);
        write(&mut rate, start, 0.0, 60.0);
        assert_eq!(rate.limit(), None);
    }
}
