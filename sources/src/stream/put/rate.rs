//! How many records may go now, at a given rate. Pure: time is handed in.

use std::time::{Duration, Instant};

/// Of how many seconds' records a call may hold at most: fewer and larger calls, without bursts that the shards would feel.
const BURST_SECONDS: f64 = 0.1;

/// The least rate, in records a second: below it nobody would wait.
const LEAST: f64 = 0.001;

/// A bucket that fills at the rate, and from which records are taken.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: f64,
    tokens: f64,
    at: Instant,
}

impl Rate {
    /// So many records a second, from `now` on.
    pub(super) fn new(per_second: f64, now: Instant) -> Self {
        let per_second = if per_second.is_finite() { per_second.max(LEAST) } else { f64::MAX };
        Self { per_second, tokens: 1.0, at: now }
    }

    fn most(&self) -> f64 {
        (self.per_second * BURST_SECONDS).max(1.0)
    }

    /// How many records may go at `now`, or how long to wait until it pays to ask again. `waiting` have to go in all.
    pub(super) fn allows(&mut self, now: Instant, waiting: usize) -> Result<usize, Duration> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = (self.tokens + passed * self.per_second).min(self.most());
        let worth_it = self.most().floor().min(waiting.max(1) as f64);
        if self.tokens >= worth_it {
            return Ok(self.tokens as usize);
        }
        // Rounded up, or the last wait would be too short for ever.
        let seconds = ((worth_it - self.tokens) / self.per_second).min(1e6);
        Err(Duration::from_secs_f64(seconds) + Duration::from_micros(1))
    }

    /// So many went.
    pub(super) fn spend(&mut self, records: usize) {
        self.tokens = (self.tokens - records as f64).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_more_go_than_the_rate_and_one_burst_and_no_fewer_than_the_rate(
            per_second in 0.5f64..100_000.0, waits in proptest::collection::vec(0u64..50, 0..200),
        ) {
            let start = Instant::now();
            let (mut rate, mut now, mut sent) = (Rate::new(per_second, start), start, 0);
            for late in waits {
                match rate.allows(now, 100_000) {
                    Ok(records) => {
                        rate.spend(records);
                        sent += records;
                    }
                    Err(wait) => now += wait,
                }
                now += Duration::from_micros(late);
                let bound = per_second * (now - start).as_secs_f64() + (per_second * BURST_SECONDS).max(1.0) + 1.0;
                prop_assert!(sent as f64 <= bound, "{sent} > {bound}");
            }
        }

        #[test]
        fn after_the_wait_that_was_asked_for_records_go(per_second in 0.01f64..1e7, waiting in 1usize..10_000) {
            let start = Instant::now();
            let mut rate = Rate::new(per_second, start);
            rate.spend(1);
            if let Err(wait) = rate.allows(start, waiting) {
                prop_assert!(rate.allows(start + wait, waiting).is_ok(), "{rate:?} after {wait:?}");
            }
        }
    }
}
