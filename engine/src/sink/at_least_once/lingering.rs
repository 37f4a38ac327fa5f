//! The batch that waits for more: cut by the worker when it is full or its epoch ends, or by a task when it has waited for long
//! enough.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

use super::batching::{Batch, Batcher, Batching};
use super::outstanding::{Outstanding, Underway};

/// A batch that two may cut. Whoever does so brings it on its way, and the other finds that it is gone.
#[derive(Debug)]
pub(super) struct Waiting<E>(Mutex<State<E>>);

#[derive(Debug)]
struct State<E> {
    batcher: Batcher<E>,
    /// What will cut the batch that waits.
    timer: Option<AbortHandle>,
}

impl<E> State<E> {
    /// Without this each full batch would leave a task behind, for as long as it would have lingered.
    fn stop_timer(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
    }
}

impl<E> Waiting<E> {
    pub(super) fn new(most: Batching) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { batcher: Batcher::new(most), timer: None })))
    }

    fn state(&self) -> MutexGuard<'_, State<E>> {
        // Nothing that could panic runs under it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an entry of so many bytes. Gives the batch that it does not fit into any more.
    pub(super) fn push(&self, entry: E, bytes: usize) -> Option<Batch<E>> {
        let mut state = self.state();
        let full = state.batcher.push(entry, bytes);
        if full.is_some() {
            state.stop_timer();
        }
        full
    }

    /// What is left; `None` where nothing is.
    pub(super) fn cut(&self) -> Option<Batch<E>> {
        let mut state = self.state();
        state.stop_timer();
        state.batcher.cut()
    }

    /// Cuts the batch of this number, as one of those that are outstanding. `None`: it is on its way already.
    pub(super) fn cut_lingering(&self, number: u64, of: &Arc<Outstanding>) -> Option<(Batch<E>, Underway)> {
        let mut state = self.state();
        if state.batcher.waits() != Some(number) {
            return None;
        }
        // From here on it must not be stopped.
        state.timer = None;
        // Before the lock is gone: who closes the epoch next waits for it.
        state.batcher.cut().map(|batch| (batch, of.batch()))
    }

    /// Starts a timer for the batch that waits, unless there is none, or it has one.
    pub(super) fn time(&self, start: impl FnOnce(u64) -> AbortHandle) {
        let mut state = self.state();
        if let (Some(number), None) = (state.batcher.waits(), &state.timer) {
            state.timer = Some(start(number));
        }
    }
}
