//! The commit thread: makes each closed epoch durable, then visible, then frees it.
//!
//! *Enters*: the parts of epochs, and word that an epoch is whole. *Leaves*: one durable batch, then the sinks' commits,
//! then the epoch clock moves on. The order is the protocol: durable before visible, visible before freed. A crash in
//! between repeats work and never loses it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

use fail::fail_point;
use hdrhistogram::Histogram;

use crate::error::{Error, Result};
use crate::metrics::{EpochMetrics, SnapshotMetrics};
use crate::operators::context::JobContext;
use crate::operators::control::{CommitMessage, Control};
use crate::operators::naming_panics;
use crate::sink::{CommitPermit, Committer, Flush, Prepared, StagedHandle};
use crate::snapshot::{EpochBatch, StepChange, Store};
use crate::source::{Follower, SplitRecord};
use crate::vocabulary::{Epoch, Incarnation, SplitId, StepName};

/// What is told of each commit, once its results are visible.
#[derive(Debug)]
#[non_exhaustive]
pub struct CommitInfo<'a> {
    /// The last committed epoch.
    pub epoch: Epoch,
    /// This start's number.
    pub incarnation: Incarnation,
    /// Records read by this start and committed so far.
    pub records: u64,
    /// From when a record was read to when its epoch was committed and visible, in microseconds; one count for each record
    /// of this commit.
    pub latency: &'a Histogram<u64>,
}

/// Is told of each commit.
pub(super) type OnCommit = Arc<dyn Fn(&CommitInfo<'_>) + Send + Sync>;

/// What an epoch, or several, consist of.
#[derive(Default)]
struct Parts {
    changes: Vec<StepChange>,
    staged: BTreeMap<StepName, Vec<StagedHandle>>,
    flushes: Vec<Flushing>,
    reads: Vec<(Instant, u64)>,
    splits: BTreeMap<StepName, Vec<(SplitId, Option<SplitRecord>)>>,
}

/// What one writer has under way of one epoch.
struct Flushing {
    step: StepName,
    worker: u32,
    epoch: Epoch,
    flush: Flush,
}

impl Parts {
    fn add(&mut self, epoch: Epoch, part: Control) {
        match part {
            Control::Changes { step, worker, changelog } => self.changes.push(StepChange { step, worker, changelog }),
            Control::Staged { step, worker, prepared: Prepared::Staged(handle) } => {
                self.staged.entry(step).or_default().push(StagedHandle { epoch, worker, handle });
            }
            Control::Staged { step, worker, prepared: Prepared::Flush(flush) } => {
                self.flushes.push(Flushing { step, worker, epoch, flush });
            }
            Control::Splits { step, changes } => self.splits.entry(step).or_default().extend(changes),
            Control::Read { at, records } => self.reads.push((at, records)),
        }
    }

    fn is_durable_matter(&self) -> bool {
        !self.changes.is_empty() || !self.staged.is_empty() || !self.flushes.is_empty()
    }

    /// Makes durable what the writers have under way, and takes the handles of it.
    fn flush(&mut self) -> Result<()> {
        for Flushing { step, worker, epoch, flush } in self.flushes.drain(..) {
            let handle = naming_panics(step.as_str(), flush)?;
            fail_point!("commit::after-flush");
            if let Some(handle) = handle {
                self.staged.entry(step).or_default().push(StagedHandle { epoch, worker, handle });
            }
        }
        for handles in self.staged.values_mut() {
            // Workers hand theirs over in any order.
            handles.sort_by_key(|handle| (handle.epoch, handle.worker));
        }
        Ok(())
    }
}

/// The commit thread's state.
pub(super) struct CommitThread {
    context: Arc<JobContext>,
    store: Arc<Store>,
    committers: BTreeMap<StepName, Box<dyn Committer>>,
    followers: BTreeMap<StepName, Box<dyn Follower>>,
    pending: BTreeMap<Epoch, Vec<Control>>,
    on_commit: Option<OnCommit>,
    fold: Sender<()>,
    latency: Histogram<u64>,
    records: u64,
    metrics: EpochMetrics,
    snapshot: SnapshotMetrics,
}

impl CommitThread {
    pub(super) fn new(
        context: &Arc<JobContext>,
        store: &Arc<Store>,
        committers: BTreeMap<StepName, Box<dyn Committer>>,
        followers: BTreeMap<StepName, Box<dyn Follower>>,
        on_commit: Option<OnCommit>,
        fold: Sender<()>,
    ) -> Result<Self> {
        // Microseconds up to an hour, in three digits; longer ones count as an hour.
        let latency = Histogram::new_with_bounds(1, 3_600_000_000, 3)
            .map_err(|error| Error::internal("could not make a histogram").caused_by(error))?;
        Ok(Self {
            context: Arc::clone(context),
            store: Arc::clone(store),
            committers,
            followers,
            pending: BTreeMap::new(),
            on_commit,
            fold,
            latency,
            records: 0,
            metrics: EpochMetrics::register(),
            snapshot: SnapshotMetrics::register(),
        })
    }

    /// Runs until the workers are gone, or until the job fails.
    pub(super) fn run(mut self, messages: &Receiver<CommitMessage>) -> Result<()> {
        while let Ok(message) = messages.recv() {
            // What is closed by the time we look is committed in one batch: a slow disk makes larger batches, not a queue.
            let mut closed = None;
            let mut next = Some(message);
            let mut finish = false;
            while let Some(message) = next {
                match message {
                    CommitMessage::Part { epoch, part } => self.pending.entry(epoch).or_default().push(part),
                    CommitMessage::Closed { open } => closed = Some(open),
                    CommitMessage::Finish => finish = true,
                }
                next = messages.try_recv().ok();
            }
            if self.context.failed() {
                return Ok(());
            }
            if let Some(open) = closed {
                self.commit_before(open)?;
            }
            if finish {
                break;
            }
        }
        self.close()
    }

    /// Tells the sinks that the job has come to its end, and that its writers are gone.
    fn close(&mut self) -> Result<()> {
        for (step, committer) in &mut self.committers {
            fail_point!("commit::before-close");
            naming_panics(step.as_str(), || committer.close())?;
        }
        for (step, follower) in &mut self.followers {
            naming_panics(step.as_str(), || follower.close())?;
        }
        Ok(())
    }

    /// Commits every epoch before `open`; all of them where nothing is open any more.
    fn commit_before(&mut self, open: Option<Epoch>) -> Result<()> {
        let started = self.context.now();
        // Also where there is nothing to commit: a job that has lost its place is to stop, and not to wait for a record.
        self.ask_followers()?;
        self.check_sinks()?;
        let later = open.map_or_else(BTreeMap::new, |open| self.pending.split_off(&open));
        let closed = std::mem::replace(&mut self.pending, later);
        let greatest = closed.keys().next_back().copied().unwrap_or_default().max(self.context.clock.committed());
        let through = open.map_or(greatest, |open| Epoch::new(open.number().saturating_sub(1)));
        for ended in self.context.take_ends(through) {
            self.metrics.close_seconds.record(started.saturating_duration_since(ended).as_secs_f64());
        }
        let mut parts = Parts::default();
        for (epoch, controls) in closed {
            controls.into_iter().for_each(|part| parts.add(epoch, part));
        }
        let progressed = !parts.reads.is_empty() || !parts.staged.is_empty() || !parts.flushes.is_empty();
        if parts.is_durable_matter() {
            self.make_durable_and_visible(through, &mut parts)?;
        }
        if self.store.is_fold_wanted() {
            // State waits for it to leave memory, and sources for that: also where this epoch had nothing to store.
            let _ = self.fold.send(());
        }
        self.context.clock.commit(through);
        if progressed {
            self.context.progress.made.store(true, Ordering::SeqCst);
        }
        if open.is_none() {
            self.context.progress.complete.store(true, Ordering::SeqCst);
        }
        self.context.wake_sources();
        self.context.wake_beat();
        self.report(through, started, &parts.reads)?;
        Ok(())
    }

    fn make_durable_and_visible(&mut self, through: Epoch, parts: &mut Parts) -> Result<()> {
        fail_point!("commit::before-flush");
        parts.flush()?;
        let changes = std::mem::take(&mut parts.changes);
        let handles =
            parts.staged.iter().flat_map(|(step, staged)| staged.iter().map(|one| (step.clone(), one.clone())));
        let batch = EpochBatch { epoch: through, handles: handles.collect(), changes };
        let bytes: usize = batch.changes.iter().map(|change| change.changelog.len()).sum();
        fail_point!("commit::before-durable");
        // Again, since the sinks may have taken long.
        self.ask_followers()?;
        let permit = self.store.commit(batch)?;
        self.context.progress.durable.store(through.number(), Ordering::SeqCst);
        self.snapshot.bytes.record(bytes as f64);
        fail_point!("commit::after-durable");
        self.make_visible(&permit, &parts.staged)?;
        fail_point!("commit::after-visible");
        self.store.acknowledge(through)?;
        fail_point!("commit::after-acknowledge");
        for (step, changes) in &parts.splits {
            if let Some(follower) = self.followers.get_mut(step) {
                naming_panics(step.as_str(), || {
                    follower.committed(changes);
                    Ok(())
                })?;
            }
        }
        // The fold thread is gone only when the job is.
        let _ = self.fold.send(());
        Ok(())
    }

    /// Whether nobody has taken this job's place.
    fn ask_followers(&mut self) -> Result<()> {
        for (step, follower) in &mut self.followers {
            naming_panics(step.as_str(), || follower.may_commit())?;
        }
        Ok(())
    }

    /// Whether what the sinks do beside the commits goes well: the last records of all may fail there, and no commit tells.
    fn check_sinks(&mut self) -> Result<()> {
        for (step, committer) in &mut self.committers {
            naming_panics(step.as_str(), || committer.check())?;
        }
        Ok(())
    }

    fn make_visible(&mut self, permit: &CommitPermit, staged: &BTreeMap<StepName, Vec<StagedHandle>>) -> Result<()> {
        for (step, handles) in staged {
            let committer = self.committers.get_mut(step);
            let committer = committer.ok_or_else(|| Error::internal(format!("sink \"{step}\" has no committer")))?;
            naming_panics(step.as_str(), || committer.commit(permit, handles))?;
            fail_point!("commit::after-sink");
        }
        Ok(())
    }

    fn report(&mut self, through: Epoch, started: Instant, reads: &[(Instant, u64)]) -> Result<()> {
        let now = self.context.now();
        self.latency.reset();
        for (at, records) in reads {
            let micros = u64::try_from(now.saturating_duration_since(*at).as_micros()).unwrap_or(u64::MAX);
            self.latency.saturating_record_n(micros.max(1), *records);
            self.records = self.records.saturating_add(*records);
        }
        self.metrics.committed.increment(1);
        self.metrics.open.set(self.context.clock.open() as f64);
        self.metrics.commit_seconds.record(now.saturating_duration_since(started).as_secs_f64());
        self.metrics.in_flight_bytes.set(self.context.flight.bytes() as f64);
        let Some(on_commit) = &self.on_commit else { return Ok(()) };
        let info = CommitInfo {
            epoch: through,
            incarnation: self.context.incarnation,
            records: self.records,
            latency: &self.latency,
        };
        naming_panics("the on_commit hook", || {
            on_commit(&info);
            Ok(())
        })
    }
}
