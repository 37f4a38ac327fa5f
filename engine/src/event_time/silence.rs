//! For how long a split has had nothing to read.

use std::time::{Duration, Instant};

/// Counts how long a split has had nothing to read. Time in which the engine does not read does not count, and does not
/// interrupt the silence either: or a job that is always a little behind would never find a silent split idle.
#[derive(Debug, Default)]
pub struct Silence {
    lasted: Duration,
    /// When it was last found silent while the engine was willing to read.
    seen: Option<Instant>,
    idle: bool,
}

impl Silence {
    /// Takes in that there is nothing to read at `now`, and whether the engine is `willing` to read. Says once whether the
    /// split becomes idle by it: silent for `limit`.
    pub fn becomes_idle(&mut self, now: Instant, willing: bool, limit: Duration) -> bool {
        if self.idle {
            return false;
        }
        let since = std::mem::replace(&mut self.seen, willing.then_some(now)).filter(|_| willing);
        self.lasted += since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.idle = willing && self.lasted >= limit;
        self.idle
    }

    /// Takes in that there may be something to read after all. A split that is idle stays so until it gives something.
    pub fn interrupted(&mut self) {
        *self = Self { idle: self.idle, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[test]
    fn a_split_becomes_idle_once_after_the_limit() {
        let (mut silence, start) = (Silence::default(), Instant::now());
        let mut told = Vec::new();
        for second in 0..100 {
            let now = start + Duration::from_secs(second);
            told.extend(silence.becomes_idle(now, true, LIMIT).then_some(second));
        }
        assert_eq!(told, [30]);
    }

    #[test]
    fn backpressure_stops_the_clock_and_does_not_set_it_back() {
        let (mut silence, start) = (Silence::default(), Instant::now());
        let mut told = Vec::new();
        // The engine reads every other second, a tenth of a second long.
        for tenth in 0..10_000 {
            let willing = tenth % 20 < 2;
            let now = start + Duration::from_millis(100 * tenth);
            told.extend(silence.becomes_idle(now, willing, LIMIT).then_some(tenth));
        }
        assert_eq!(told, [20 * 299 + 1], "a tenth of a second in each two");
    }

    #[test]
    fn what_may_be_something_to_read_ends_the_silence() {
        let (mut silence, start) = (Silence::default(), Instant::now());
        silence.becomes_idle(start, true, LIMIT);
        silence.interrupted();
        assert!(!silence.becomes_idle(start + LIMIT, true, LIMIT), "it begins here");
        assert!(silence.becomes_idle(start + LIMIT * 2, true, LIMIT));
        silence.interrupted();
        assert!(!silence.becomes_idle(start + LIMIT * 4, true, LIMIT), "told already");
    }
}
