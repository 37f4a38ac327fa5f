//! What the operators of one start share: clock, store, failure, in-flight account.
//!
//! A job's program is built once more than there are workers: first as a *plan*, on nothing, to learn its steps, sources
//! and sinks and to find mistakes before anything is opened; then on each worker.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant, SystemTime};

use timely::scheduling::SyncActivator;
use tokio::runtime::Handle;

use super::control::CommitMessage;
use super::epoch_clock::EpochClock;
use super::hub::SourceHub;
use super::memory::Memory;
use crate::error::{Error, Result};
use crate::exchange::KeyGroups;
use crate::sink::{Committer, Sink, SinkContext};
use crate::snapshot::{StepInfo, Store};
use crate::source::Source;
use crate::vocabulary::{Epoch, EventTime, Incarnation, StepName};

/// Opens a sink's committer; the record type is erased.
type OpenCommitter = Box<dyn Fn(&SinkContext) -> Result<Box<dyn Committer>> + Send>;

/// A sink of the plan.
pub(crate) struct PlannedSink {
    pub(crate) step: StepName,
    pub(crate) open: OpenCommitter,
    /// Says what it writes to.
    pub(crate) describe: Box<dyn Fn() -> String + Send>,
}

impl PlannedSink {
    pub(crate) fn new<T: 'static>(step: StepName, sink: impl Sink<T>) -> Self {
        let sink = Arc::new(sink);
        let described = Arc::clone(&sink);
        let (open, describe) = (Box::new(move |context: &_| sink.committer(context)), move || described.describe());
        Self { step, open, describe: Box::new(describe) }
    }
}

/// What a program consists of, as found by building it once.
#[derive(Default)]
pub(crate) struct Plan {
    /// Sources, stateful steps and sinks, in the order of the program.
    pub(crate) steps: Vec<StepInfo>,
    /// The sources.
    pub(crate) sources: Vec<(StepName, Box<dyn Source>)>,
    /// The sinks.
    pub(crate) sinks: Vec<PlannedSink>,
    /// The first mistake.
    pub(crate) error: Option<Error>,
}

/// What is known and opened before the workers start.
pub(crate) struct Running {
    /// The durable state.
    pub(crate) store: Arc<Store>,
    /// The opened sources.
    pub(crate) hubs: HashMap<StepName, Arc<SourceHub>>,
    /// To the commit thread.
    pub(crate) commits: Sender<CommitMessage>,
    /// Where sources and sinks do their I/O.
    pub(crate) runtime: Handle,
    /// What sinks may keep files in.
    pub(crate) sinks: PathBuf,
}

/// What the operators of one start share.
pub(crate) struct JobContext {
    /// The job's name.
    pub(crate) job: String,
    /// How many workers there are.
    pub(crate) workers: usize,
    /// How keys are spread.
    pub(crate) groups: KeyGroups,
    /// Makes fingerprints unpredictable; fixed at the job's first start.
    pub(crate) secret: [u8; 16],
    /// This start's number.
    pub(crate) incarnation: Incarnation,
    /// The last committed epoch before this start.
    pub(crate) committed: Option<Epoch>,
    /// The epoch that this start begins with.
    pub(crate) first_epoch: Epoch,
    /// Which epoch the sources emit into.
    pub(crate) clock: EpochClock,
    /// How much is on its way.
    pub(crate) flight: Flight,
    /// How much state may be kept in memory.
    pub(crate) memory: Memory,
    /// How often the splits' loads are compared.
    pub(crate) rebalance: Duration,
    /// `None` while planning.
    pub(crate) running: Option<Running>,
    /// Filled while planning.
    pub(crate) plan: Mutex<Plan>,
    /// What has been committed by this start.
    pub(crate) progress: Progress,
    wakers: Mutex<Vec<SyncActivator>>,
    /// The thread that moves the epoch clock, while it runs.
    beat: Mutex<Option<Thread>>,
    hurry: AtomicBool,
    ends: Mutex<VecDeque<(Epoch, Instant)>>,
    failure: Mutex<Option<Error>>,
    failed: AtomicBool,
}

/// Locks, also where another thread panicked while it held the lock: that panic has failed the job already.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The parts of a [`JobContext`] that are settled before anything runs.
pub(crate) struct Settled {
    pub(crate) job: String,
    pub(crate) workers: usize,
    pub(crate) groups: KeyGroups,
    pub(crate) secret: [u8; 16],
    pub(crate) incarnation: Incarnation,
    pub(crate) committed: Option<Epoch>,
    pub(crate) max_open_epochs: u64,
    pub(crate) in_flight_bytes: u64,
    pub(crate) state_memory: u64,
    pub(crate) rebalance: Duration,
}

impl JobContext {
    /// The context of a start, or of a plan where nothing is `running`.
    pub(crate) fn new(settled: Settled, running: Option<Running>) -> Self {
        let first_epoch = settled.committed.unwrap_or_default().next();
        Self {
            job: settled.job,
            workers: settled.workers,
            groups: settled.groups,
            secret: settled.secret,
            incarnation: settled.incarnation,
            committed: settled.committed,
            first_epoch,
            clock: EpochClock::starting_at(first_epoch, settled.max_open_epochs),
            flight: Flight::new(settled.in_flight_bytes),
            memory: Memory::new(settled.state_memory),
            rebalance: settled.rebalance,
            running,
            plan: Mutex::default(),
            progress: Progress::default(),
            wakers: Mutex::default(),
            beat: Mutex::default(),
            hurry: AtomicBool::new(false),
            ends: Mutex::default(),
            failure: Mutex::default(),
            failed: AtomicBool::new(false),
        }
    }

    /// The context of a job that runs nothing, for tests of what needs one.
    #[cfg(test)]
    pub(crate) fn bare() -> Self {
        let settled = Settled {
            job: "bare".to_owned(),
            workers: 1,
            groups: KeyGroups::new(1).expect("one group is enough"),
            secret: [0; 16],
            incarnation: Incarnation::new(1),
            committed: None,
            max_open_epochs: 3,
            in_flight_bytes: 1 << 20,
            state_memory: 1 << 30,
            rebalance: Duration::from_secs(60),
        };
        Self::new(settled, None)
    }

    /// Stops the job with `error`; the first one wins.
    pub(crate) fn fail(&self, error: Error) {
        // The caller of the job reports it.
        tracing::debug!(%error, "the job fails");
        lock(&self.failure).get_or_insert(error);
        self.failed.store(true, Ordering::SeqCst);
        self.wake_sources();
    }

    /// Whether the job has failed.
    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// The failure.
    pub(crate) fn take_failure(&self) -> Option<Error> {
        lock(&self.failure).take()
    }

    /// Registers a step of the plan.
    pub(crate) fn register(&self, name: &str, kind: &str, version: u32) -> StepName {
        let step = StepName::new(name);
        let mut plan = lock(&self.plan);
        if name.is_empty() || name.contains("::") || name.chars().any(char::is_control) {
            let message = format!("step name {name:?} is empty, contains \"::\" or a control character");
            plan.error.get_or_insert(Error::config(message));
        }
        if plan.steps.iter().any(|other| other.name == step) {
            let message = format!("two steps are named \"{name}\": a name is the address of a step's state");
            plan.error.get_or_insert(Error::config(message));
        }
        plan.steps.push(StepInfo { name: step.clone(), kind: kind.to_owned(), version });
        step
    }

    /// Registers a mistake of the program.
    pub(crate) fn refuse(&self, error: Error) {
        lock(&self.plan).error.get_or_insert(error);
    }

    /// What a sink is told in a job that runs.
    pub(crate) fn sink_context(&self, running: &Running, step: &StepName) -> SinkContext {
        SinkContext {
            job: self.job.clone(),
            step: step.clone(),
            incarnation: self.incarnation,
            committed: self.committed,
            workers: self.workers,
            folder: running.sinks.join(step.as_file_name()),
            runtime: running.runtime.clone(),
        }
    }

    /// Registers an operator that is to be activated at each beat and commit.
    pub(crate) fn add_waker(&self, waker: SyncActivator) {
        lock(&self.wakers).push(waker);
    }

    /// Activates the source operators.
    pub(crate) fn wake_sources(&self) {
        for waker in lock(&self.wakers).iter() {
            // A worker that is gone needs no waking.
            let _ = waker.activate();
        }
    }

    /// Makes the calling thread the one that moves the epoch clock.
    pub(crate) fn take_the_beat(&self) {
        *lock(&self.beat) = Some(std::thread::current());
    }

    /// Asks for the next epoch before its time: something waits for the present one to be over.
    pub(crate) fn hurry(&self) {
        self.hurry.store(true, Ordering::SeqCst);
        self.wake_beat();
    }

    /// Whether somebody has asked since the last call.
    pub(crate) fn take_hurry(&self) -> bool {
        self.hurry.swap(false, Ordering::SeqCst)
    }

    /// Has the thread that moves the epoch clock look again.
    pub(crate) fn wake_beat(&self) {
        if let Some(thread) = lock(&self.beat).as_ref() {
            thread.unpark();
        }
    }

    /// Moves the epoch clock, and remembers when the epoch ended.
    pub(crate) fn end_epoch(&self, now: Instant, step: impl FnOnce(&EpochClock)) {
        let ending = self.clock.current();
        step(&self.clock);
        if self.clock.current() > ending {
            lock(&self.ends).push_back((ending, now));
        }
    }

    /// When the epochs through `epoch` ended that have not been asked for yet.
    pub(crate) fn take_ends(&self, epoch: Epoch) -> Vec<Instant> {
        let mut ends = lock(&self.ends);
        let count = ends.iter().take_while(|(ended, _)| *ended <= epoch).count();
        ends.drain(..count).map(|(_, at)| at).collect()
    }

    /// Whether the sources may read on.
    pub(crate) fn may_emit(&self) -> bool {
        let room = self.memory.room().is_none_or(|room| self.flight.records() <= room);
        room && self.flight.has_room() && self.clock.may_emit() && !self.is_behind() && !self.failed()
    }

    /// How many bytes one worker's source may read at a time, `most` or less: of small records that many would not find room
    /// where each brings in an entry of keyed state.
    pub(crate) fn readable(&self, most: usize) -> usize {
        let room = self.memory.room().map(|room| room.saturating_sub(self.flight.records()));
        let share = room.map(|room| room / self.workers.max(1));
        share.map_or(most, |records| records.saturating_mul(self.flight.average()).clamp(1, most.max(1)))
    }

    /// Whether the store, or state that has to leave memory for it, is behind the records.
    fn is_behind(&self) -> bool {
        self.memory.is_pressing() || self.running.as_ref().is_some_and(|running| running.store.is_behind())
    }

    /// This process's steady clock. The one place where operators take the time from.
    pub(crate) fn now(&self) -> Instant {
        Instant::now()
    }

    /// The wall clock.
    pub(crate) fn wall_clock(&self) -> EventTime {
        EventTime::MIN.plus(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
    }
}

/// What a start has committed.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Whether any record or result. Epochs in which nothing happened do not count: a start that fails on its first record,
    /// however long it waited for it, has come no further than the one before.
    pub(crate) made: AtomicBool,
    /// The last epoch that the store holds; 0 where this start has stored none.
    pub(crate) durable: AtomicU64,
    /// Whether the input has ended and all of it is committed.
    pub(crate) complete: AtomicBool,
}

/// Counts the records that are between the exchange and the step that takes them, so that a worker that is faster than
/// another does not fill the other's queue without bound.
#[derive(Debug)]
pub(crate) struct Flight {
    records: AtomicI64,
    /// What they take up themselves, without what they own on the heap.
    sizes: AtomicI64,
    read_records: AtomicI64,
    read_bytes: AtomicI64,
    limit_bytes: i64,
}

impl Flight {
    fn new(limit_bytes: u64) -> Self {
        Self {
            records: AtomicI64::new(0),
            sizes: AtomicI64::new(0),
            read_records: AtomicI64::new(0),
            read_bytes: AtomicI64::new(0),
            limit_bytes: i64::try_from(limit_bytes).unwrap_or(i64::MAX),
        }
    }

    /// Records were read: tells how large a record is on average.
    pub(crate) fn read(&self, records: usize, bytes: usize) {
        self.read_records.fetch_add(records as i64, Ordering::Relaxed);
        self.read_bytes.fetch_add(bytes as i64, Ordering::Relaxed);
    }

    /// Records of type `T` were sent towards a keyed step.
    pub(crate) fn sent<T>(&self, records: usize) {
        self.records.fetch_add(records as i64, Ordering::Relaxed);
        self.sizes.fetch_add(records.saturating_mul(size_of::<T>()) as i64, Ordering::Relaxed);
    }

    /// A keyed step is done with records of type `T`.
    pub(crate) fn arrived<T>(&self, records: usize) {
        self.records.fetch_sub(records as i64, Ordering::Relaxed);
        self.sizes.fetch_sub(records.saturating_mul(size_of::<T>()) as i64, Ordering::Relaxed);
    }

    /// The estimated size of what is on its way, in bytes: as it was read, or as it lies in memory, whichever is more.
    pub(crate) fn bytes(&self) -> i64 {
        let as_read = self.records.load(Ordering::Relaxed).saturating_mul(self.average() as i64);
        as_read.max(self.sizes.load(Ordering::Relaxed))
    }

    /// Bytes of a record as it was read, on average; at least 1.
    fn average(&self) -> usize {
        let records = self.read_records.load(Ordering::Relaxed).max(1);
        usize::try_from(self.read_bytes.load(Ordering::Relaxed) / records).unwrap_or_default().max(1)
    }

    /// How many records are on their way.
    pub(super) fn records(&self) -> usize {
        usize::try_from(self.records.load(Ordering::Relaxed)).unwrap_or_default()
    }

    fn has_room(&self) -> bool {
        self.bytes() < self.limit_bytes
    }
}
