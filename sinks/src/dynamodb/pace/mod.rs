//! How fast to write: as fast as records come until the service asks to slow down, then at a pace that is lowered at once
//! and found anew. Pure: the time is handed in.
//!
//! The pace is in write units a second, which is what a table's capacity is measured in: one for each KiB of an item, at
//! least one. A table does not tell how much of its capacity is left for this job, so the pace is found by trying, as TCP
//! shares a line: the workers and jobs that write to one table come to a fair share of it without knowing of one another.
//! How the pace falls and rises is told at [`rate`].
//!
//! A call takes its units before it is made, and what was not written is given back. What is taken may be more than there
//! is: then the next call waits until the pace has made up for it, though for [`LONGEST`] at most. So nobody waits for minutes
//! on a pace that was true for a moment, and that a table is free again is found out within seconds.

mod measure;
mod rate;
#[cfg(test)]
mod simulated;

use std::time::{Duration, Instant};

use rate::Rate;

/// The longest that calls wait before one is tried.
const LONGEST: Duration = Duration::from_secs(5);

/// What may be saved up, as time at the pace: a call that begins a little late loses nothing.
const SAVED: Duration = Duration::from_millis(50);

/// What a call costs that wrote nothing, as time at the pace: a busy table is not called over and over.
const ATTEMPT: Duration = Duration::from_millis(250);

/// How soon one who waits asks again: by then the pace may have risen, or something may have been given back.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// A shorter wait is none.
const SHORTEST: Duration = Duration::from_millis(1);

/// The pace of one worker's writes.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    rate: Rate,
    /// Units that may be taken at once; below zero where more was taken than there was.
    room: f64,
    /// When the room was reckoned.
    at: Option<Instant>,
}

/// What a call has taken, in units.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Taken(f64);

/// Whether a call may begin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Turn {
    Begin(Taken),
    /// Not before so long: then ask again.
    Wait(Duration),
}

impl Pace {
    /// Whether a write of so many units may begin.
    pub(super) fn take(&mut self, units: u64, now: Instant) -> Turn {
        let Some(limit) = self.rate.limit() else { return Turn::Begin(Taken::default()) };
        self.reckon(limit, now);
        if self.room < 0.0 {
            let wait = Duration::try_from_secs_f64(-self.room / limit).unwrap_or(ASK_AGAIN);
            return Turn::Wait(wait.clamp(SHORTEST, ASK_AGAIN));
        }
        let before = self.room;
        self.room = (before - units as f64).max(most_owed(limit));
        Turn::Begin(Taken(before - self.room))
    }

    /// Of what a call has taken this part, of 1, was not written.
    pub(super) fn unused(&mut self, taken: Taken, part: f64, now: Instant) {
        let Some(limit) = self.rate.limit() else { return };
        self.reckon(limit, now);
        let unused = taken.0 * part.clamp(0.0, 1.0);
        self.room += (unused - limit * ATTEMPT.as_secs_f64()).max(0.0);
        self.room = self.room.min(most_saved(limit));
    }

    /// So many units were written.
    pub(super) fn written(&mut self, units: u64, now: Instant) {
        if let Some(limit) = self.rate.limit() {
            self.reckon(limit, now);
        }
        self.rate.written(units, now);
    }

    /// The service asked to slow down. Gives whether the pace was lowered for it.
    pub(super) fn throttled(&mut self, now: Instant) -> bool {
        match self.rate.limit() {
            Some(limit) => self.reckon(limit, now),
            // Calls that are on their way have taken nothing.
            None => (self.room, self.at) = (0.0, Some(now)),
        }
        self.rate.throttled(now)
    }

    /// Units a second; `None`: no limit.
    pub(super) fn limit(&self) -> Option<f64> {
        self.rate.limit()
    }

    /// Brings the room up to now.
    fn reckon(&mut self, limit: f64, now: Instant) {
        let passed = self.at.replace(now).map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let room = self.room + limit * passed.as_secs_f64();
        self.room = room.clamp(most_owed(limit), most_saved(limit));
    }
}

fn most_owed(limit: f64) -> f64 {
    -limit * LONGEST.as_secs_f64()
}

fn most_saved(limit: f64) -> f64 {
    limit * SAVED.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    /// A pace that was throttled after it wrote so many units a second for two seconds, and when that was.
    fn throttled_at(rate: u32) -> (Pace, Instant) {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for n in 0..200 {
            pace.written(u64::from(rate / 100), after(start, f64::from(n) / 100.0));
        }
        let now = after(start, 2.0);
        assert!(pace.throttled(now));
        (pace, now)
    }

    fn taken(pace: &mut Pace, units: u64, now: Instant) -> Taken {
        match pace.take(units, now) {
            Turn::Begin(taken) => taken,
            Turn::Wait(wait) => panic!("it has to wait for {wait:?}"),
        }
    }

    /// How long a call that asks as often as it is told to waits, in seconds.
    fn waits(pace: &mut Pace, units: u64, mut now: Instant) -> f64 {
        let begun = now;
        while let Turn::Wait(wait) = pace.take(units, now) {
            assert!((SHORTEST..=ASK_AGAIN).contains(&wait), "{wait:?}");
            now += wait;
        }
        now.duration_since(begun).as_secs_f64()
    }

    #[test]
    fn without_a_throttle_nothing_waits() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for n in 0..10_000 {
            let now = after(start, f64::from(n) / 1e4);
            assert_eq!(pace.take(1_000, now), Turn::Begin(Taken(0.0)));
            pace.written(1_000, now);
        }
        assert_eq!(pace.limit(), None);
    }

    #[test]
    fn what_was_taken_takes_its_time_and_the_next_waits_for_it() {
        let (mut pace, now) = throttled_at(1_000);
        let limit = pace.limit().unwrap();
        assert!((600.0..800.0).contains(&limit), "{limit}");
        taken(&mut pace, 100, now);
        let waited = waits(&mut pace, 100, now);
        assert!((waited - 100.0 / limit).abs() < 0.002, "{waited}");
    }

    #[test]
    fn what_was_refused_is_given_back_but_for_the_attempt() {
        let (mut pace, now) = throttled_at(1_000);
        let large = taken(&mut pace, 10_000, now);
        let seconds = waits(&mut pace.clone(), 1, now);
        assert!((4.9..5.1).contains(&seconds), "{seconds}");
        pace.unused(large, 1.0, now);
        let seconds = waits(&mut pace, 1, now);
        assert!((0.2..0.3).contains(&seconds), "{seconds}");
        // Of a call of which a half was put off a half is given back.
        let (mut pace, now) = throttled_at(1_000);
        let half = taken(&mut pace, 1_400, now);
        pace.unused(half, 0.5, now);
        let seconds = waits(&mut pace, 1, now);
        assert!((1.1..1.4).contains(&seconds), "{seconds}");
        // A small one that is refused has cost what it would have.
        let (mut pace, now) = throttled_at(1_000);
        let small = taken(&mut pace, 10, now);
        let before = pace.room;
        pace.unused(small, 1.0, now);
        assert!((pace.room - before).abs() < 1e-9);
    }

    #[test]
    fn what_was_taken_without_a_limit_is_not_given_back() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let free = taken(&mut pace, 10_000, now);
        pace.throttled(now);
        pace.unused(free, 1.0, now);
        taken(&mut pace, 1, now);
        assert!(matches!(pace.take(1, now), Turn::Wait(_)));
    }

    #[test]
    fn nobody_waits_for_minutes_however_large_the_items_and_low_the_pace() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for _ in 0..40 {
            pace.throttled(now);
            now += Duration::from_secs(1);
        }
        assert!(pace.limit().unwrap() <= 1.0);
        for _ in 0..20 {
            // All of it is written: it counts in full, and nothing is given back.
            taken(&mut pace, 10_000, now);
            let seconds = waits(&mut pace.clone(), 10_000, now);
            assert!(seconds <= LONGEST.as_secs_f64() + 0.1, "{seconds}");
            now = after(now, seconds);
        }
    }

    #[test]
    fn a_wait_is_shorter_once_the_pace_has_risen() {
        let (mut pace, now) = throttled_at(1_000);
        taken(&mut pace, 3_000, now);
        let as_it_was = waits(&mut pace.clone(), 1, now);
        for n in 1..=40 {
            pace.written(100, after(now, f64::from(n) / 20.0));
        }
        let later = after(now, 2.0);
        let risen = 2.0 + waits(&mut pace, 1, later);
        assert!(risen < as_it_was - 0.3, "{risen} s, and {as_it_was} s as it was");
    }

    #[test]
    fn a_pause_saves_up_a_moment_and_no_more() {
        let (mut pace, now) = throttled_at(1_000);
        let later = after(now, 1_000.0);
        let limit = pace.limit().unwrap();
        let mut units = 0;
        while let Turn::Begin(_) = pace.take(1, later) {
            units += 1;
        }
        assert!(f64::from(units) <= limit * 0.05 + 2.0, "{units}");
    }

    proptest! {
        #[test]
        fn whatever_happens_waits_and_limits_stay_in_their_bounds(
            events in proptest::collection::vec((0u8..4, 0u64..20_000, 0u32..3_000), 0..200),
        ) {
            let (mut pace, mut now, mut last) = (Pace::default(), Instant::now(), Taken::default());
            for (event, units, millis) in events {
                now += Duration::from_millis(u64::from(millis));
                let before = pace.limit();
                match event {
                    0 => pace.written(units, now),
                    1 => match pace.take(units, now) {
                        Turn::Begin(taken) => {
                            prop_assert!(taken.0 <= units as f64 + 1e-6);
                            last = taken;
                        }
                        Turn::Wait(wait) => prop_assert!(wait <= ASK_AGAIN),
                    },
                    2 => pace.unused(std::mem::take(&mut last), units as f64 / 20_000.0, now),
                    _ => if pace.throttled(now) {
                        prop_assert!(before.is_none_or(|before| pace.limit().unwrap() <= before.max(1.0)));
                    },
                }
                if let Some(limit) = pace.limit() {
                    prop_assert!((1.0..=200_000.0).contains(&limit));
                    prop_assert!(waits(&mut pace.clone(), 1, now) <= LONGEST.as_secs_f64() + 0.1);
                }
            }
        }
    }
}
