//! One source of a process, as its operators see it: inboxes for what they are to do, and where they report.
//!
//! *Enters*: what the dealer decides (see `dealer.rs`), and what the operators report of splits. *Leaves*: the same, at the
//! other side. *Survives a crash*: nothing here; the source operators store each split's record.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use timely::scheduling::SyncActivator;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::context::{JobContext, lock};
use super::dealer::Dealer;
use crate::event_time::WatermarkBoard;
use crate::source::{Enumerator, Forgotten, KnownSplits, Reader, Split, SplitRecord};
use crate::vocabulary::{Epoch, SourceId, SplitId, StepName};

/// What a worker's source operator is told.
pub(crate) enum HubMessage {
    /// Store these newly found splits, and say in which epoch.
    Register { splits: Vec<(SplitId, SplitRecord)>, stored_in: oneshot::Sender<Epoch> },
    /// Read this split, in an epoch after `after`.
    Open(OpenedSplit),
    /// Read this split no further: another worker will, from where it stands.
    Release(SplitId),
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
    /// Where to count the bytes that are read.
    pub(crate) read: Arc<AtomicU64>,
}

/// What the workers report of a split.
pub(super) enum Report {
    /// All its records are in, the last of them in this epoch.
    Ended { split: SplitId, epoch: Epoch },
    /// Its worker reads it no further. It stands at this record, in this epoch.
    Released { split: SplitId, record: SplitRecord, epoch: Epoch },
}

#[derive(Default)]
struct Inbox {
    messages: VecDeque<HubMessage>,
    waker: Option<SyncActivator>,
}

/// One source of a process, as its operators see it.
pub(crate) struct SourceHub {
    pub(super) step: StepName,
    /// Which input this is, in the ids of its records.
    input: SourceId,
    /// Which input this is, where that is still to be stored.
    new_identity: Option<String>,
    inboxes: Vec<Mutex<Inbox>>,
    reports: UnboundedSender<Report>,
    pub(super) receiver: Mutex<Option<UnboundedReceiver<Report>>>,
    board: Mutex<WatermarkBoard>,
    /// The splits that are known: stored, or to be stored in an epoch that is open.
    pub(super) known: Mutex<BTreeSet<SplitId>>,
    /// The children that ends of splits have named, until the hub's task takes them.
    pub(super) announced: Mutex<HashMap<SplitId, Vec<Split>>>,
    /// Whether somebody follows what is committed of the splits.
    followed: AtomicBool,
    /// Whether an event-time operator follows; it then reports ended splits, once it has seen all their records.
    timed: AtomicBool,
    idle_after: OnceLock<Option<Duration>>,
    /// The event-time operators: one worker's progress may be what all others wait for.
    time_wakers: Mutex<Vec<SyncActivator>>,
}

impl SourceHub {
    /// A hub of `input` for `workers` workers, with the watermarks of the last committed epoch. `new_identity`: which input it
    /// is, where that is not stored yet.
    pub(crate) fn new(
        step: StepName,
        input: SourceId,
        workers: usize,
        board: WatermarkBoard,
        new_identity: Option<String>,
    ) -> Self {
        let (reports, receiver) = unbounded_channel();
        Self {
            step,
            input,
            new_identity,
            inboxes: (0..workers).map(|_| Mutex::default()).collect(),
            reports,
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

    /// Which input this is, in the ids of its records. Made anew for each who asks: workers that share one would write to one
    /// counter of its users with every record.
    pub(crate) fn input(&self) -> SourceId {
        SourceId::new(self.input.as_str())
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
        let _ = self.reports.send(Report::Ended { split: split.clone(), epoch });
    }

    /// Reports that a worker reads a split no further, and that all it has read of it is in, the last in `epoch`.
    pub(crate) fn report_released(&self, split: &SplitId, record: SplitRecord, epoch: Epoch) {
        let _ = self.reports.send(Report::Released { split: split.clone(), record, epoch });
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

    /// How many workers there are.
    pub(super) fn workers(&self) -> usize {
        self.inboxes.len()
    }

    /// Puts a message into a worker's inbox.
    pub(super) fn send(&self, worker: usize, message: HubMessage) {
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
        let Some(reports) = lock(&self.receiver).take() else { return };
        let dealer = Dealer::new(&self, &context, enumerator, known, reports);
        if let Err(error) = dealer.run().await {
            context.fail(error.in_step(self.step.as_str()));
        }
    }
}
