//! What an epoch still waits for.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{Refused, Trouble};

/// The batches of one epoch and worker that are on their way, and what has become of the others.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    underway: usize,
    refused: Vec<Refused>,
    failure: Option<Trouble>,
}

impl Outstanding {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that could panic runs under it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more batch is on its way, as long as the value lives.
    pub(super) fn batch(self: &Arc<Self>) -> Underway {
        let mut state = self.state();
        state.underway = state.underway.saturating_add(1);
        Underway { of: Arc::clone(self), is_over: false }
    }

    /// A record is refused.
    pub(super) fn refuse(&self, refused: impl IntoIterator<Item = Refused>) {
        self.state().refused.extend(refused);
    }

    /// Why a batch could not be written, where that is known already.
    pub(super) fn failure(&self) -> Option<Trouble> {
        self.state().failure.clone()
    }

    /// Waits until nothing is on its way.
    ///
    /// # Errors
    /// Why a batch could not be written.
    pub(super) fn wait(&self) -> Result<Vec<Refused>, Trouble> {
        let mut state = self.state();
        while state.underway > 0 && state.failure.is_none() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match state.failure.clone() {
            Some(failure) => Err(failure),
            None => Ok(std::mem::take(&mut state.refused)),
        }
    }
}

/// A batch that is on its way.
#[derive(Debug)]
pub(super) struct Underway {
    of: Arc<Outstanding>,
    is_over: bool,
}

impl Underway {
    /// These are refused; others of the batch may still be on their way.
    pub(super) fn refuse(&self, refused: Vec<Refused>) {
        self.of.refuse(refused);
    }

    /// All of it is written or refused.
    pub(super) fn done(mut self) {
        self.is_over = true;
    }

    /// It cannot be written.
    pub(super) fn failed(mut self, failure: Trouble) {
        self.is_over = true;
        self.of.state().failure.get_or_insert(failure);
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let mut state = self.of.state();
        if !self.is_over {
            // The writer's code panicked, or the job is ending and nobody asks any more.
            state.failure.get_or_insert_with(|| Trouble {
                may_pass: None,
                outcome: crate::error::Outcome::Indeterminate,
                text: "the write did not come to its end: it panicked, or was stopped".to_owned(),
            });
        }
        state.underway = state.underway.saturating_sub(1);
        drop(state);
        self.of.changed.notify_all();
    }
}
