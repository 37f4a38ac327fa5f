//! The time that a program takes of itself: from the first record to the last result.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A moment, and the processor time that the process had used by then.
#[derive(Debug, Clone, Copy)]
struct Mark {
    at: Instant,
    cpu: Duration,
}

impl Mark {
    fn now() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let (seconds, nanos) = (u64::try_from(cpu.tv_sec), u32::try_from(cpu.tv_nsec));
        Self { at: Instant::now(), cpu: Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default()) }
    }
}

/// Shared by all who see records or results.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock(Arc<Marks>);

#[derive(Debug, Default)]
struct Marks {
    begun: OnceLock<Mark>,
    ended: Mutex<Option<Mark>>,
}

impl Clock {
    /// Something is read. The first call counts.
    pub(crate) fn begin(&self) {
        self.0.begun.get_or_init(Mark::now);
    }

    /// Something is done. The last call counts.
    pub(crate) fn lap(&self) {
        *self.0.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(Mark::now());
    }

    /// Time and processor time in between; nothing where nothing was read or done.
    pub(crate) fn taken(&self) -> (Duration, Duration) {
        let ended = *self.0.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = self.0.begun.get().zip(ended);
        taken.map_or_else(Default::default, |(begun, ended)| {
            (ended.at.saturating_duration_since(begun.at), ended.cpu.saturating_sub(begun.cpu))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_begin_and_the_last_lap_count() {
        let clock = Clock::default();
        assert_eq!(clock.taken(), Default::default());
        clock.begin();
        let mut laps = Vec::new();
        for _ in 0..3 {
            // Works, so that processor time passes.
            let before = Mark::now().cpu;
            while Mark::now().cpu < before + Duration::from_millis(2) {}
            clock.begin();
            clock.lap();
            laps.push(clock.taken());
        }
        let (elapsed, cpu) = clock.taken();
        assert!(cpu >= Duration::from_millis(6) && elapsed > Duration::ZERO, "{laps:?}");
        assert!(laps.is_sorted(), "{laps:?}");
    }
}
