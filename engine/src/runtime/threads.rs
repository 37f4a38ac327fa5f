//! The threads of a start, and how long they are waited for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::operators::context::JobContext;
use crate::operators::panic_error;

/// How often to look whether the job has failed.
const LOOK: Duration = Duration::from_millis(100);

/// Tells that its thread is over when it is dropped.
struct Ended(Sender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        // Nobody waits any more where the job was given up.
        let _ = self.0.send(());
    }
}

/// The threads of a start.
///
/// A user's sink may hang for ever, in a worker or in the commit thread, and no thread can be ended from outside. So a
/// failed job leaves such a thread behind and reports its failure: the program can exit. What the thread holds (the lock on
/// the state folder) it goes on holding as long as the process lives.
pub(super) struct Threads {
    context: Arc<JobContext>,
    running: usize,
    ended: Sender<()>,
    ends: Receiver<()>,
}

impl Threads {
    /// None yet.
    pub(super) fn new(context: &Arc<JobContext>) -> Self {
        let (ended, ends) = channel();
        Self { context: Arc::clone(context), running: 0, ended, ends }
    }

    /// Starts a thread. What fails in it fails the job, a panic too.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(super) fn spawn(&mut self, name: &str, body: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
        let (context, ended, step) = (Arc::clone(&self.context), self.ended.clone(), format!("the {name} thread"));
        let run = move || {
            // Last, however it ends.
            let _ended = Ended(ended);
            match catch_unwind(AssertUnwindSafe(body)) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => context.fail(error),
                Err(panic) => context.fail(panic_error(panic.as_ref()).in_step(step)),
            }
            drop(context);
        };
        let spawned = thread::Builder::new().name(format!("shardflow-{name}")).spawn(run);
        spawned.map_err(|error| Error::internal(format!("could not start the {name} thread")).caused_by(error))?;
        self.running += 1;
        Ok(())
    }

    /// Waits until all have ended. In a failed job, only as long as `patience` says at the time.
    pub(super) fn join(self, patience: impl Fn() -> Duration) {
        let mut waited = Duration::ZERO;
        let mut running = self.running;
        while running > 0 {
            match self.ends.recv_timeout(LOOK) {
                Ok(()) => running -= 1,
                Err(_) if self.context.failed() => {
                    waited = waited.saturating_add(LOOK);
                    if waited > patience() {
                        tracing::warn!(threads = running, "left behind: they do not come back from a sink or the disk");
                        return;
                    }
                }
                Err(_) => {}
            }
        }
    }
}
