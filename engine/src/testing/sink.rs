//! Checks that a sink keeps its promise through crashes: for any [`Sink`], against a model of the commit protocol.
//!
//! [`Driver`] plays the engine: it starts a sink, stages numbered records, closes epochs, writes the "durable batch",
//! commits, crashes and starts again with another number of workers. Records that a crash took are staged again, as a
//! source would replay them, so in the end each number must be visible: exactly once, or at least once.
//! [`conforms`] is the fixed course that every sink must pass; random courses are a few lines on top of the driver.

use std::collections::{BTreeSet, VecDeque};
use std::sync::LazyLock;

use crate::error::{Error, Result};
use tempfile::TempDir;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::sink::{CommitPermit, Committer, Prepared, Sink, SinkContext, SinkWriter, StagedHandle};
use crate::vocabulary::{Epoch, Incarnation, StepName};

mod courses;
#[cfg(test)]
mod tests;

pub use courses::conforms;

/// Grants the right to commit: for tests that drive a committer themselves, of the sinks here and of a user's own alike, which is
/// why it is public. A committer in a job gets its permits from the commit protocol alone, after the durable batch, and hands none
/// on; whoever makes one in a program's own code makes results visible that a crash may take back.
#[must_use]
pub fn permit(epoch: Epoch) -> CommitPermit {
    CommitPermit::granted(epoch)
}

/// Where the I/O of sinks under test runs: on a runtime that lives as long as the process.
fn io() -> Handle {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap_or_else(|error| panic!("could not start a runtime: {error}"))
    });
    RUNTIME.handle().clone()
}

/// What a sink is told at a job's first start, with two workers; for tests that drive its parts themselves. Its folder is a
/// name below the system's temporary one, and is not made.
#[must_use]
pub fn context(job: &str, step: &str) -> SinkContext {
    let step = StepName::new(step);
    SinkContext {
        job: job.to_owned(),
        incarnation: Incarnation::new(1),
        committed: None,
        workers: 2,
        folder: std::env::temp_dir().join(format!("shardflow-sink-{}-{}", std::process::id(), step.as_file_name())),
        step,
        runtime: io(),
    }
}

/// What a sink promises across crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Each committed record is visible once.
    ExactlyOnce,
    /// Each committed record is visible, perhaps before it is committed; after a crash, perhaps again.
    AtLeastOnce,
    /// As [`AtLeastOnce`](Self::AtLeastOnce), and once until the first crash: what such a sink keeps to where every call is answered.
    /// Where calls are made to fail, it may have to write again.
    OnceUntilACrash,
}

/// Plays the engine to one sink. Every method panics with what was broken.
pub struct Driver<'a, T: 'static> {
    promise: Promise,
    sink: Box<dyn Sink<T>>,
    record: Box<dyn Fn(u64) -> T + 'a>,
    visible: Box<dyn Fn() -> Vec<u64> + 'a>,
    folder: TempDir,
    running: Option<Running<T>>,
    incarnation: u64,
    next_epoch: Epoch,
    next_number: u64,
    /// Numbers that a crash took and the "source" stages again.
    lost: VecDeque<u64>,
    /// Closed epochs without a durable batch, oldest first.
    prepared: VecDeque<Closed>,
    committed: Option<Epoch>,
    durable: BTreeSet<u64>,
    /// Handles in the "state folder": of committed epochs that the sink has not been seen to commit.
    handles: Vec<StagedHandle>,
}

struct Running<T: 'static> {
    committer: Box<dyn Committer>,
    writers: Vec<Box<dyn SinkWriter<T>>>,
    /// Numbers of the open epoch.
    staged: Vec<u64>,
}

struct Closed {
    epoch: Epoch,
    numbers: Vec<u64>,
    prepared: Vec<(u32, Prepared)>,
}

impl<'a, T: 'static> Driver<'a, T> {
    /// A job that was never started. `record` makes the record of a number, `visible` reads the numbers of all visible records back.
    pub fn new(
        promise: Promise,
        sink: Box<dyn Sink<T>>,
        record: impl Fn(u64) -> T + 'a,
        visible: impl Fn() -> Vec<u64> + 'a,
    ) -> Self {
        Self {
            promise,
            sink,
            record: Box::new(record),
            visible: Box::new(visible),
            folder: TempDir::new().unwrap_or_else(|error| panic!("could not make a temporary folder: {error}")),
            running: None,
            incarnation: 0,
            next_epoch: Epoch::new(1),
            next_number: 0,
            lost: VecDeque::new(),
            prepared: VecDeque::new(),
            committed: None,
            durable: BTreeSet::new(),
            handles: Vec::new(),
        }
    }

    /// Starts the job, or starts it again after a crash, and checks that exactly the committed records are visible.
    ///
    /// # Panics
    /// If the sink does not start, or shows too much or too little.
    pub fn start(&mut self, workers: usize) {
        self.try_start(workers).unwrap_or_else(|error| panic!("the sink did not start: {error}"));
        self.assert_all_visible();
    }

    /// As [`Driver::start`], for starts that must fail. Checks nothing.
    ///
    /// # Errors
    /// The sink's.
    pub fn try_start(&mut self, workers: usize) -> Result<()> {
        self.crash();
        self.incarnation = self.incarnation.saturating_add(1);
        self.next_epoch = self.committed.map_or(Epoch::new(1), Epoch::next);
        let context = SinkContext {
            job: "conformance".to_owned(),
            step: "results".into(),
            incarnation: Incarnation::new(self.incarnation),
            committed: self.committed,
            workers,
            folder: self.folder.path().to_owned(),
            runtime: io(),
        };
        let mut committer = self.sink.committer(&context)?;
        committer.recover(self.committed.map(permit).as_ref(), &self.handles)?;
        let mut writers = (0..workers).map(|worker| self.sink.writer(&context, worker)).collect::<Result<Vec<_>>>()?;
        writers.iter_mut().for_each(|writer| writer.begin(self.next_epoch));
        self.running = Some(Running { committer, writers, staged: Vec::new() });
        Ok(())
    }

    /// Stages `count` records at one worker: first what a crash took, then new ones.
    ///
    /// # Panics
    /// If the sink refuses one, or if the job is not running.
    pub fn stage(&mut self, worker: usize, count: usize) {
        self.try_stage(worker, count).unwrap_or_else(|error| panic!("staging failed: {error}"));
    }

    /// As [`Driver::stage`], for sinks that must fail.
    ///
    /// # Errors
    /// The sink's.
    pub fn try_stage(&mut self, worker: usize, count: usize) -> Result<()> {
        let running = self.running.as_mut().expect("the job was started");
        let worker = worker.checked_rem(running.writers.len()).expect("the job has workers");
        let writer = running.writers.get_mut(worker).expect("the worker's number was reduced to an existing one");
        for _ in 0..count {
            let number = self.lost.pop_front().unwrap_or_else(|| {
                self.next_number = self.next_number.saturating_add(1);
                self.next_number.saturating_sub(1)
            });
            running.staged.push(number);
            writer.stage(&(self.record)(number))?;
        }
        Ok(())
    }

    /// Stages what crashes took and was not staged again yet, at one worker: afterwards every number is in flight or committed.
    ///
    /// # Panics
    /// As [`Driver::stage`].
    pub fn replay(&mut self, worker: usize) {
        self.stage(worker, self.lost.len());
    }

    /// How many different records were staged so far: numbers from zero.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.next_number
    }

    /// Closes the open epoch at every worker. Its flushes run with its durable batch, as in the engine.
    ///
    /// # Panics
    /// If the sink fails, or shows what is not committed.
    pub fn prepare(&mut self) {
        self.try_prepare().unwrap_or_else(|error| panic!("preparing failed: {error}"));
        self.assert_nothing_early();
    }

    /// As [`Driver::prepare`], for sinks that must fail.
    ///
    /// # Errors
    /// The sink's.
    pub fn try_prepare(&mut self) -> Result<()> {
        let running = self.running.as_mut().expect("the job was started");
        let epoch = self.next_epoch;
        let mut closed = Closed { epoch, numbers: running.staged.clone(), prepared: Vec::new() };
        for (worker, writer) in (0..).zip(&mut running.writers) {
            closed.prepared.extend(writer.prepare(epoch)?.map(|prepared| (worker, prepared)));
        }
        running.staged.clear();
        running.writers.iter_mut().for_each(|writer| writer.begin(epoch.next()));
        self.next_epoch = epoch.next();
        self.prepared.push_back(closed);
        Ok(())
    }

    /// Flushes the oldest closed epoch and writes its durable batch. From here on its records must survive everything.
    ///
    /// # Panics
    /// If flushing fails, or the sink shows what is not committed.
    pub fn persist(&mut self) {
        self.try_persist().unwrap_or_else(|error| panic!("flushing failed: {error}"));
    }

    /// As [`Driver::persist`], for sinks that must fail.
    ///
    /// # Errors
    /// The sink's. Nothing of the epoch is durable then.
    ///
    /// # Panics
    /// If the sink shows what is not committed.
    pub fn try_persist(&mut self) -> Result<()> {
        let Some(closed) = self.prepared.pop_front() else { return Ok(()) };
        let epoch = closed.epoch;
        let mut handles = Vec::new();
        for (worker, prepared) in closed.prepared {
            match prepared.finish() {
                Ok(handle) => handles.extend(handle.map(|handle| StagedHandle { epoch, worker, handle })),
                Err(error) => {
                    self.lost.extend(closed.numbers);
                    return Err(error);
                }
            }
        }
        self.assert_nothing_early();
        self.committed = Some(epoch);
        self.durable.extend(closed.numbers);
        self.handles.extend(handles);
        Ok(())
    }

    /// Lets the sink commit every durable epoch, and checks that nothing else is visible.
    ///
    /// # Panics
    /// If the sink fails, or shows what is not committed.
    pub fn commit(&mut self) {
        self.try_commit().unwrap_or_else(|error| panic!("committing failed: {error}"));
        self.assert_nothing_early();
    }

    /// As [`Driver::commit`], for sinks that must fail.
    ///
    /// # Errors
    /// The sink's.
    pub fn try_commit(&mut self) -> Result<()> {
        let running = self.running.as_mut().expect("the job was started");
        self.committed.map_or(Ok(()), |epoch| running.committer.commit(&permit(epoch), &self.handles))
    }

    /// Forgets the handles, as the engine does once the sink has committed them. Only right after [`Driver::commit`].
    pub fn acknowledge(&mut self) {
        self.handles.clear();
    }

    /// Commits everything that was staged and ends the job well.
    ///
    /// # Panics
    /// If the sink fails, or anything is missing or double.
    pub fn finish(&mut self) {
        self.prepare();
        while !self.prepared.is_empty() {
            self.persist();
        }
        self.commit();
        self.acknowledge();
        let mut running = self.running.take().expect("the job was started");
        running.writers.clear();
        running.committer.close().unwrap_or_else(|error: Error| panic!("closing failed: {error}"));
        self.assert_all_visible();
    }

    /// Drops everything that lives in memory. What has no durable batch will be staged again.
    pub fn crash(&mut self) {
        let open = self.running.take().map(|running| running.staged);
        let numbers = self.prepared.drain(..).map(|closed| closed.numbers).chain(open).flatten();
        let mut lost: VecDeque<u64> = numbers.collect();
        lost.append(&mut self.lost);
        self.lost = lost;
    }

    /// The visible numbers, sorted.
    #[must_use]
    pub fn visible(&self) -> Vec<u64> {
        let mut numbers = self.seen();
        if self.promise != Promise::ExactlyOnce {
            numbers.dedup();
        }
        numbers
    }

    /// The visible numbers with repeats, sorted.
    fn seen(&self) -> Vec<u64> {
        let mut numbers = (self.visible)();
        numbers.sort_unstable();
        numbers
    }

    /// The numbers whose epochs have a durable batch, sorted.
    #[must_use]
    pub fn committed(&self) -> Vec<u64> {
        self.durable.iter().copied().collect()
    }

    /// Checks that what is visible is committed, and not there twice. Of a sink that promises less, no more than that is held here.
    ///
    /// # Panics
    /// If it is not so.
    pub fn assert_nothing_early(&self) {
        let (once, committed) = match self.promise {
            Promise::ExactlyOnce => (true, true),
            Promise::OnceUntilACrash => (self.incarnation <= 1, false),
            Promise::AtLeastOnce => (false, false),
        };
        if !once {
            return;
        }
        let visible = self.seen();
        for (number, next) in visible.iter().zip(visible.iter().skip(1)) {
            assert_ne!(number, next, "record {number} is visible twice");
        }
        for number in visible.iter().filter(|_| committed) {
            assert!(self.durable.contains(number), "record {number} is visible and not committed");
        }
    }

    /// Checks that the committed records are visible, and nothing else.
    ///
    /// # Panics
    /// If it is not so.
    pub fn assert_all_visible(&self) {
        self.assert_nothing_early();
        let (visible, committed) = (self.visible(), self.committed());
        if self.promise != Promise::ExactlyOnce {
            let lost: Vec<&u64> = committed.iter().filter(|number| visible.binary_search(number).is_err()).collect();
            assert!(lost.is_empty(), "committed records are not visible: {lost:?}");
            return;
        }
        assert_eq!(visible, committed, "visible (left) and committed records (right) differ");
    }

    /// Closes the open epoch, makes it durable, commits it and checks that it is visible.
    fn whole_epoch(&mut self) {
        self.prepare();
        self.persist();
        self.commit();
        self.assert_all_visible();
    }
}
