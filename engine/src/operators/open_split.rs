//! A split that a worker reads: its reader, how far it is, and whether it has fallen silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use timely::scheduling::SyncActivator;

use super::hub::OpenedSplit;
use crate::error::Result;
use crate::event_time::Silence;
use crate::metrics::{BehindMetric, SplitMetrics};
use crate::source::{RawBatch, Reader, Split, SplitRecord, SplitStatus};
use crate::vocabulary::{Epoch, SplitId, StepName};

/// Wakes one split's reader.
struct SplitWaker {
    ready: AtomicBool,
    operator: SyncActivator,
}

impl Wake for SplitWaker {
    fn wake(self: Arc<Self>) {
        self.ready.store(true, Ordering::SeqCst);
        // A worker that is gone needs no waking.
        let _ = self.operator.activate();
    }
}

/// What reading gave.
pub(super) enum Polled {
    /// Nothing yet.
    Nothing,
    /// Records.
    Batch(RawBatch),
    /// The split has ended, and these follow, as far as it says.
    End { children: Vec<Split> },
}

/// A split that is being read, or has ended in the open epoch.
pub(super) struct OpenSplit {
    pub(super) id: Arc<SplitId>,
    pub(super) record: SplitRecord,
    /// `None` once the split has ended.
    pub(super) reader: Option<Box<dyn Reader>>,
    pub(super) after: Option<Epoch>,
    /// Whether its record changed in the open epoch.
    pub(super) changed: bool,
    /// Whether it was polled. Before that its record is not stored as being read: it may have been handed over in the epoch
    /// in which its parent ended, and a start after that epoch would read both at once.
    begun: bool,
    waker: Arc<SplitWaker>,
    behind: BehindMetric,
    metrics: SplitMetrics,
    /// Bytes read, for who compares the workers' loads.
    read: Arc<AtomicU64>,
    /// Whether the last poll gave nothing.
    pending: bool,
    /// For how long there has been nothing to read, by the reader's own word.
    silence: Silence,
}

impl OpenSplit {
    /// Takes a split over. `operator` is activated when there is something to read.
    pub(super) fn new(step: &StepName, opened: OpenedSplit, operator: SyncActivator) -> Self {
        let OpenedSplit { split, record, reader, after, read } = opened;
        Self {
            behind: BehindMetric::of(step, &split),
            metrics: SplitMetrics::register(step, &split),
            read,
            id: Arc::new(split),
            record,
            reader: Some(reader),
            after,
            changed: false,
            begun: false,
            waker: Arc::new(SplitWaker { ready: AtomicBool::new(true), operator }),
            pending: false,
            silence: Silence::default(),
        }
    }

    /// Reads, where there may be something, and moves the record on.
    pub(super) fn poll(&mut self) -> Result<Polled> {
        let Some(reader) = &mut self.reader else { return Ok(Polled::Nothing) };
        if !self.waker.ready.swap(false, Ordering::SeqCst) {
            return Ok(Polled::Nothing);
        }
        if !std::mem::replace(&mut self.begun, true) {
            self.changed = true;
        }
        let waker = Waker::from(Arc::clone(&self.waker));
        let polled = match reader.poll_read(&mut Context::from_waker(&waker)) {
            Poll::Pending => {
                self.pending = true;
                return Ok(Polled::Nothing);
            }
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Ready(Ok(Some(batch))) => {
                self.record.position = batch.after().clone();
                self.read.fetch_add(batch.bytes() as u64, Ordering::Relaxed);
                self.metrics.read(batch.len(), batch.bytes());
                self.waker.ready.store(true, Ordering::SeqCst);
                Polled::Batch(batch)
            }
            Poll::Ready(Ok(None)) => {
                let children = reader.children();
                self.behind.ended();
                self.record.status = SplitStatus::Ended;
                self.reader = None;
                Polled::End { children }
            }
        };
        self.changed = true;
        self.pending = false;
        self.silence = Silence::default();
        Ok(polled)
    }

    /// Whether the last batch was all there is to read for the time being, as far as its reader can tell.
    pub(super) fn is_at_end(&self) -> bool {
        let Some(reader) = &self.reader else { return false };
        reader.millis_behind().map_or_else(|| reader.caught_up(), |behind| behind == 0)
    }

    /// Sets how far it is behind its end, as its reader says.
    pub(super) fn report_behind(&self) {
        if let Some(millis) = self.reader.as_ref().and_then(|reader| reader.millis_behind()) {
            self.behind.set(millis);
        }
    }

    /// Whether it becomes idle: there has been nothing to read for `limit`, while the engine was `willing` to read.
    pub(super) fn becomes_idle(&mut self, now: Instant, willing: bool, limit: Duration) -> bool {
        if self.is_silent() {
            return self.silence.becomes_idle(now, willing, limit);
        }
        self.silence.interrupted();
        false
    }

    /// Whether there is nothing to read: the reader gave nothing, has not called since, and is not merely prevented.
    fn is_silent(&self) -> bool {
        let waits = self.pending && !self.waker.ready.load(Ordering::SeqCst);
        waits && self.reader.as_ref().is_some_and(|reader| reader.caught_up())
    }
}
