//! The beat: moves the epoch clock at a steady pace, and turns a request to stop into a last epoch.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::config::JobConfig;
use super::shutdown::Shutdown;
use crate::error::{Error, ErrorKind, Result};
use crate::operators::context::JobContext;
use crate::operators::epoch_clock::EpochClock;

/// How often at least to look whether the job was asked to stop. Keeps SIGTERM prompt with epochs of minutes.
const LOOK: Duration = Duration::from_millis(100);

/// When the beat after `last` is due, seen from `now`. Beats that were missed are skipped: two beats at once would only
/// make an empty epoch.
#[must_use]
fn next_beat(last: Instant, now: Instant, length: Duration) -> Instant {
    let due = last + length;
    if due <= now { now + length } else { due }
}

/// Beats until `done`.
pub(super) fn run(context: &JobContext, config: &JobConfig, stop: &[Shutdown], done: &AtomicBool) -> Result<()> {
    context.take_the_beat();
    let length = config.epoch;
    let mut due = context.now() + length;
    let mut stop_by = None;
    loop {
        thread::park_timeout(due.saturating_duration_since(context.now()).min(LOOK));
        if done.load(Ordering::SeqCst) {
            return Ok(());
        }
        let now = context.now();
        if stop.iter().any(Shutdown::requested) && stop_by.is_none() {
            tracing::info!("asked to stop: committing the last epoch");
            context.end_epoch(now, EpochClock::stop);
            context.wake_sources();
            stop_by = Some(now + config.stop_timeout);
        }
        if stop_by.is_some_and(|by| now > by) && !context.failed() {
            let message = format!("could not commit the last epoch within {:?}", config.stop_timeout);
            context.fail(Error::new(ErrorKind::Store, message));
        }
        if now >= due || context.clock.stalled() || context.take_hurry() {
            let before = context.clock.current();
            context.end_epoch(now, EpochClock::beat);
            context.wake_sources();
            if context.clock.current() > before {
                due = if now >= due { next_beat(due, now, length) } else { now + length };
            } else if now >= due {
                due = next_beat(due, now, length);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_keep_their_pace_and_missed_ones_are_skipped() {
        let start = Instant::now();
        let length = Duration::from_millis(200);
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(next_beat(at(0), at(50), length), at(200));
        assert_eq!(next_beat(at(0), at(950), length), at(1150));
    }
}
