//! How many batches are on their way at a time.

use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A fixed number of lanes, each of which carries one batch.
#[derive(Debug)]
pub(super) struct Lanes {
    free: Mutex<usize>,
    freed: Condvar,
    /// Told of the same, for who waits without a thread.
    told: Notify,
}

impl Lanes {
    pub(super) fn new(lanes: NonZeroUsize) -> Arc<Self> {
        Arc::new(Self { free: Mutex::new(lanes.get()), freed: Condvar::new(), told: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a lane, with the thread. It is taken as long as the value lives.
    pub(super) fn take(self: &Arc<Self>) -> Lane {
        let mut free = self.lock();
        while *free == 0 {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free = free.saturating_sub(1);
        Lane(Arc::clone(self))
    }

    /// As [`take`](Self::take), for a task. At most one waits at a time.
    pub(super) async fn taken(self: &Arc<Self>) -> Lane {
        loop {
            let told = self.told.notified();
            if let Some(lane) = self.try_take() {
                return lane;
            }
            told.await;
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Lane> {
        let mut free = self.lock();
        *free = free.checked_sub(1)?;
        Some(Lane(Arc::clone(self)))
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
        self.0.told.notify_one();
    }
}
