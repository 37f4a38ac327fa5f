//! A sink that notes when each result arrives, and keeps nothing else.
//!
//! Nothing survives a crash, and nothing is to: the job is measured once, from its beginning to its end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hdrhistogram::Histogram;
use shardflow::sink::{Committer, Prepared, Sink, SinkContext, SinkWriter};
use shardflow::{Epoch, Result};

use super::quantiles::histogram;
use crate::nothing::Nothing;

/// What a result says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    /// When it was due; `None` where that is not to be measured.
    pub(super) due: Option<Instant>,
    /// How many records it stands for.
    pub(super) records: u64,
}

/// What came of a run.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Due → arrived, in microseconds.
    pub(super) latency: Histogram<u64>,
    /// How many records all results stood for, those that were not measured included.
    pub(super) records: u64,
}

impl Seen {
    fn nothing() -> Self {
        Self { latency: histogram(), records: 0 }
    }

    fn take(&mut self, told: Told, now: Instant) {
        self.records = self.records.saturating_add(told.records);
        if let Some(due) = told.due {
            let waited = now.saturating_duration_since(due).as_micros();
            self.latency.saturating_record(u64::try_from(waited).unwrap_or(u64::MAX));
        }
    }

    fn add(&mut self, other: &Self) {
        self.records = self.records.saturating_add(other.records);
        // Both have the same bounds.
        let _ = self.latency.add(&other.latency);
    }
}

/// Reads a result.
type Tell<T> = Arc<dyn Fn(&T) -> Told + Send + Sync>;

/// The sink. Clones see the same arrivals.
pub(super) struct Arrivals<T> {
    tell: Tell<T>,
    seen: Arc<Mutex<Seen>>,
}

impl<T> Clone for Arrivals<T> {
    fn clone(&self) -> Self {
        Self { tell: Arc::clone(&self.tell), seen: Arc::clone(&self.seen) }
    }
}

impl<T> Arrivals<T> {
    /// `tell` says when a result was due.
    pub(super) fn new(tell: impl Fn(&T) -> Told + Send + Sync + 'static) -> Self {
        Self { tell: Arc::new(tell), seen: Arc::new(Mutex::new(Seen::nothing())) }
    }

    /// One worker's own view, which counts when it is dropped.
    pub(super) fn watch(&self) -> Writer<T> {
        Writer { arrivals: self.clone(), own: Seen::nothing() }
    }

    /// What arrived. Complete once the job has ended.
    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<T: 'static> Sink<T> for Arrivals<T> {
    fn committer(&self, _context: &SinkContext) -> Result<Box<dyn Committer>> {
        Ok(Box::new(Nothing))
    }

    fn writer(&self, _context: &SinkContext, _worker: usize) -> Result<Box<dyn SinkWriter<T>>> {
        Ok(Box::new(self.watch()))
    }
}

/// One worker's arrivals: no lock is taken while it is measured.
pub(super) struct Writer<T> {
    arrivals: Arrivals<T>,
    own: Seen,
}

impl<T: 'static> SinkWriter<T> for Writer<T> {
    fn stage(&mut self, record: &T) -> Result<()> {
        self.own.take((self.arrivals.tell)(record), Instant::now());
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Option<Prepared>> {
        Ok(None)
    }
}

impl<T> Drop for Writer<T> {
    fn drop(&mut self) {
        self.arrivals.seen.lock().unwrap_or_else(PoisonError::into_inner).add(&self.own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn arrivals_of_all_workers_are_counted_and_only_those_measured_that_are_due() {
        let mut all = Seen::nothing();
        let due = Instant::now();
        for millis in [1, 3] {
            let mut worker = Seen::nothing();
            worker.take(Told { due: Some(due), records: 2 }, due + Duration::from_millis(millis));
            worker.take(Told { due: None, records: 5 }, due + Duration::from_secs(9));
            all.add(&worker);
        }
        assert_eq!((all.records, all.latency.len()), (14, 2));
        assert!((3_000..3_010).contains(&all.latency.max()), "{}", all.latency.max());
    }
}
