//! The port of sources. A [`Source`] is opened once a process and start; its [`Enumerator`] finds splits, and each
//! split is read by one [`Reader`] on one worker.
//!
//! # Progress tracking
//! A reader hands over [`RawBatch`]es, each with the [`Position`] after its last record. The engine stores that position
//! in the epoch in which it emitted the batch. A batch never straddles epochs.
//!
//! # Resumption
//! After a restart each split that has not ended is opened at its stored position, that is *after* the last record of
//! the last committed epoch. A split that has ended is never opened again.
//!
//! # Rewinds
//! Reading the same split from the same position must give the same records in the same order; batch borders may differ.

pub mod assignment;
mod batch;
pub mod lineage;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::vocabulary::{Incarnation, SourceId, SplitId, StepName};

pub use batch::{RawBatch, RecordMeta};
pub use lineage::{Adoption, Forgotten, Lineage};

/// A boxed future, so that the port is object-safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where a reader stands in its split: text that only its source understands (`"1024"`, `"after:4957…"`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position(Arc<str>);

impl Position {
    /// Wraps the source's own notation.
    #[must_use]
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(Arc::from(text.as_ref()))
    }

    /// The source's own notation.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A part of a source that one reader reads in order: a file, a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Its name, stable across runs.
    pub id: SplitId,
    /// Splits that must be read to their end, in an earlier epoch, before this one is opened.
    pub parents: Vec<SplitId>,
    /// Where to start where no position is stored. Stored in the first commit, so a relative start must be made
    /// concrete here.
    pub start: Position,
    /// Whether it was read to its end before this job began, by whom the job takes over from: then it is known from the
    /// first commit on, its children need not wait for it, and it is never opened. Only looked at where the split is new.
    pub ended: bool,
}

impl Split {
    /// A split that is to be read from `start`, after its `parents`.
    #[must_use]
    pub fn new(id: impl Into<SplitId>, parents: Vec<SplitId>, start: Position) -> Self {
        Self { id: id.into(), parents, start, ended: false }
    }

    /// What the snapshot knows of it before it is read.
    #[must_use]
    pub fn record(&self) -> SplitRecord {
        let status = if self.ended { SplitStatus::Ended } else { SplitStatus::Waiting };
        SplitRecord { parents: self.parents.clone(), position: self.start.clone(), status }
    }
}

/// How far a split has been read, as the snapshot stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SplitStatus {
    /// Found, but a parent has not ended.
    Waiting,
    /// Being read.
    Reading,
    /// Read to its end.
    Ended,
}

/// What the snapshot knows of a split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitRecord {
    /// Its parents.
    pub parents: Vec<SplitId>,
    /// Where to go on.
    pub position: Position,
    /// How far it is.
    pub status: SplitStatus,
}

/// The splits of one source as the last committed epoch knows them.
pub type KnownSplits = BTreeMap<SplitId, SplitRecord>;

/// What an opened source is told.
#[derive(Debug, Clone)]
pub struct SourceContext {
    /// The job's name.
    pub job: String,
    /// The source's name in the flow.
    pub step: StepName,
    /// Where its asynchronous work runs.
    pub runtime: tokio::runtime::Handle,
    /// What the last committed epoch knows; empty at the source's first start.
    pub known: KnownSplits,
    /// Whether this is the source's first start: no split of it was ever committed, whatever other sources of the job have.
    pub first_start: bool,
    /// This start's number.
    pub incarnation: Incarnation,
    /// Names the job's state folder: the same at every start from it, and no other's. No secret. A source that marks
    /// things outside as the job's own (a lease) tells by it that their last owner was an earlier start of this job, which
    /// is gone, since a state folder has one process at a time.
    pub state_id: String,
}

/// What an enumerator found.
#[derive(Debug, Clone, Default)]
pub struct Discovery {
    /// All splits that exist now. Those that the engine knows already are ignored.
    pub splits: Vec<Split>,
    /// Whether no further split will ever appear. The source ends when this is true and all splits have ended.
    pub complete: bool,
}

/// A kind of source with its settings: what the user passes to `flow.source(name, …)`.
pub trait Source: Send + Sync + 'static {
    /// Which input this is: its kind and its place (`file:/data/usage`, `kinesis:usage`). Stored with the positions, so that
    /// those of one input are never taken for those of another whose splits have the same names. So it must not change as
    /// long as the input is the same. Asked once a start, before [`Source::open`].
    fn identity(&self) -> String;

    /// Opens it, once a process and start. Checks settings and reachability within a bounded time.
    ///
    /// # Errors
    /// Settings that cannot work, or a server that cannot be reached: the job does not start.
    fn open(&self, context: SourceContext) -> BoxFuture<'_, Result<Box<dyn Enumerator>>>;
}

/// Finds splits and opens their readers.
pub trait Enumerator: Send + 'static {
    /// How often to look for new splits after the first time. A split's end triggers a look at once.
    fn interval(&self) -> Duration;

    /// Lists the splits.
    ///
    /// # Errors
    /// What retries inside did not mend. It fails the job.
    fn discover(&mut self) -> BoxFuture<'_, Result<Discovery>>;

    /// Opens a split's reader at `position`. Called from the enumerator's task; must not block for long.
    ///
    /// # Errors
    /// A position that the source cannot read from.
    fn open(&mut self, split: &SplitId, position: &Position) -> Result<Box<dyn Reader>>;

    /// Which input this is, where opening it has told more than [`Source::identity`] says: a stream's ARN, where a name may
    /// mean one in each region. The ids of records are made of it, so it must be the same at each start.
    fn input(&self) -> Option<SourceId> {
        None
    }

    /// What follows the job's commits on the source's behalf, if anything does. Asked once, before the first listing.
    fn follower(&mut self) -> Option<Box<dyn Follower>> {
        None
    }
}

/// Follows what the job commits, for the sake of the world outside: keeps leases that fence a second copy of the job, and
/// mirrors positions to where other programs look for them. It is told what was processed and never decides it.
///
/// Called on the thread that commits: every call must return at once, and looks at memory alone.
pub trait Follower: Send + 'static {
    /// Asked before each epoch is made durable.
    ///
    /// # Errors
    /// The job must not emit anything more: another has taken its place. Nothing of the epoch becomes visible.
    fn may_commit(&mut self) -> Result<()>;

    /// These splits' records are committed and visible now; `None`: the split was forgotten. Only what has changed since
    /// the last call; what was committed before this start was in [`SourceContext::known`].
    fn committed(&mut self, changes: &[(SplitId, Option<SplitRecord>)]);

    /// The job has come to an orderly end, after its last commit. May take a few seconds. Not called where it fails: then
    /// the follower is dropped.
    ///
    /// # Errors
    /// What could not be said to the world outside. What was committed stands.
    fn close(&mut self) -> Result<()>;
}

/// Reads one split in order.
pub trait Reader: Send + 'static {
    /// The next batch. `Ready(Ok(None))`: the split has ended for good. `Pending`: the waker is called when there is more.
    ///
    /// Called on a worker's thread: it must return within a few milliseconds.
    ///
    /// # Errors
    /// What retries inside did not mend. It fails the job; the last committed epoch stands.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RawBatch>>>;

    /// How far behind the end of the split the last batch was, in milliseconds, where the source knows.
    fn millis_behind(&self) -> Option<u64> {
        None
    }

    /// Whether `Pending` now means that there is nothing to read. `false` while the reader cannot know: its calls fail or
    /// hang, it is on its way through empty pages or to its stored position. Only a split that says `true` becomes idle
    /// and stops holding time back, so a wrong `true` makes the records that come after it late.
    ///
    /// Asked often, and after a batch too, where [`Reader::millis_behind`] does not know: then, whether that batch was all
    /// there is for the time being. It must be cheap.
    fn caught_up(&self) -> bool {
        true
    }

    /// After the end: the splits that follow this one, where the source says so there. They are known from the end's own
    /// epoch on and hold time back until they are read, so that neither a listing that lags nor a crash makes a record late.
    fn children(&self) -> Vec<Split> {
        Vec::new()
    }
}
