//! Workers that write to a table as the engine has them do it, in simulated time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use super::{LONGEST, Pace, Taken, Turn};

/// How long a call takes.
const CALL: u64 = 2_000;
const SECOND: u64 = 1_000_000;

/// A table: units a second by the time in microseconds. It saves up half a second's worth.
struct Table<C> {
    capacity: C,
    room: f64,
    at: u64,
}

impl<C: Fn(u64) -> f64> Table<C> {
    fn takes(&mut self, units: f64, now: u64) -> bool {
        let capacity = (self.capacity)(now);
        self.room = (self.room + (now - self.at) as f64 / 1e6 * capacity).min((capacity / 2.0).max(units));
        self.at = now;
        let takes = self.room >= units;
        if takes {
            self.room -= units;
        }
        takes
    }
}

/// What happens next to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    /// It asks whether it may begin, behind those of its worker that asked before.
    Asks,
    /// It is answered: with success or not.
    Answered(bool),
}

struct Worker {
    pace: Pace,
    /// Those that wait for their turn; the first asks for all.
    waiting: VecDeque<usize>,
    written: u64,
}

/// What came of it, second by second.
struct Seen {
    written: Vec<u64>,
    throttled: Vec<u64>,
    by_worker: Vec<u64>,
    /// The longest time between two calls of a worker.
    longest: Duration,
}

impl Seen {
    /// Units a second over these seconds.
    fn rate(of: &[u64], from: usize, to: usize) -> f64 {
        of[from..to].iter().sum::<u64>() as f64 / (to - from) as f64
    }

    /// The first second from which on so much is written each second for three seconds.
    fn reaches(&self, rate: f64) -> usize {
        let windows = self.written.windows(3);
        windows.map(|three| three.iter().sum::<u64>() as f64 / 3.0).position(|seen| seen >= rate).unwrap_or(usize::MAX)
    }

    /// The share of units that are throttled over these seconds.
    fn share_throttled(&self, from: usize, to: usize) -> f64 {
        let (written, throttled) = (Self::rate(&self.written, from, to), Self::rate(&self.throttled, from, to));
        throttled / (written + throttled)
    }
}

/// Runs `workers` with 32 calls each at a time, of so many units, for so many seconds.
fn run(capacity: impl Fn(u64) -> f64, workers: usize, units: u64, seconds: u64) -> Seen {
    const CALLS: usize = 32;
    let start = Instant::now();
    let instant = |micros| start + Duration::from_micros(micros);
    let mut table = Table { capacity, room: 0.0, at: 0 };
    let mut all: Vec<Worker> =
        (0..workers).map(|_| Worker { pace: Pace::default(), waiting: VecDeque::new(), written: 0 }).collect();
    let (mut taken, mut failures) = (vec![Taken::default(); workers * CALLS], vec![0_u32; workers * CALLS]);
    let mut seen = Seen {
        written: vec![0; seconds as usize],
        throttled: vec![0; seconds as usize],
        by_worker: Vec::new(),
        longest: Duration::ZERO,
    };
    let mut last = vec![0_u64; workers];
    let mut events = BinaryHeap::new();
    // Workers do not start at once.
    (0..workers * CALLS).for_each(|call| events.push(Reverse((call as u64 * 100, call, Next::Asks))));
    while let Some(Reverse((now, call, next))) = events.pop().filter(|Reverse((now, ..))| *now < seconds * SECOND) {
        let of = call / CALLS;
        let worker = &mut all[of];
        match next {
            Next::Asks => {
                if !worker.waiting.contains(&call) {
                    worker.waiting.push_back(call);
                }
                if worker.waiting.front() != Some(&call) {
                    continue;
                }
                match worker.pace.take(units, instant(now)) {
                    Turn::Wait(wait) => events.push(Reverse((now + wait.as_micros() as u64, call, Next::Asks))),
                    Turn::Begin(took) => {
                        taken[call] = took;
                        worker.waiting.pop_front();
                        worker.waiting.front().iter().for_each(|next| events.push(Reverse((now, **next, Next::Asks))));
                        seen.longest = seen.longest.max(Duration::from_micros(now - last[of]));
                        last[of] = now;
                        let takes = table.takes(units as f64, now);
                        events.push(Reverse((now + CALL, call, Next::Answered(takes))));
                    }
                }
            }
            Next::Answered(true) => {
                seen.written[(now / SECOND) as usize] += units;
                worker.written += units;
                worker.pace.written(units, instant(now));
                failures[call] = 0;
                events.push(Reverse((now, call, Next::Asks)));
            }
            Next::Answered(false) => {
                seen.throttled[(now / SECOND) as usize] += units;
                worker.pace.unused(taken[call], 1.0, instant(now));
                worker.pace.throttled(instant(now));
                // As the engine waits: longer each time, and differently for each call.
                let wait = (200_000_u64 << failures[call].min(5)).min(5 * SECOND) / 4 * (2 + call as u64 % 3);
                failures[call] += 1;
                events.push(Reverse((now + wait, call, Next::Asks)));
            }
        }
    }
    seen.by_worker = all.iter().map(|worker| worker.written).collect();
    seen
}

#[test]
fn a_table_is_used_and_seldom_throttles_and_workers_come_to_like_shares() {
    for (capacity, workers) in [(200.0, 1), (1_000.0, 1), (10_000.0, 1), (1_000.0, 4), (4_000.0, 3), (10_000.0, 8)] {
        for units in [1, 25] {
            let seen = run(|_| capacity, workers, units, 300);
            let written = Seen::rate(&seen.written, 60, 300);
            assert!(written > 0.8 * capacity, "{capacity} {workers} {units}: only {written} of it is used");
            let throttled = seen.share_throttled(60, 300);
            assert!(throttled < 0.05, "{capacity} {workers} {units}: {throttled} of it is throttled");
            let (least, most) = (seen.by_worker.iter().min().unwrap(), seen.by_worker.iter().max().unwrap());
            assert!(*least * 3 > *most, "{capacity} {workers} {units}: {:?}", seen.by_worker);
        }
    }
}

#[test]
fn after_an_early_throttle_a_table_that_is_free_is_used_within_some_tens_of_seconds() {
    for capacity in [1_000.0, 10_000.0] {
        for (busy, workers) in [(0.1, 1), (0.1, 4), (2.0, 1), (20.0, 1), (20.0, 4)] {
            // Busy with other jobs' writes to its last unit, and then no more.
            let seen = run(|now| if (now as f64) < busy * 1e6 { 0.0 } else { capacity }, workers, 1, 90);
            let reached = seen.reaches(0.85 * capacity) as f64 - busy;
            eprintln!("{capacity}, busy for {busy} s, {workers} workers: used after {reached} s");
            assert!(reached <= 40.0, "{capacity}, busy for {busy} s, {workers} workers: used after {reached} s");
            let throttled = seen.share_throttled(60, 90);
            assert!(throttled < 0.05, "{capacity}, busy for {busy} s: {throttled} of it is throttled");
        }
    }
}

#[test]
fn a_table_that_becomes_smaller_or_larger_is_followed() {
    let seen = run(|now| if now < 60 * SECOND { 10_000.0 } else { 500.0 }, 2, 1, 180);
    assert!(Seen::rate(&seen.written, 70, 180) > 400.0 && seen.share_throttled(70, 180) < 0.05);
    let seen = run(|now| if now < 60 * SECOND { 500.0 } else { 10_000.0 }, 2, 1, 180);
    assert!(Seen::rate(&seen.written, 100, 180) > 8_000.0 && seen.share_throttled(100, 180) < 0.05);
}

#[test]
fn calls_of_the_largest_items_are_tried_again_within_seconds_while_a_table_refuses_all() {
    // 25 items of 400 KB, and a table that takes nothing for a minute and then two such calls a second.
    let seen = run(|now| if now < 60 * SECOND { 0.0 } else { 20_000.0 }, 1, 10_000, 150);
    assert!(seen.longest <= 2 * LONGEST, "{:?} without a call", seen.longest);
    assert!(Seen::rate(&seen.written, 60, 75) > 0.0, "it is found out that the table is free");
    assert!(Seen::rate(&seen.written, 110, 150) > 10_000.0, "{}", Seen::rate(&seen.written, 110, 150));
}
