//! The Kinesis source in a job that decodes each record to its length and counts, durably, as any job.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use shardflow::runtime::Shutdown;
use shardflow::sink::{Committer, Prepared, Sink, SinkContext, SinkWriter};
use shardflow::{Decoder, Epoch, Job, init_logging};
use shardflow_sources::Kinesis;

use super::Drained;
use crate::nothing::Nothing;

/// Reads until `records` have come.
pub(super) fn run(endpoint: &str, stream: &str, records: u64, state: &Path) -> Result<Drained> {
    init_logging()?;
    let started = Instant::now();
    let source = Kinesis::stream(stream).endpoint(endpoint);
    let job = Job::named("drain").workers(2).state(state);
    let count = Count::new(started, records, job.stopper());
    let sink = count.clone();
    job.run(move |flow| {
        let (lengths, _rejected) = flow.source("stream", source.clone()).decode(Length);
        lengths.sink("count", sink.clone());
    })?;
    Ok(*count.drained.lock().unwrap_or_else(PoisonError::into_inner))
}

struct Length;

impl Decoder for Length {
    type Output = u64;

    fn decode(&self, raw: &[u8]) -> Result<u64, String> {
        Ok(raw.len() as u64)
    }
}

/// A sink that counts, and asks the job to stop when all has come.
#[derive(Debug, Clone)]
struct Count {
    started: Instant,
    records: u64,
    stopper: Shutdown,
    drained: Arc<Mutex<Drained>>,
}

impl Count {
    fn new(started: Instant, records: u64, stopper: Shutdown) -> Self {
        Self { started, records, stopper, drained: Arc::default() }
    }

    fn add(&self, bytes: u64) {
        let mut drained = self.drained.lock().unwrap_or_else(PoisonError::into_inner);
        drained.records = drained.records.saturating_add(1);
        drained.bytes = drained.bytes.saturating_add(bytes);
        if drained.records == self.records {
            drained.seconds = self.started.elapsed().as_secs_f64();
            self.stopper.request();
        }
    }
}

impl Sink<u64> for Count {
    fn committer(&self, _context: &SinkContext) -> shardflow::Result<Box<dyn Committer>> {
        Ok(Box::new(Nothing))
    }

    fn writer(&self, _context: &SinkContext, _worker: usize) -> shardflow::Result<Box<dyn SinkWriter<u64>>> {
        Ok(Box::new(Writer(self.clone())))
    }
}

struct Writer(Count);

impl SinkWriter<u64> for Writer {
    fn stage(&mut self, bytes: &u64) -> shardflow::Result<()> {
        self.0.add(*bytes);
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> shardflow::Result<Option<Prepared>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_job_is_asked_to_stop_with_the_last_record() {
        let count = Count::new(Instant::now(), 2, Job::named("test").stopper());
        count.add(10);
        assert!(!count.stopper.requested());
        count.add(20);
        assert!(count.stopper.requested());
        let drained = *count.drained.lock().unwrap();
        assert_eq!((drained.records, drained.bytes), (2, 30));
        assert!(drained.seconds > 0.0);
    }
}
