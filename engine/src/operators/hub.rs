//! One source of a process: finds splits, deals them out to the workers, keeps parents before children.
//!
//! *Enters*: what the source's enumerator lists, and which splits have ended. *Leaves*: opened readers, in the workers'
//! inboxes. *Survives a crash*: nothing here; the source operators store each split's record.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use timely::scheduling::SyncActivator;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::context::{JobContext, lock};
use crate::error::{Error, Result};
use crate::event_time::WatermarkBoard;
use crate::source::lineage::{Adoption, Forgotten, Lineage};
use crate::source::{Enumerator, KnownSplits, Reader, Split, SplitRecord};
use crate::vocabulary::{Epoch, SplitId, StepName};

/// What a worker's source operator is told.
pub(crate) enum HubMessage {
    /// Store these newly found splits, and say in which epoch.
    Register { splits: Vec<(SplitId, SplitRecord)>, stored_in: oneshot::Sender<Epoch> },
    /// Read this split, in an epoch after `after`.
    Open(OpenedSplit),
    /// Drop what is stored of these splits: they have ended and the source no longer lists them.
    Forget(Vec<Forgotten>),
    /// No further split will come.
    NoMore,
}

/// A split with its reader, on the way to its worker.
pub(crate) struct OpenedSplit {
    pub(crate) split: SplitId,
    pub(crate) record: SplitRecord,
    pub(crate) reader: Box<dyn Reader>,
    pub(crate) after: Option<Epoch>,
}

struct Ended {
    split: SplitId,
    epoch: Epoch,
}

#[derive(Default)]
struct Inbox {
    messages: VecDeque<HubMessage>,
    waker: Option<SyncActivator>,
}

/// One source of a process, as its operators see it.
pub(crate) struct SourceHub {
    step: StepName,
    /// Which input this is, where that is still to be stored.
    new_identity: Option<String>,
    inboxes: Vec<Mutex<Inbox>>,
    ended: UnboundedSender<Ended>,
    receiver: Mutex<Option<UnboundedReceiver<Ended>>>,
    board: Mutex<WatermarkBoard>,
    /// The splits that are known: stored, or to be stored in an epoch that is open.
    known: Mutex<BTreeSet<SplitId>>,
    /// The children that ends of splits have named, until the hub's task takes them.
    announced: Mutex<HashMap<SplitId, Vec<Split>>>,
    /// Whether somebody follows what is committed of the splits.
    followed: AtomicBool,
    /// Whether an event-time operator follows; it then reports ended splits, once it has seen all their records.
    timed: AtomicBool,
    idle_after: OnceLock<Option<Duration>>,
    /// The event-time operators: one worker's progress may be what all others wait for.
    time_wakers: Mutex<Vec<SyncActivator>>,
}

impl SourceHub {
    /// A hub for `workers` workers, with the watermarks of the last committed epoch. `new_identity`: which input it is,
    /// where that is not stored yet.
    pub(crate) fn new(step: StepName, workers: usize, board: WatermarkBoard, new_identity: Option<String>) -> Self {
        let (ended, receiver) = unbounded_channel();
        Self {
            step,
            new_identity,
            inboxes: (0..workers).map(|_| Mutex::default()).collect(),
            ended,
            receiver: Mutex::new(Some(receiver)),
            board: Mutex::new(board),
            known: Mutex::default(),
            announced: Mutex::default(),
            followed: AtomicBool::new(false),
            timed: AtomicBool::new(false),
            idle_after: OnceLock::new(),
            time_wakers: Mutex::default(),
        }
    }

    /// Which input this is, where that is to be stored with the first epoch.
    pub(crate) fn new_identity(&self) -> Option<&str> {
        self.new_identity.as_deref()
    }

    /// Announces that an event-time operator follows, and when it wants to hear of idle splits.
    pub(crate) fn set_timed(&self, idle_after: Option<Duration>, waker: SyncActivator) {
        self.timed.store(true, Ordering::SeqCst);
        // Every worker says the same.
        let _ = self.idle_after.set(idle_after);
        lock(&self.time_wakers).push(waker);
    }

    /// Whether an event-time operator follows.
    pub(crate) fn timed(&self) -> bool {
        self.timed.load(Ordering::SeqCst)
    }

    /// After how long without anything to read a split is idle.
    pub(crate) fn idle_after(&self) -> Option<Duration> {
        self.idle_after.get().copied().flatten()
    }

    /// The watermarks of this source's splits.
    pub(crate) fn board(&self) -> std::sync::MutexGuard<'_, WatermarkBoard> {
        lock(&self.board)
    }

    /// Activates the event-time operators.
    pub(crate) fn wake_event_time(&self) {
        for waker in lock(&self.time_wakers).iter() {
            // A worker that is gone needs no waking.
            let _ = waker.activate();
        }
    }

    /// Announces that somebody wants to hear what is committed of each split.
    pub(crate) fn set_followed(&self) {
        self.followed.store(true, Ordering::SeqCst);
    }

    /// Whether somebody wants to hear what is committed of each split.
    pub(crate) fn followed(&self) -> bool {
        self.followed.load(Ordering::SeqCst)
    }

    /// Takes in which splits follow one that has ended, before its end is reported. Gives those that nobody knew: they are
    /// to be stored with the end.
    pub(crate) fn announce(&self, split: &SplitId, children: Vec<Split>) -> Vec<(SplitId, SplitRecord)> {
        let mut known = lock(&self.known);
        let new = children.iter().filter(|child| known.insert(child.id.clone()));
        let new = new.map(|child| (child.id.clone(), child.record())).collect();
        drop(known);
        lock(&self.announced).insert(split.clone(), children);
        new
    }

    /// Reports that all records of a split are in, the last of them in `epoch`.
    pub(crate) fn report_ended(&self, split: &SplitId, epoch: Epoch) {
        // The task is gone only when the job is.
        let _ = self.ended.send(Ended { split: split.clone(), epoch });
    }

    /// Registers a worker's source operator.
    pub(crate) fn attach(&self, worker: usize, waker: SyncActivator) {
        if let Some(inbox) = self.inboxes.get(worker) {
            lock(inbox).waker = Some(waker);
        }
    }

    /// The messages that wait for a worker.
    pub(crate) fn receive(&self, worker: usize) -> VecDeque<HubMessage> {
        self.inboxes.get(worker).map(|inbox| std::mem::take(&mut lock(inbox).messages)).unwrap_or_default()
    }

    fn send(&self, worker: usize, message: HubMessage) {
        if let Some(inbox) = self.inboxes.get(worker) {
            let mut inbox = lock(inbox);
            inbox.messages.push_back(message);
            if let Some(waker) = &inbox.waker {
                let _ = waker.activate();
            }
        }
    }

    /// Finds splits and deals them out until the source is complete. A failure fails the job.
    pub(crate) async fn run(
        self: Arc<Self>,
        context: Arc<JobContext>,
        enumerator: Box<dyn Enumerator>,
        known: KnownSplits,
    ) {
        let Some(ended) = lock(&self.receiver).take() else { return };
        let dealer = Dealer::new(&self, &context, enumerator, known, ended);
        if let Err(error) = dealer.run().await {
            context.fail(error.in_step(self.step.as_str()));
        }
    }
}

/// The hub's task.
struct Dealer<'a> {
    hub: &'a SourceHub,
    context: &'a JobContext,
    enumerator: Box<dyn Enumerator>,
    lineage: Lineage,
    ended: UnboundedReceiver<Ended>,
    /// Splits dealt to each worker and not ended.
    load: Vec<usize>,
    /// The worker of each of them.
    dealt: HashMap<SplitId, usize>,
    /// Ended splits that still hold time back for children.
    unretired: BTreeSet<SplitId>,
}

impl<'a> Dealer<'a> {
    fn new(
        hub: &'a SourceHub,
        context: &'a JobContext,
        enumerator: Box<dyn Enumerator>,
        known: KnownSplits,
        ended: UnboundedReceiver<Ended>,
    ) -> Self {
        let load = vec![0; hub.inboxes.len()];
        lock(&hub.known).extend(known.keys().cloned());
        let lineage = Lineage::restore(known);
        Self { hub, context, enumerator, lineage, ended, load, dealt: HashMap::new(), unretired: BTreeSet::new() }
    }

    async fn run(mut self) -> Result<()> {
        // Whether the last look was the source's interval ago. Looks that ends of splits triggered come in bursts.
        let mut on_time = false;
        loop {
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
                (0..self.hub.inboxes.len()).for_each(|worker| self.hub.send(worker, HubMessage::NoMore));
                return Ok(());
            }
            self.hub.wake_event_time();
            if discovery.complete {
                self.drain_complete().await?;
            } else {
                on_time = self.wait().await;
            }
        }
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

    /// Opens every split whose parents have ended, on the worker with the fewest.
    fn adopt(&mut self, stored_after: Option<Epoch>) -> Result<()> {
        for Adoption { split, parents, position, after } in self.lineage.take_adoptable() {
            let reader = self.enumerator.open(&split, &position)?;
            self.hub.board().open(&split, &parents);
            let worker = least(&self.load);
            if let Some(load) = self.load.get_mut(worker) {
                *load = load.saturating_add(1);
                self.dealt.insert(split.clone(), worker);
            }
            tracing::info!(source = %self.hub.step, %split, worker, %position, "split opened");
            let record = SplitRecord { parents, position, status: crate::source::SplitStatus::Reading };
            let after = after.max(stored_after);
            if after.is_some() {
                // Epochs may be minutes long, and the split is not read before the next.
                self.context.hurry();
            }
            self.hub.send(worker, HubMessage::Open(OpenedSplit { split, record, reader, after }));
        }
        Ok(())
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

    fn note_end(&mut self, Ended { split, epoch }: Ended) {
        tracing::info!(source = %self.hub.step, %split, %epoch, "split ended");
        self.lineage.ended(&split, epoch);
        let worker = self.dealt.remove(&split);
        if let Some(load) = worker.and_then(|worker| self.load.get_mut(worker)) {
            *load = load.saturating_sub(1);
        }
        let children = lock(&self.hub.announced).remove(&split).unwrap_or_default();
        // Stored with the end, where nobody knew them before.
        self.lineage.discovered(&children);
        self.unretired.insert(split);
    }

    /// Waits for the next look: the interval, or until a split ends, since its children should follow at once. Gives
    /// whether it was the interval.
    async fn wait(&mut self) -> bool {
        let Ok(ended) = tokio::time::timeout(self.enumerator.interval(), self.ended.recv()).await else { return true };
        if let Some(ended) = ended {
            self.note_end(ended);
        }
        while let Ok(ended) = self.ended.try_recv() {
            self.note_end(ended);
        }
        false
    }

    /// With a complete listing nothing more can be found: no look is needed until the last split has ended.
    async fn drain_complete(&mut self) -> Result<()> {
        while !self.lineage.all_ended() {
            let Some(ended) = self.ended.recv().await else { return Ok(()) };
            self.note_end(ended);
            self.adopt(None)?;
            self.retire();
            self.hub.wake_event_time();
        }
        Ok(())
    }
}

/// The index of the least load; the first of equals.
fn least(load: &[usize]) -> usize {
    load.iter().enumerate().min_by_key(|(_, load)| **load).map_or(0, |(worker, _)| worker)
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
