//! Where a shard's reader stands, as its task tells the engine beside the batches.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Milliseconds behind the shard's end before the service has said.
const UNKNOWN: u64 = u64::MAX;

/// How long a call may take before what the last one said is too old, in addition to the gap between two calls. Far above
/// an ordinary answer's time, far below the 30 s of silence after which a split is idle by default.
const SLOW_CALL: Duration = Duration::from_secs(5);

/// What one shard's task tells its reader.
#[derive(Debug)]
pub(crate) struct Standing {
    behind: AtomicU64,
    /// When the service last said that there is nothing to read; `None` since a batch or a failure.
    nothing_at: Mutex<Option<Instant>>,
    /// For how long that counts. A call that hangs says nothing, and does not look like silence for long.
    fresh_for: Duration,
}

impl Standing {
    /// Before the first answer. `longest_gap` lies at most between two calls.
    pub(crate) fn new(longest_gap: Duration) -> Self {
        let fresh_for = longest_gap.saturating_add(SLOW_CALL);
        Self { behind: AtomicU64::new(UNKNOWN), nothing_at: Mutex::new(None), fresh_for }
    }

    /// The service said at `now` that there is nothing to read.
    pub(crate) fn nothing_to_read(&self, now: Instant) {
        *self.lock() = Some(now);
    }

    /// There are records, or it cannot be known whether there are.
    pub(crate) fn something_to_read(&self) {
        *self.lock() = None;
    }

    /// Whether there is nothing to read at `now`, as far as the service has said a moment ago.
    pub(crate) fn caught_up(&self, now: Instant) -> bool {
        self.lock().is_some_and(|at| now.saturating_duration_since(at) <= self.fresh_for)
    }

    /// How far behind the shard's end the last answer was, in milliseconds.
    pub(crate) fn set_behind(&self, millis: Option<u64>) {
        self.behind.store(millis.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    /// How far behind the shard's end the reader is, in milliseconds, where the service has said.
    pub(crate) fn behind(&self) -> Option<u64> {
        let behind = self.behind.load(Ordering::Relaxed);
        (behind != UNKNOWN).then_some(behind)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.nothing_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_from_the_services_own_word_and_only_while_that_is_fresh() {
        let standing = Standing::new(Duration::from_secs(1));
        let start = Instant::now();
        assert!(!standing.caught_up(start), "nothing was said yet");
        standing.nothing_to_read(start);
        assert!(standing.caught_up(start + Duration::from_secs(6)));
        assert!(!standing.caught_up(start + Duration::from_secs(7)), "the call after it hangs");
        standing.nothing_to_read(start + Duration::from_secs(8));
        standing.something_to_read();
        assert!(!standing.caught_up(start + Duration::from_secs(8)));
    }
}
