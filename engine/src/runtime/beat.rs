//! The beat: moves the epoch clock at a steady pace, and turns a request to stop into a last epoch.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::config::JobConfig;
use super::shutdown::Shutdown;
use crate::error::{Error, ErrorKind};
use crate::operators::context::JobContext;
use crate::operators::epoch_clock::EpochClock;

/// How often at least to look whether the job was asked to stop. Keeps SIGTERM prompt with epochs of minutes.
const LOOK: Duration = Duration::from_millis(100);

/// How long threads may take to end once a stop has taken too long. All of them look more often than that whether the job has
/// failed; one that does not come back by then is stuck.
const STUCK: Duration = Duration::from_secs(1);

/// When the beat after `last` is due, seen from `now`. Beats that were missed are skipped: two beats at once would only
/// make an empty epoch.
#[must_use]
fn next_beat(last: Instant, now: Instant, length: Duration) -> Instant {
    let due = last + length;
    if due <= now { now + length } else { due }
}

/// Beats until all senders of `ended` are gone; `false`: until a stop has taken too long and they are still there.
pub(super) fn run(context: &Arc<JobContext>, config: &JobConfig, stop: &[Shutdown], ended: &Receiver<()>) -> bool {
    let length = config.epoch;
    let mut due = context.now() + length;
    let mut stop_by = None;
    loop {
        let wait = due.saturating_duration_since(context.now()).min(LOOK);
        match ended.recv_timeout(wait) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return true,
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
        if stop_by.is_some_and(|by| now > by + STUCK) {
            return false;
        }
        if now >= due {
            context.end_epoch(now, EpochClock::beat);
            context.wake_sources();
            due = next_beat(due, now, length);
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
