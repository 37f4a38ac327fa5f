//! The beat: moves the epoch clock at a steady pace, and turns a request to stop into a last epoch.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::config::JobConfig;
use super::shutdown::Shutdown;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::EpochMetrics;
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

/// Beats until `done`, or until the job has failed.
pub(super) fn run(context: &JobContext, config: &JobConfig, stop: &[Shutdown], done: &AtomicBool) -> Result<()> {
    context.take_the_beat();
    let metrics = EpochMetrics::register();
    let mut due = context.now() + config.epoch;
    let mut stop_by = None;
    loop {
        thread::park_timeout(due.saturating_duration_since(context.now()).min(LOOK));
        if done.load(Ordering::SeqCst) || context.failed() {
            return Ok(());
        }
        let now = context.now();
        watch_for_stop(context, config.stop_timeout, stop, &mut stop_by, now)?;
        if now >= due || context.clock.stalled() || context.take_hurry() {
            due = beat(context, due, now, config.epoch);
            // Here and not only at commits: it is when none comes that one looks at these.
            metrics.open.set(context.clock.open() as f64);
            metrics.in_flight_bytes.set(context.flight.bytes() as f64);
        }
    }
}

/// Makes the present epoch the last one once a stop is asked for. Fails where it then takes too long.
fn watch_for_stop(
    context: &JobContext,
    timeout: Duration,
    stop: &[Shutdown],
    stop_by: &mut Option<Instant>,
    now: Instant,
) -> Result<()> {
    if stop_by.is_none() && stop.iter().any(Shutdown::requested) {
        tracing::info!("asked to stop: committing the last epoch");
        context.end_epoch(now, EpochClock::stop);
        context.wake_sources();
        *stop_by = Some(now + timeout);
    }
    match *stop_by {
        Some(by) if now > by => {
            let message = format!("could not commit the last epoch within {timeout:?}");
            Err(Error::new(ErrorKind::Store, message))
        }
        _ => Ok(()),
    }
}

/// Takes a beat, early or on time. Gives when the next is due.
fn beat(context: &JobContext, due: Instant, now: Instant, length: Duration) -> Instant {
    let before = context.clock.current();
    context.end_epoch(now, EpochClock::beat);
    context.wake_sources();
    if now >= due {
        next_beat(due, now, length)
    } else if context.clock.current() > before {
        now + length
    } else {
        due
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
