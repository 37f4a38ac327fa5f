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
use crate::vocabulary::{SplitId, StepName};

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

    /// After the end: the splits that follow this one, where the source says so there. Time is held back for them until a
    /// listing has them (for a minute at most), so that a listing that lags makes no record late.
    fn children(&self) -> Vec<SplitId> {
        Vec::new()
    }
}

/// Records as a source delivers them: one shared buffer and where each record lies in it.
#[derive(Debug, Clone)]
pub struct RawBatch {
    buffer: Vec<u8>,
    // End of each record's bytes and the start; a separator between them is not part of either.
    spans: Vec<(u32, u32)>,
    positions: Positions,
    faults: Vec<(u32, String)>,
    after: Position,
}

#[derive(Debug, Clone)]
enum Positions {
    /// Record i stands at `base` + its start in the buffer.
    Offsets { base: u64 },
    /// One text a record.
    Texts(Vec<Box<str>>),
}

impl RawBatch {
    /// Records that lie in `buffer` at `spans` (start, end), where byte 0 of the buffer stands at `base` in the split.
    /// Buffers are at most 4 GiB.
    #[must_use]
    pub fn from_offsets(buffer: Vec<u8>, spans: Vec<(u32, u32)>, base: u64, after: Position) -> Self {
        Self { buffer, spans, positions: Positions::Offsets { base }, faults: Vec::new(), after }
    }

    /// An empty batch to which records with positions of their own are pushed.
    #[must_use]
    pub fn with_positions(after: Position) -> Self {
        Self {
            buffer: Vec::new(),
            spans: Vec::new(),
            positions: Positions::Texts(Vec::new()),
            faults: Vec::new(),
            after,
        }
    }

    /// Adds a record. Only for batches made by [`RawBatch::with_positions`].
    pub fn push(&mut self, bytes: &[u8], position: &str) {
        let start = self.buffer.len() as u32;
        self.buffer.extend_from_slice(bytes);
        self.spans.push((start, self.buffer.len() as u32));
        if let Positions::Texts(texts) = &mut self.positions {
            texts.push(position.into());
        }
    }

    /// Marks record `index` as one the source itself could not deliver whole; it goes to the rejected output with `error`.
    pub fn mark_fault(&mut self, index: usize, error: impl Into<String>) {
        self.faults.push((index as u32, error.into()));
    }

    /// Moves the resume position, when records were pushed after the batch was begun.
    pub fn set_after(&mut self, after: Position) {
        self.after = after;
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether it has no record. An empty batch still moves the split's position.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Size in memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The bytes of record `index`; empty where there is none.
    #[must_use]
    pub fn record(&self, index: usize) -> &[u8] {
        let Some(&(start, end)) = self.spans.get(index) else { return &[] };
        self.buffer.get(start as usize..end as usize).unwrap_or(&[])
    }

    /// The records, in order.
    pub fn records(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.spans.iter().map(|&(start, end)| self.buffer.get(start as usize..end as usize).unwrap_or(&[]))
    }

    /// What is wrong with record `index`, where the source marked it.
    #[must_use]
    pub fn fault(&self, index: usize) -> Option<&str> {
        self.faults.iter().find(|(at, _)| *at as usize == index).map(|(_, error)| error.as_str())
    }

    /// Whether any record is marked.
    #[must_use]
    pub fn has_faults(&self) -> bool {
        !self.faults.is_empty()
    }

    /// Where record `index` stands in its split, for error reports.
    #[must_use]
    pub fn position(&self, index: usize) -> String {
        match &self.positions {
            Positions::Offsets { base } => {
                let start = self.spans.get(index).map_or(0, |span| u64::from(span.0));
                base.saturating_add(start).to_string()
            }
            Positions::Texts(texts) => texts.get(index).map(ToString::to_string).unwrap_or_default(),
        }
    }

    /// Where to go on after the last record.
    #[must_use]
    pub fn after(&self) -> &Position {
        &self.after
    }
}
