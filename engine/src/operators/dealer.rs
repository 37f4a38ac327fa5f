//! Finds the splits of a source and deals them out to the workers: parents before children, loads even.
//!
//! *Enters*: what the source's enumerator lists, which splits have ended or were released, how much each gave. *Leaves*:
//! opened readers, in the workers' inboxes. *Survives a crash*: nothing here; the source operators store each split's record.
//!
//! A split that moves to another worker is released first: its worker reads it no further and reports where it stands and
//! in which epoch, once all that it has read has passed the event-time operator. It is opened on the other worker in a later
//! epoch, so that the records of a key stay in order; time is held for it where it has come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::context::{JobContext, lock};
use super::hub::{HubMessage, OpenedSplit, Report, SourceHub};
use crate::error::{Error, Result};
use crate::metrics::{Counter, split_moves};
use crate::source::assignment::{self, Move, Placed};
use crate::source::lineage::{Adoption, Lineage};
use crate::source::{Enumerator, KnownSplits, Split, SplitRecord, SplitStatus};
use crate::vocabulary::{Epoch, SplitId};

/// How long a listing waits for splits that are on their way. A worker releases a split within an activation or two.
const MOVE_PATIENCE: Duration = Duration::from_secs(10);

/// The hub's task.
pub(super) struct Dealer<'a> {
    hub: &'a SourceHub,
    context: &'a JobContext,
    enumerator: Box<dyn Enumerator>,
    lineage: Lineage,
    reports: UnboundedReceiver<Report>,
    /// The worker of each split that has not ended, and its load.
    placed: BTreeMap<SplitId, Placed>,
    /// Counts the bytes of each since the loads were measured last.
    read: BTreeMap<SplitId, Arc<AtomicU64>>,
    /// When that was.
    measured_at: Instant,
    /// Splits that are on their way to another worker, and which.
    moving: BTreeMap<SplitId, usize>,
    moves: Counter,
    /// Ended splits that still hold time back for children.
    unretired: BTreeSet<SplitId>,
}

impl<'a> Dealer<'a> {
    pub(super) fn new(
        hub: &'a SourceHub,
        context: &'a JobContext,
        enumerator: Box<dyn Enumerator>,
        known: KnownSplits,
        reports: UnboundedReceiver<Report>,
    ) -> Self {
        lock(&hub.known).extend(known.keys().cloned());
        Self {
            hub,
            context,
            enumerator,
            lineage: Lineage::restore(known),
            reports,
            placed: BTreeMap::new(),
            read: BTreeMap::new(),
            measured_at: context.now(),
            moving: BTreeMap::new(),
            moves: split_moves(&hub.step),
            unretired: BTreeSet::new(),
        }
    }

    /// Runs until the source is complete and all its splits have ended.
    pub(super) async fn run(mut self) -> Result<()> {
        // Whether the last look was the source's interval ago. Looks that ends of splits triggered come in bursts.
        let mut on_time = false;
        loop {
            self.finish_moves().await?;
            let discovery = self.enumerator.discover().await?;
            let found = self.discovered(&discovery.splits);
            self.refuse_circles()?;
            let stored_in = self.register(found).await;
            self.adopt(stored_in)?;
            self.hub.board().ready();
            self.retire();
            if on_time {
                self.forget(&discovery.splits.into_iter().map(|split| split.id).collect());
            }
            if discovery.complete && self.lineage.all_ended() {
                (0..self.hub.workers()).for_each(|worker| self.hub.send(worker, HubMessage::NoMore));
                return Ok(());
            }
            self.hub.wake_event_time();
            if discovery.complete {
                self.drain_complete().await?;
            } else {
                on_time = self.wait().await?;
            }
        }
    }

    /// Lets splits that are on their way arrive, before a listing that may take long: nobody reads them until then.
    async fn finish_moves(&mut self) -> Result<()> {
        let patience = self.context.now() + MOVE_PATIENCE;
        while !self.moving.is_empty() {
            let left = patience.saturating_duration_since(self.context.now());
            match tokio::time::timeout(left, self.reports.recv()).await {
                Ok(Some(report)) => self.note(report)?,
                Ok(None) | Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Takes in splits of a listing. Gives those that are to be stored: the others are, or will be with their parent's end.
    fn discovered(&mut self, splits: &[Split]) -> Vec<(SplitId, SplitRecord)> {
        let mut found = self.lineage.discovered(splits);
        let mut known = lock(&self.hub.known);
        found.retain(|(split, _)| known.insert(split.clone()));
        found
    }

    /// Splits that wait for themselves would be waited for without end, and without a word.
    fn refuse_circles(&self) -> Result<()> {
        match self.lineage.circular().as_slice() {
            [] => Ok(()),
            stuck => Err(Error::source(format!("the source lists splits that are their own ancestors: {stuck:?}"))),
        }
    }

    /// Has the first worker store newly found splits. Gives the epoch that stores them: a split is read only in a later
    /// one, which knows where all others begin, and whose record of the split cannot be taken for the older.
    async fn register(&mut self, splits: Vec<(SplitId, SplitRecord)>) -> Option<Epoch> {
        if splits.is_empty() {
            return None;
        }
        let (sender, stored_in) = oneshot::channel();
        self.hub.send(0, HubMessage::Register { splits, stored_in: sender });
        // An error means that the worker is gone, and the job with it.
        let epoch = stored_in.await.ok()?;
        Some(epoch)
    }

    /// Opens every split whose parents have ended, on the worker with the least load.
    fn adopt(&mut self, stored_after: Option<Epoch>) -> Result<()> {
        for Adoption { split, parents, position, after } in self.lineage.take_adoptable() {
            self.hub.board().open(&split, &parents);
            let worker = assignment::worker_for_new(&self.placed, self.hub.workers());
            let record = SplitRecord { parents, position, status: SplitStatus::Reading };
            self.open(split, record, worker, after.max(stored_after))?;
        }
        Ok(())
    }

    /// Opens a split at its record, on `worker`, in an epoch after `after`.
    fn open(&mut self, split: SplitId, record: SplitRecord, worker: usize, after: Option<Epoch>) -> Result<()> {
        let reader = self.enumerator.open(&split, &record.position)?;
        let load = self.placed.get(&split).map(|placed| placed.load).unwrap_or_default();
        self.placed.insert(split.clone(), Placed { worker, load });
        let read = Arc::clone(self.read.entry(split.clone()).or_default());
        let position = &record.position;
        tracing::info!(source = %self.hub.step, %split, worker, %position, "split opened");
        if after.is_some() {
            // Epochs may be minutes long, and the split is not read before the next.
            self.context.hurry();
        }
        self.hub.send(worker, HubMessage::Open(OpenedSplit { split, record, reader, after, read }));
        Ok(())
    }

    /// Measures the splits' loads where it is time to, and has splits released that are to move.
    fn rebalance(&mut self) {
        let time = self.context.now().saturating_duration_since(self.measured_at);
        if time < self.context.rebalance {
            return;
        }
        self.measured_at = self.context.now();
        for (split, placed) in &mut self.placed {
            if let Some(read) = self.read.get(split) {
                placed.load.measured(read.swap(0, Ordering::Relaxed), time);
            }
        }
        // What is on its way counts where it goes, and loads are compared again once it has come there.
        if !self.moving.is_empty() {
            return;
        }
        for Move { split, from, to } in assignment::moves(&self.placed, self.hub.workers()) {
            tracing::info!(source = %self.hub.step, %split, from, to, "split moves to another worker");
            self.moves.increment(1);
            self.hub.send(from, HubMessage::Release(split.clone()));
            self.moving.insert(split, to);
        }
    }

    /// A split was released: opens it on the worker that it moves to.
    fn go_on(&mut self, split: SplitId, record: SplitRecord, epoch: Epoch) -> Result<()> {
        let Some(worker) = self.moving.remove(&split) else { return Ok(()) };
        self.open(split, record, worker, Some(epoch))
    }

    /// Lets go of time for ended splits that no child waits for any more. Only after a listing made after their end: where
    /// the end itself named no children, a listing from before does not know them.
    fn retire(&mut self) {
        let waiting = self.lineage.awaited();
        let mut board = self.hub.board();
        self.unretired.retain(|split| {
            let holds = waiting.contains(split);
            if !holds {
                board.retire(split);
            }
            holds
        });
    }

    fn forget(&mut self, listed: &BTreeSet<SplitId>) {
        self.lineage.missing_from(listed);
        let mut forgettable = self.lineage.forgettable();
        forgettable.retain(|split| !self.unretired.contains(split));
        if forgettable.is_empty() {
            return;
        }
        tracing::info!(source = %self.hub.step, splits = ?forgettable, "splits forgotten: they are no longer listed");
        let mut board = self.hub.board();
        forgettable.iter().for_each(|split| board.forget(split));
        drop(board);
        let mut known = lock(&self.hub.known);
        forgettable.iter().for_each(|split| _ = known.remove(split));
        drop(known);
        self.hub.send(0, HubMessage::Forget(self.lineage.forget(forgettable)));
    }

    fn note(&mut self, report: Report) -> Result<()> {
        match report {
            Report::Ended { split, epoch } => self.note_end(split, epoch),
            Report::Released { split, record, epoch } => self.go_on(split, record, epoch)?,
        }
        Ok(())
    }

    fn note_end(&mut self, split: SplitId, epoch: Epoch) {
        tracing::info!(source = %self.hub.step, %split, %epoch, "split ended");
        self.lineage.ended(&split, epoch);
        self.placed.remove(&split);
        self.read.remove(&split);
        self.moving.remove(&split);
        let children = lock(&self.hub.announced).remove(&split).unwrap_or_default();
        // Stored with the end, where nobody knew them before.
        self.lineage.discovered(&children);
        self.unretired.insert(split);
    }

    /// Waits for the next look: the interval, or until a split ends, since its children should follow at once. Gives
    /// whether it was the interval. Loads are compared meanwhile.
    async fn wait(&mut self) -> Result<bool> {
        let look = self.context.now() + self.enumerator.interval();
        loop {
            let now = self.context.now();
            let next = look.min(self.measured_at.checked_add(self.context.rebalance).unwrap_or(look)).max(now);
            match tokio::time::timeout(next - now, self.reports.recv()).await {
                Err(_) => self.rebalance(),
                Ok(None) => return Ok(false),
                Ok(Some(report)) => {
                    let mut ended = matches!(report, Report::Ended { .. });
                    self.note(report)?;
                    while let Ok(report) = self.reports.try_recv() {
                        ended |= matches!(report, Report::Ended { .. });
                        self.note(report)?;
                    }
                    if ended {
                        return Ok(false);
                    }
                }
            }
            if self.context.now() >= look {
                return Ok(true);
            }
        }
    }

    /// With a complete listing nothing more can be found: no look is needed until the last split has ended.
    async fn drain_complete(&mut self) -> Result<()> {
        while !self.lineage.all_ended() {
            let Some(report) = self.reports.recv().await else { return Ok(()) };
            self.note(report)?;
            self.adopt(None)?;
            self.retire();
            self.hub.wake_event_time();
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "dealer_tests.rs"]
mod tests;
