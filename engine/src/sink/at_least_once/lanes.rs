//! How many batches are on their way at a time.

use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A fixed number of lanes, each of which carries one batch.
#[derive(Debug)]
pub(super) struct Lanes {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Lanes {
    pub(super) fn new(lanes: NonZeroUsize) -> Arc<Self> {
        Arc::new(Self { free: Mutex::new(lanes.get()), freed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a lane. It is taken as long as the value lives.
    pub(super) fn take(self: &Arc<Self>) -> Lane {
        let mut free = self.lock();
        while *free == 0 {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free = free.saturating_sub(1);
        Lane(Arc::clone(self))
    }
}

/// A lane that is taken.
#[derive(Debug)]
pub(super) struct Lane(Arc<Lanes>);

impl Drop for Lane {
    fn drop(&mut self) {
        let mut free = self.0.lock();
        *free = free.saturating_add(1);
        drop(free);
        self.0.freed.notify_one();
    }
}
