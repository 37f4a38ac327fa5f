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

/// How a sink is spoilt that writes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slip {
    None,
    /// Leaves out a record now and then.
    LosesARecord,
    /// Writes an epoch with the next, and says before that it is written.
    AcknowledgesEarly,
    /// Leaves what the second worker has staged.
    LosesAWorker,
    /// Writes each record twice, without any need.
    WritesTwice,
}

/// Writes when an epoch is flushed.
#[derive(Clone)]
struct Direct {
    slip: Slip,
    written: Arc<Mutex<Vec<u64>>>,
}

struct DirectWriter {
    sink: Direct,
    worker: usize,
    staged: Vec<u64>,
    /// The epoch before, where it is written late.
    late: Vec<u64>,
}

struct NoCommitter;

impl Committer for NoCommitter {
    fn recover(&mut self, _permit: Option<&CommitPermit>, _handles: &[StagedHandle]) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self, _permit: &CommitPermit, _handles: &[StagedHandle]) -> Result<()> {
        Ok(())
    }
}

impl Sink<u64> for Direct {
    fn committer(&self, _context: &SinkContext) -> Result<Box<dyn Committer>> {
        Ok(Box::new(NoCommitter))
    }

    fn writer(&self, _context: &SinkContext, worker: usize) -> Result<Box<dyn SinkWriter<u64>>> {
        Ok(Box::new(DirectWriter { sink: self.clone(), worker, staged: Vec::new(), late: Vec::new() }))
    }
}

impl SinkWriter<u64> for DirectWriter {
    fn stage(&mut self, record: &u64) -> Result<()> {
        self.staged.push(*record);
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Option<Prepared>> {
        let Direct { slip, written } = self.sink.clone();
        let mut records = std::mem::take(&mut self.staged);
        match slip {
            Slip::AcknowledgesEarly => std::mem::swap(&mut records, &mut self.late),
            Slip::LosesAWorker if self.worker == 1 => records.clear(),
            Slip::LosesARecord => records.retain(|record| record % 10 != 7),
            Slip::WritesTwice => records = records.repeat(2),
            _ => {}
        }
        let flush = move || {
            written.lock().unwrap().extend(records);
            Ok(None)
        };
        Ok(Some(Prepared::Flush(Box::new(flush))))
    }
}

fn run_direct(promise: Promise, slip: Slip) {
    conforms(
        promise,
        || Direct { slip, written: Arc::default() },
        |sink| Box::new(sink.clone()),
        |number| number,
        |sink| sink.written.lock().unwrap().clone(),
    );
}

#[test]
fn a_sound_sink_that_writes_at_once_passes_where_it_promises_no_more() {
    for promise in [Promise::AtLeastOnce, Promise::OnceUntilACrash] {
        run_direct(promise, Slip::None);
    }
    // Where answers are lost it is right to write again.
    run_direct(Promise::AtLeastOnce, Slip::WritesTwice);
    assert!(catch_unwind(|| run_direct(Promise::ExactlyOnce, Slip::None)).is_err());
}

#[test]
fn every_slip_of_a_sink_that_writes_at_once_is_found() {
    for promise in [Promise::AtLeastOnce, Promise::OnceUntilACrash] {
        for slip in [Slip::LosesARecord, Slip::AcknowledgesEarly, Slip::LosesAWorker] {
            assert!(catch_unwind(|| run_direct(promise, slip)).is_err(), "{slip:?} passed with {promise:?}");
        }
    }
    assert!(catch_unwind(|| run_direct(Promise::OnceUntilACrash, Slip::WritesTwice)).is_err());
}
