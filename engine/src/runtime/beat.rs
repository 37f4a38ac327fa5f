//! The beat: moves the epoch clock at a steady pace, and turns a request to stop into a last epoch.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::shutdown::Shutdown;
use crate::operators::context::JobContext;

/// How often at least to look whether the job was asked to stop. Keeps SIGTERM prompt with epochs of minutes.
const LOOK: Duration = Duration::from_millis(100);

/// When the beat after `last` is due, seen from `now`. Beats that were missed are skipped: two beats at once would only
/// make an empty epoch.
#[must_use]
fn next_beat(last: Instant, now: Instant, length: Duration) -> Instant {
    let due = last + length;
    if due <= now { now + length } else { due }
}

/// Beats until `done` says or its sender is gone.
pub(super) fn run(context: &Arc<JobContext>, length: Duration, shutdown: &Shutdown, done: &Receiver<()>) {
    let mut due = context.now() + length;
    loop {
        let wait = due.saturating_duration_since(context.now()).min(LOOK);
        match done.recv_timeout(wait) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
        if shutdown.requested() && !context.clock.stopping() {
            tracing::info!("asked to stop: committing the last epoch");
            context.clock.stop();
            context.wake_sources();
        }
        let now = context.now();
        if now >= due {
            context.clock.beat();
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
