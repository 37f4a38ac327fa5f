//! A source and a sink in memory, to run a program on known records and look at its results.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::sink::{CommitPermit, Committer, Prepared, Sink, SinkContext, SinkWriter, StagedHandle};
use crate::source::{BoxFuture, Discovery, Enumerator, Position, RawBatch, Reader, Source, SourceContext, Split};
use crate::state::codec;
use crate::vocabulary::{Epoch, Record, SplitId};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct FeedSplit {
    parents: Vec<SplitId>,
    records: Vec<Vec<u8>>,
    ended: bool,
    waiting: Option<Waker>,
}

#[derive(Default)]
struct FeedLog {
    splits: BTreeMap<SplitId, FeedSplit>,
    complete: bool,
}

/// A source in memory. What is pushed stays, so a job that starts again reads again, from where it was.
///
/// # Examples
/// ```
/// use shardflow::testing::{Collected, Feed};
/// use shardflow::{Job, lines};
///
/// let feed = Feed::new();
/// feed.push("split-0", "a");
/// feed.push("split-0", "b");
/// feed.close();
/// let seen = Collected::new();
/// let (source, sink) = (feed.clone(), seen.clone());
/// let state = tempfile::tempdir().expect("a temporary folder");
/// Job::named("letters").workers(1).state(state.path()).run(move |flow| {
///     let (letters, rejected) = flow.source("letters", source.clone()).decode(lines());
///     rejected.sink("rejected", Collected::new());
///     letters.sink("seen", sink.clone());
/// })?;
/// assert_eq!(seen.values(), ["a", "b"]);
/// # Ok::<(), shardflow::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Feed {
    log: Arc<Mutex<FeedLog>>,
}

impl Feed {
    /// A source without splits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a record to a split, which is made where there is none.
    pub fn push(&self, split: &str, record: impl AsRef<[u8]>) {
        self.change(split, |split| split.records.push(record.as_ref().to_vec()));
    }

    /// Makes a split that follows `parents`.
    pub fn open(&self, split: &str, parents: &[&str]) {
        let parents = parents.iter().map(SplitId::new).collect();
        self.change(split, |split| split.parents = parents);
    }

    /// Ends a split.
    pub fn end(&self, split: &str) {
        self.change(split, |split| split.ended = true);
    }

    /// Ends every split, and the source.
    pub fn close(&self) {
        let splits: Vec<_> = lock(&self.log).splits.keys().cloned().collect();
        splits.iter().for_each(|split| self.end(split.as_str()));
        lock(&self.log).complete = true;
    }

    fn change(&self, split: &str, change: impl FnOnce(&mut FeedSplit)) {
        let mut log = lock(&self.log);
        let split = log.splits.entry(SplitId::new(split)).or_default();
        change(split);
        if let Some(waker) = split.waiting.take() {
            waker.wake();
        }
    }
}

impl Source for Feed {
    /// The same for every feed: a test that starts a job again with another feed means to go on with it.
    fn identity(&self) -> String {
        "feed".to_owned()
    }

    fn open(&self, _context: SourceContext) -> BoxFuture<'_, Result<Box<dyn Enumerator>>> {
        let feed = self.clone();
        Box::pin(async move { Ok(Box::new(feed) as Box<dyn Enumerator>) })
    }
}

impl Enumerator for Feed {
    fn interval(&self) -> Duration {
        Duration::from_millis(10)
    }

    fn discover(&mut self) -> BoxFuture<'_, Result<Discovery>> {
        let log = lock(&self.log);
        let split =
            |(id, split): (&SplitId, &FeedSplit)| Split::new(id.clone(), split.parents.clone(), Position::new("0"));
        let discovery = Discovery { splits: log.splits.iter().map(split).collect(), complete: log.complete };
        Box::pin(async move { Ok(discovery) })
    }

    fn open(&mut self, split: &SplitId, position: &Position) -> Result<Box<dyn Reader>> {
        let bad = |error| Error::source(format!("position \"{position}\" is not a number")).caused_by(error);
        let next = position.as_str().parse::<usize>().map_err(bad)?;
        Ok(Box::new(FeedReader { log: Arc::clone(&self.log), split: split.clone(), next }))
    }
}

struct FeedReader {
    log: Arc<Mutex<FeedLog>>,
    split: SplitId,
    next: usize,
}

/// Small, so that tests with few records have many batches.
const FEED_BATCH: usize = 16;

impl Reader for FeedReader {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RawBatch>>> {
        let mut log = lock(&self.log);
        let Some(split) = log.splits.get_mut(&self.split) else {
            return Poll::Ready(Err(Error::source(format!("split \"{}\" is gone", self.split))));
        };
        let rest = split.records.get(self.next..).unwrap_or_default();
        if rest.is_empty() {
            if split.ended {
                return Poll::Ready(Ok(None));
            }
            split.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut batch = RawBatch::with_positions(Position::new("0"));
        for record in rest.iter().take(FEED_BATCH) {
            batch.push(record, self.next);
            self.next += 1;
        }
        batch.set_after(Position::new(self.next.to_string()));
        Poll::Ready(Ok(Some(batch)))
    }
}

struct CollectedState<T> {
    visible: Vec<T>,
    /// Numbers each prepared batch, over all steps and jobs that share the sink: what a handle is known by.
    prepared: u64,
    committed: BTreeSet<u64>,
}

/// A sink in memory: shows what was committed, exactly once, also over restarts of the job in one process.
#[derive(Clone)]
pub struct Collected<T> {
    state: Arc<Mutex<CollectedState<T>>>,
}

impl<T: Record> Collected<T> {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: Arc::new(Mutex::new(CollectedState {
                visible: Vec::new(),
                prepared: 0,
                committed: BTreeSet::new(),
            })),
        }
    }

    /// What has been committed, in the order of epochs and workers.
    #[must_use]
    pub fn values(&self) -> Vec<T> {
        lock(&self.state).visible.clone()
    }
}

impl<T: Record> Default for Collected<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Record> Sink<T> for Collected<T> {
    fn committer(&self, _context: &SinkContext) -> Result<Box<dyn Committer>> {
        Ok(Box::new(self.clone()))
    }

    fn writer(&self, _context: &SinkContext, _worker: usize) -> Result<Box<dyn SinkWriter<T>>> {
        Ok(Box::new(Collecting { state: Arc::clone(&self.state), staged: Vec::new() }))
    }
}

struct Collecting<T> {
    state: Arc<Mutex<CollectedState<T>>>,
    staged: Vec<T>,
}

impl<T: Record> SinkWriter<T> for Collecting<T> {
    fn stage(&mut self, record: &T) -> Result<()> {
        self.staged.push(record.clone());
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Option<Prepared>> {
        if self.staged.is_empty() {
            return Ok(None);
        }
        let number = {
            let mut state = lock(&self.state);
            state.prepared = state.prepared.saturating_add(1);
            state.prepared
        };
        let mut handle = Vec::new();
        codec::encode_into(&(number, std::mem::take(&mut self.staged)), &mut handle)?;
        Ok(Some(Prepared::Staged(handle)))
    }
}

impl<T: Record> Committer for Collected<T> {
    fn recover(&mut self, permit: Option<&CommitPermit>, handles: &[StagedHandle]) -> Result<()> {
        permit.map_or(Ok(()), |permit| self.commit(permit, handles))
    }

    fn commit(&mut self, _permit: &CommitPermit, handles: &[StagedHandle]) -> Result<()> {
        let mut state = lock(&self.state);
        for handle in handles {
            let (number, records) = codec::decode::<(u64, Vec<T>)>(&handle.handle)?;
            // A handle of an earlier sink over the same state: its numbers are taken.
            state.prepared = state.prepared.max(number);
            if state.committed.insert(number) {
                state.visible.extend(records);
            }
        }
        Ok(())
    }
}
