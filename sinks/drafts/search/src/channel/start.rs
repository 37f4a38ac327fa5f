//! Which writers of a start still live: when the last is gone, its job is about to end.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use shardflow::vocabulary::StepName;
use tokio::sync::watch;

/// How many writers of one start are still to go. Zero: its job is ending.
pub(super) type Life = watch::Receiver<usize>;

/// The last start of each step that the channel is the sink of.
#[derive(Debug, Default)]
pub(super) struct Starts(Mutex<BTreeMap<StepName, watch::Sender<usize>>>);

impl Starts {
    fn of_steps(&self) -> MutexGuard<'_, BTreeMap<StepName, watch::Sender<usize>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A start of a step, with so many workers. Its writers are opened after this.
    pub(super) fn begin(&self, step: &StepName, workers: usize) -> Life {
        let (left, life) = watch::channel(workers);
        self.of_steps().insert(step.clone(), left);
        life
    }

    /// One of its writers, as long as the value lives. `None` where it was never begun.
    pub(super) fn writing(&self, step: &StepName) -> Option<Writing> {
        self.of_steps().get(step).cloned().map(Writing)
    }
}

/// A writer that lives.
#[derive(Debug)]
pub(super) struct Writing(watch::Sender<usize>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.send_modify(|left| *left = left.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_ends_when_all_its_writers_are_gone_and_those_of_an_earlier_one_do_not_count() {
        let (starts, step) = (Starts::default(), StepName::new("seen"));
        assert!(starts.writing(&step).is_none());
        let first = starts.begin(&step, 1);
        let earlier = starts.writing(&step);
        let second = starts.begin(&step, 2);
        let writers = [starts.writing(&step), starts.writing(&step)];
        drop(earlier);
        assert_eq!((*first.borrow(), *second.borrow()), (0, 2));
        drop(writers);
        assert_eq!(*second.borrow(), 0);
    }
}
