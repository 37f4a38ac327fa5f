//! The open store: commits epochs, takes acknowledgements.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use fail::fail_point;
use rocksdb::{DB, Range, WriteBatch, WriteOptions};

use super::decision;
use super::files::{Folder, MarkerFile};
use super::layout;
use super::records::{self, EpochRecord, Folded, LogEntry, StepInfo, StepRecord};
use super::tuning::Tuning;
use crate::error::{Error, ErrorKind, Result};
use crate::sink::{CommitPermit, StagedHandle};
use crate::state::frame::{self, Kind};
use crate::vocabulary::{Epoch, Incarnation, StepName};

/// Whose folder it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The job's name. A folder of another job is refused.
    pub job: String,
    /// How many key groups to use if this is the job's first start; later ones keep that number. At least 1.
    pub key_groups: u16,
}

/// What a start finds.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// The last committed epoch. Sources go on after its positions.
    pub committed: Option<Epoch>,
    /// This start's number, durable already.
    pub incarnation: Incarnation,
    /// The number of key groups, fixed at the first start.
    pub key_groups: u16,
    /// The job's secret, random and fixed at the first start. Keys the fingerprints of ids.
    pub secret: [u8; 16],
    /// The steps whose state is stored.
    pub steps: Vec<StepInfo>,
    /// What the sinks must commit again, by step: all handles of committed epochs that were not acknowledged.
    pub handles: BTreeMap<StepName, Vec<StagedHandle>>,
}

/// What one worker changed in one step, or a part of it.
#[derive(Debug, Clone)]
pub struct StepChange {
    /// The step; it must be registered.
    pub step: StepName,
    /// The worker.
    pub worker: u32,
    /// A frame that a [`ChangelogWriter`](crate::state::ChangelogWriter) gave.
    pub changelog: Vec<u8>,
}

/// All that makes up a committed epoch, or several that are committed together.
#[derive(Debug, Clone)]
pub struct EpochBatch {
    /// Its number, or the last one's.
    pub epoch: Epoch,
    /// Changelogs, oldest first: of two that name one key the later wins.
    pub changes: Vec<StepChange>,
    /// What sinks have staged.
    pub handles: Vec<(StepName, StagedHandle)>,
}

/// Sizes, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreStats {
    /// About how many bytes the base takes on disk, what is still in a write buffer not counted.
    pub base_bytes: u64,
    /// Bytes of changelogs that are not folded.
    pub changelog_bytes: u64,
    /// Epochs that are not folded.
    pub unfolded_epochs: u64,
}

/// The durable state of one process. Shared by reference between its threads.
#[derive(Debug)]
pub struct Store {
    // Closed before the lock is let go: fields drop in this order.
    pub(super) db: DB,
    pub(super) inner: Mutex<Inner>,
    /// Held for writing while the base changes, for reading while it is restored from.
    pub(super) base: RwLock<()>,
    pub(super) tuning: Tuning,
    /// Whether the next fold is to be of everything: memory is short, and what the base has may leave it.
    pub(super) fold_wanted: AtomicBool,
    /// Whether folds are too far behind the commits.
    pub(super) behind: AtomicBool,
    /// Whether folds are to stop where they are.
    pub(super) fold_stopped: AtomicBool,
    /// The folder, where it was nobody's before this start.
    new: Option<Folder>,
    _lock: File,
}

/// What commits, folds and restores agree on.
#[derive(Debug)]
pub(super) struct Inner {
    /// The records of all epochs that are not folded, oldest first. The last one is the head: it names the handles.
    pub(super) chain: VecDeque<EpochRecord>,
    pub(super) steps: Vec<StepRecord>,
    pub(super) folded: Folded,
    pub(super) marker: MarkerFile,
    /// A write failed, so the database may be ahead of the chain: only a new start can tell.
    pub(super) failed: bool,
}

/// More than what a batch takes for a record beside its value.
const RECORD_BYTES: usize = 64;

/// Options of a write that must be on the disk when it returns.
pub(super) fn durable() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

pub(super) fn broken(what: impl Into<String>, error: rocksdb::Error) -> Error {
    Error::new(ErrorKind::Store, what).caused_by(error)
}

impl Store {
    pub(super) fn new(db: DB, inner: Inner, tuning: Tuning, new: Option<Folder>, lock: File) -> Self {
        Self {
            db,
            inner: Mutex::new(inner),
            base: RwLock::new(()),
            tuning,
            fold_wanted: AtomicBool::new(false),
            behind: AtomicBool::new(false),
            fold_stopped: AtomicBool::new(false),
            new,
            _lock: lock,
        }
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic inside leaves `failed` set or nothing changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes one durable batch: when it returns, the epoch is committed and its handles may be made visible.
    ///
    /// # Errors
    /// [`ErrorKind::Store`]: the disk failed; whether the epoch is committed shows at the next start, and until then every
    /// commit fails. [`ErrorKind::Internal`]: the epoch is not after the last one, a step is not registered, or a
    /// changelog is not sealed; nothing was written.
    pub fn commit(&self, batch: EpochBatch) -> Result<CommitPermit> {
        fail_point!("store::before-commit");
        let mut inner = self.inner();
        let epoch = batch.epoch;
        if inner.failed {
            return Err(Error::new(
                ErrorKind::Store,
                format!("could not commit epoch {epoch}: an earlier write failed"),
            ));
        }
        let record = inner.record_of(&batch)?;
        let sealed = records::seal(Kind::Epoch, &record)?;
        let bytes = batch.changes.iter().fold(sealed.len(), |sum, change| sum.saturating_add(change.changelog.len()));
        let mut writes =
            WriteBatch::with_capacity_bytes(bytes.saturating_add(RECORD_BYTES * (batch.changes.len() + 1)));
        writes.put(layout::epoch(epoch), sealed);
        // Each goes as soon as its copy is there: an epoch may be most of the memory that a job takes.
        for (index, change) in (0_u32..).zip(batch.changes) {
            writes.put(layout::changelog(epoch, index), change.changelog);
        }
        inner.failed = true;
        self.db
            .write_opt(writes, &durable())
            .map_err(|error| broken(format!("could not commit epoch {epoch}"), error).indeterminate())?;
        inner.append(record);
        self.behind.store(decision::is_behind(&self.tuning, inner.sizes()), Ordering::SeqCst);
        fail_point!("store::after-commit");
        fail_point!("store::before-marker");
        inner.marker.write(epoch).map_err(|error| {
            let message = format!("could not name epoch {epoch} in the file \"committed\"");
            Error::new(ErrorKind::Store, message).caused_by(error).indeterminate()
        })?;
        inner.failed = false;
        Ok(CommitPermit::granted(epoch))
    }

    /// Forgets the handles of epochs up to `through`, which the sinks have made visible. Not synced: after a crash some
    /// may be handed out again.
    ///
    /// # Errors
    /// [`ErrorKind::Store`]: the disk failed.
    pub fn acknowledge(&self, through: Epoch) -> Result<()> {
        let mut inner = self.inner();
        let failed = inner.failed;
        let Some(head) = inner.chain.back_mut() else { return Ok(()) };
        let pending = decision::still_pending(&head.handles, through);
        // Where a commit failed the head may not be the newest record, and must not seem to be.
        if failed || pending.len() == head.handles.len() {
            return Ok(());
        }
        head.handles = pending;
        let key = layout::epoch(head.epoch);
        let sealed = records::seal(Kind::Epoch, head)?;
        self.db.put(key, sealed).map_err(|error| broken(format!("could not acknowledge epoch {through}"), error))
    }

    /// Names the program's steps. Call it before the first commit and before restoring.
    ///
    /// # Errors
    /// A name is used twice, a step's kind or state version is not the stored one's, or the snapshot holds state of a
    /// step that the program does not have: then its state is deleted if `allow_dropped`.
    pub fn register_steps(&self, steps: &[StepInfo], allow_dropped: bool) -> Result<()> {
        let _changing = self.base.write().unwrap_or_else(PoisonError::into_inner);
        let mut inner = self.inner();
        let (plan, dropped) = decision::plan_steps(&inner.steps, steps, allow_dropped)?;
        if plan == inner.steps {
            return Ok(());
        }
        let mut writes = WriteBatch::default();
        writes.put(layout::STEPS, records::seal(Kind::Steps, &plan)?);
        for id in dropped {
            writes.delete_range(layout::base_prefix(id, 0), layout::base_prefix(id, u32::MAX));
        }
        fail_point!("store::before-steps");
        self.db.write_opt(writes, &durable()).map_err(|error| broken("could not register the steps", error))?;
        fail_point!("store::after-steps");
        inner.steps = plan;
        Ok(())
    }

    /// Leaves no trace of a job's first start that came to nothing. Does nothing where the folder was in use before.
    pub(crate) fn take_back(self) {
        let Self { db, new, _lock, .. } = self;
        // RocksDB removes files by their paths when it closes, and another start may be the folder's next owner by then.
        drop(db);
        if let Some(folder) = new {
            folder.take_back();
        }
    }

    /// Whether so much is committed and not folded that nothing more should be read: a start would take too long. Told by
    /// the last commit, which is followed by a fold, or by the last fold.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind.load(Ordering::SeqCst)
    }

    /// Whether a fold of everything was asked for and has not begun.
    #[must_use]
    pub fn is_fold_wanted(&self) -> bool {
        self.fold_wanted.load(Ordering::SeqCst)
    }

    /// Sizes, for the metrics.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let base_bytes = self.base_bytes();
        let inner = self.inner();
        let changelog_bytes = inner.chain.iter().fold(0_u64, |sum, record| sum.saturating_add(record.bytes()));
        StoreStats { base_bytes, changelog_bytes, unfolded_epochs: inner.chain.len() as u64 }
    }

    pub(super) fn base_bytes(&self) -> u64 {
        let sizes = self.db.get_approximate_sizes(&[Range::new(layout::BASE.0, layout::BASE.1)]);
        sizes.first().copied().unwrap_or(0)
    }
}

impl Inner {
    pub(super) fn step_id(&self, name: &StepName) -> Option<u32> {
        self.steps.iter().find(|step| !step.dropped && step.info.name == *name).map(|step| step.id)
    }

    fn record_of(&self, batch: &EpochBatch) -> Result<EpochRecord> {
        let epoch = batch.epoch;
        let previous = self.chain.back().map(|head| head.epoch);
        if previous.is_some_and(|previous| previous >= epoch) || epoch == Epoch::new(u64::MAX) {
            let last = previous.unwrap_or_default();
            return Err(Error::internal(format!("could not commit epoch {epoch}: epoch {last} is committed already")));
        }
        let mut logs = Vec::with_capacity(batch.changes.len());
        for change in &batch.changes {
            let name = &change.step;
            let step = self.step_id(name).ok_or_else(|| {
                Error::internal(format!("could not commit epoch {epoch}: step \"{name}\" is unknown"))
            })?;
            let checksum = frame::checksum(&change.changelog).map_err(|error| error.in_step(name.as_str()))?;
            logs.push(LogEntry { step, worker: change.worker, bytes: change.changelog.len() as u64, checksum });
        }
        let pending = self.chain.back().map_or(&[][..], |head| &head.handles);
        let handles = pending.iter().chain(&batch.handles).cloned().collect();
        Ok(EpochRecord { epoch, previous, logs, handles })
    }

    /// The size of each epoch that is not folded, oldest first.
    pub(super) fn sizes(&self) -> impl ExactSizeIterator<Item = u64> {
        self.chain.iter().map(EpochRecord::bytes)
    }

    fn append(&mut self, record: EpochRecord) {
        // Only the head's handles count.
        if let Some(last) = self.chain.back_mut() {
            last.handles = Vec::new();
        }
        self.chain.push_back(record);
    }
}
