//! The suite must be able to fail: a sink in memory passes, and each way of spoiling it is found.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use super::*;
use crate::sink::Prepared;

/// How the sink is spoilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// Shows records as they are staged.
    ShowsWhenStaged,
    /// Shows records when their epoch closes.
    ShowsWhenPrepared,
    /// Appends on every commit.
    CommitsTwice,
    /// Does nothing with the handles it recovers.
    ForgetsOnRecover,
    /// Writes to where a crash reaches, without a flush.
    KeepsInMemory,
    /// Names an epoch's output by worker alone.
    OverwritesEpochs,
    /// Leaves the last worker's output behind.
    LosesAWorker,
}

/// What survives: staged and visible output by incarnation, epoch and worker.
#[derive(Default)]
struct Disk {
    staged: BTreeMap<Vec<u8>, Vec<u64>>,
    visible: Vec<(Vec<u8>, Vec<u64>)>,
}

#[derive(Clone)]
struct Memory {
    flaw: Flaw,
    disk: Arc<Mutex<Disk>>,
}

struct Writer {
    sink: Memory,
    context: SinkContext,
    worker: usize,
    records: Vec<u64>,
}

struct Publisher {
    sink: Memory,
    start: Vec<u8>,
}

impl Sink<u64> for Memory {
    fn committer(&self, context: &SinkContext) -> Result<Box<dyn Committer>> {
        let start = format!("{:03}", context.incarnation).into_bytes();
        Ok(Box::new(Publisher { sink: self.clone(), start }))
    }

    fn writer(&self, context: &SinkContext, worker: usize) -> Result<Box<dyn SinkWriter<u64>>> {
        Ok(Box::new(Writer { sink: self.clone(), context: context.clone(), worker, records: Vec::new() }))
    }
}

impl SinkWriter<u64> for Writer {
    fn stage(&mut self, record: &u64) -> Result<()> {
        self.records.push(*record);
        if self.sink.flaw == Flaw::ShowsWhenStaged {
            self.sink.disk.lock().unwrap().visible.push((Vec::new(), vec![*record]));
        }
        Ok(())
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<Option<Prepared>> {
        let records = std::mem::take(&mut self.records);
        if records.is_empty() {
            return Ok(None);
        }
        let epoch = if self.sink.flaw == Flaw::OverwritesEpochs { 0 } else { epoch.number() };
        let name = format!("{:03}-{epoch:03}-{}", self.context.incarnation, self.worker).into_bytes();
        let Memory { flaw, disk } = self.sink.clone();
        if flaw == Flaw::ShowsWhenPrepared {
            disk.lock().unwrap().visible.push((name.clone(), records.clone()));
        }
        let staged = name.clone();
        let flush = move || {
            disk.lock().unwrap().staged.insert(staged, records);
            Ok(())
        };
        Ok(Some(Prepared::Flush(Box::new(move || flush().map(|()| Some(name))))))
    }
}

impl Committer for Publisher {
    fn recover(&mut self, permit: Option<&CommitPermit>, handles: &[StagedHandle]) -> Result<()> {
        if self.sink.flaw == Flaw::KeepsInMemory {
            self.sink.disk.lock().unwrap().staged.clear();
        }
        if let (Some(permit), false) = (permit, self.sink.flaw == Flaw::ForgetsOnRecover) {
            self.commit(permit, handles)?;
        }
        self.sink.disk.lock().unwrap().staged.retain(|name, _| name.starts_with(&self.start));
        Ok(())
    }

    fn commit(&mut self, permit: &CommitPermit, handles: &[StagedHandle]) -> Result<()> {
        let mut disk = self.sink.disk.lock().unwrap();
        let flaw = self.sink.flaw;
        for handle in handles.iter().filter(|handle| handle.epoch <= permit.epoch()) {
            let done = disk.visible.iter().any(|(name, _)| *name == handle.handle);
            if (done && flaw != Flaw::CommitsTwice) || (flaw == Flaw::LosesAWorker && handle.worker > 0) {
                continue;
            }
            if let Some(records) = disk.staged.get(&handle.handle).cloned() {
                disk.visible.push((handle.handle.clone(), records));
            }
        }
        Ok(())
    }
}

fn run(flaw: Flaw) {
    conforms(
        Promise::ExactlyOnce,
        || Memory { flaw, disk: Arc::default() },
        |sink| Box::new(sink.clone()),
        |number| number,
        |sink| sink.disk.lock().unwrap().visible.iter().flat_map(|(_, records)| records.clone()).collect(),
    );
}

#[test]
fn a_sound_sink_passes() {
    run(Flaw::None);
}

#[test]
fn every_flaw_is_found() {
    for flaw in [
        Flaw::ShowsWhenStaged,
        Flaw::ShowsWhenPrepared,
        Flaw::CommitsTwice,
        Flaw::ForgetsOnRecover,
        Flaw::KeepsInMemory,
        Flaw::OverwritesEpochs,
        Flaw::LosesAWorker,
    ] {
        assert!(catch_unwind(AssertUnwindSafe(|| run(flaw))).is_err(), "{flaw:?} passed");
    }
}
