//! Splits of which nothing comes although they are read.

use std::time::{Duration, Instant};

/// Follows a split that is read to its end while all its records are rejected or filtered out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fruitless {
    /// Since when, and when it was so last.
    span: Option<(Instant, Instant)>,
}

impl Fruitless {
    /// Takes in that it is so at `now`. Says whether it has been for `limit`.
    ///
    /// A gap of more than half the limit begins anew: nobody knows what the split had in it. Its calls may have failed, or
    /// the engine not have read.
    pub fn becomes_idle(&mut self, now: Instant, limit: Duration) -> bool {
        let since = match self.span {
            Some((since, last)) if now.saturating_duration_since(last) <= limit / 2 => since,
            _ => now,
        };
        self.span = Some((since, now));
        now.saturating_duration_since(since) >= limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unbroken_span_makes_a_split_idle() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let limit = Duration::from_secs(30);
        let mut fruitless = Fruitless::default();
        for seconds in [0, 10, 25] {
            assert!(!fruitless.becomes_idle(at(seconds), limit));
        }
        assert!(fruitless.becomes_idle(at(30), limit));
        // An outage of 35 s: what lies behind it was not seen.
        assert!(!fruitless.becomes_idle(at(65), limit));
        assert!(!fruitless.becomes_idle(at(80), limit));
        assert!(!fruitless.becomes_idle(at(94), limit));
        assert!(fruitless.becomes_idle(at(95), limit));
    }
}
