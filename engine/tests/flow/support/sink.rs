//! A sink in memory that fails, panics or blocks where the test says.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use shardflow::sink::{CommitPermit, Committer, Prepared, Sink, SinkContext, SinkWriter, StagedHandle};
use shardflow::{Epoch, Error, Record, Result};

use super::{DEADLINE, lock};

/// Where a sink can be made to misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Stage,
    Prepare,
    Flush,
    Commit,
    Recover,
    Check,
    Close,
}

/// What it then does, each time it comes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Fail,
    Panic,
    Block,
}

/// What is visible: the results of each epoch and worker.
type Visible<T> = BTreeMap<(u64, u32), Vec<T>>;

struct Shared<T> {
    visible: Mutex<Visible<T>>,
    fault: Mutex<Fault>,
    changed: Condvar,
}

#[derive(Default)]
struct Fault {
    at: Option<(Place, How)>,
    /// So many passes go well first.
    spare: u64,
    /// So many passes go well after each strike.
    period: u64,
    strikes: u64,
    /// How many threads wait at a block.
    blocked: usize,
}

/// A sink in memory that keeps what was committed over restarts.
pub(crate) struct Probe<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Probe<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Default for Probe<T> {
    fn default() -> Self {
        let shared = Shared { visible: Mutex::default(), fault: Mutex::default(), changed: Condvar::new() };
        Self { shared: Arc::new(shared) }
    }
}

impl<T: Record> Probe<T> {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// What was committed, in the order of epochs and workers.
    pub(crate) fn values(&self) -> Vec<T> {
        lock(&self.shared.visible).values().flatten().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.shared.visible).values().map(Vec::len).sum()
    }

    /// Misbehaves at `place` after `spare` passes.
    pub(crate) fn breaks(&self, place: Place, how: How, spare: u64) {
        let mut fault = lock(&self.shared.fault);
        *fault = Fault { at: Some((place, how)), spare, ..Fault::default() };
    }

    /// Misbehaves at `place` again and again, with `period` good passes before each time.
    pub(crate) fn breaks_every(&self, place: Place, how: How, period: u64) {
        self.breaks(place, how, period);
        lock(&self.shared.fault).period = period;
    }

    /// How often it misbehaved.
    pub(crate) fn strikes(&self) -> u64 {
        lock(&self.shared.fault).strikes
    }

    /// Misbehaves no more; who waits goes on.
    pub(crate) fn mend(&self) {
        lock(&self.shared.fault).at = None;
        self.shared.changed.notify_all();
    }

    /// Waits until somebody is blocked in the sink.
    pub(crate) fn wait_until_blocked(&self) {
        let deadline = Instant::now() + DEADLINE;
        let mut fault = lock(&self.shared.fault);
        while fault.blocked == 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "nobody came to the sink");
            fault = self.shared.changed.wait_timeout(fault, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Writes what is visible to a file, for another process.
    pub(crate) fn save(&self, path: &Path) {
        let visible: Vec<_> = lock(&self.shared.visible).iter().map(|(at, values)| (*at, values.clone())).collect();
        std::fs::write(path, serde_json::to_vec(&visible).unwrap()).unwrap();
    }

    /// Takes over what another process saved.
    pub(crate) fn load(&self, path: &Path) {
        let saved: Vec<((u64, u32), Vec<T>)> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        lock(&self.shared.visible).extend(saved);
    }

    fn pass(&self, place: Place) -> Result<()> {
        let mut fault = lock(&self.shared.fault);
        let Some((_, how)) = fault.at.filter(|(at, _)| *at == place) else { return Ok(()) };
        if fault.spare > 0 {
            fault.spare -= 1;
            return Ok(());
        }
        fault.strikes += 1;
        fault.spare = fault.period;
        match how {
            How::Fail => Err(Error::sink(format!("the disk is full in {place:?}"))),
            How::Panic => panic!("the sink panics in {place:?}"),
            How::Block => {
                fault.blocked += 1;
                self.shared.changed.notify_all();
                // Bounded by the deadline of whoever waits for the job.
                while fault.at.is_some() {
                    fault = self.shared.changed.wait(fault).unwrap_or_else(PoisonError::into_inner);
                }
                fault.blocked -= 1;
                Ok(())
            }
        }
    }

    fn show(&self, handles: &[StagedHandle]) {
        for handle in handles {
            let values: Vec<T> = serde_json::from_slice(&handle.handle).unwrap();
            lock(&self.shared.visible).insert((handle.epoch.number(), handle.worker), values);
        }
    }
}

impl<T: Record> Sink<T> for Probe<T> {
    fn committer(&self, _context: &SinkContext) -> Result<Box<dyn Committer>> {
        Ok(Box::new(self.clone()))
    }

    fn writer(&self, _context: &SinkContext, _worker: usize) -> Result<Box<dyn SinkWriter<T>>> {
        Ok(Box::new(Writer { probe: self.clone(), staged: Vec::new() }))
    }
}

struct Writer<T> {
    probe: Probe<T>,
    staged: Vec<T>,
}

impl<T: Record> SinkWriter<T> for Writer<T> {
    fn stage(&mut self, record: &T) -> Result<()> {
        self.probe.pass(Place::Stage)?;
        self.staged.push(record.clone());
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Option<Prepared>> {
        if self.staged.is_empty() {
            return Ok(None);
        }
        self.probe.pass(Place::Prepare)?;
        let handle = serde_json::to_vec(&std::mem::take(&mut self.staged)).unwrap();
        let probe = self.probe.clone();
        Ok(Some(Prepared::Flush(Box::new(move || probe.pass(Place::Flush).map(|()| Some(handle))))))
    }

    fn in_flight(&self) -> u64 {
        self.staged.len() as u64
    }
}

impl<T: Record> Committer for Probe<T> {
    fn recover(&mut self, permit: Option<&CommitPermit>, handles: &[StagedHandle]) -> Result<()> {
        self.pass(Place::Recover)?;
        assert!(permit.is_some() || handles.is_empty(), "handles of epochs that were never committed");
        self.show(handles);
        Ok(())
    }

    fn commit(&mut self, _permit: &CommitPermit, handles: &[StagedHandle]) -> Result<()> {
        self.pass(Place::Commit)?;
        self.show(handles);
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        self.pass(Place::Check)
    }

    fn close(&mut self) -> Result<()> {
        self.pass(Place::Close)
    }
}
