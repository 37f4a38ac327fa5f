//! A [`Feed`] that is read at the pace the test sets, and counts what is read.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use shardflow::Result;
use shardflow::source::{BoxFuture, Discovery, Enumerator, Position, RawBatch, Reader, Source, SourceContext, Split};
use shardflow::testing::Feed;
use shardflow::vocabulary::SplitId;

use super::lock;

/// How much may be read, and how much was.
#[derive(Default)]
pub(crate) struct Pace {
    inner: Mutex<Allowance>,
}

struct Allowance {
    /// Batches that may yet be read; `None`: any number.
    left: Option<u64>,
    batches: u64,
    bytes: u64,
    waiting: Vec<Waker>,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { left: Some(0), batches: 0, bytes: 0, waiting: Vec::new() }
    }
}

impl Pace {
    /// Nothing may be read yet.
    pub(crate) fn stopped() -> Arc<Self> {
        Arc::default()
    }

    /// Everything may be read.
    pub(crate) fn unlimited() -> Arc<Self> {
        let pace = Self::stopped();
        pace.open();
        pace
    }

    /// Lets so many further batches be read, of up to 16 records each, of whichever splits.
    pub(crate) fn grant(&self, batches: u64) {
        self.change(|inner| inner.left = inner.left.map(|left| left + batches));
    }

    /// Lets everything be read.
    pub(crate) fn open(&self) {
        self.change(|inner| inner.left = None);
    }

    /// How many batches have been read.
    pub(crate) fn batches(&self) -> u64 {
        lock(&self.inner).batches
    }

    /// How many bytes have been read.
    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.inner).bytes
    }

    fn change(&self, change: impl FnOnce(&mut Allowance)) {
        let waiting = {
            let mut inner = lock(&self.inner);
            change(&mut inner);
            std::mem::take(&mut inner.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// A [`Feed`] read at a [`Pace`].
#[derive(Clone)]
pub(crate) struct Paced {
    pub(crate) feed: Feed,
    pub(crate) pace: Arc<Pace>,
}

impl Source for Paced {
    fn identity(&self) -> String {
        "paced".to_owned()
    }

    fn open(&self, context: SourceContext) -> BoxFuture<'_, Result<Box<dyn Enumerator>>> {
        Box::pin(async move {
            let inner = Source::open(&self.feed, context).await?;
            Ok(Box::new(PacedEnumerator { inner, pace: Arc::clone(&self.pace) }) as Box<dyn Enumerator>)
        })
    }
}

struct PacedEnumerator {
    inner: Box<dyn Enumerator>,
    pace: Arc<Pace>,
}

impl Enumerator for PacedEnumerator {
    fn interval(&self) -> Duration {
        self.inner.interval()
    }

    fn discover(&mut self) -> BoxFuture<'_, Result<Discovery>> {
        self.inner.discover()
    }

    fn open(&mut self, split: &SplitId, position: &Position) -> Result<Box<dyn Reader>> {
        Ok(Box::new(PacedReader { inner: self.inner.open(split, position)?, pace: Arc::clone(&self.pace) }))
    }
}

struct PacedReader {
    inner: Box<dyn Reader>,
    pace: Arc<Pace>,
}

impl Reader for PacedReader {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RawBatch>>> {
        let mut pace = lock(&self.pace.inner);
        if pace.left == Some(0) {
            pace.waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        let read = self.inner.poll_read(cx);
        if let Poll::Ready(Ok(Some(batch))) = &read {
            pace.left = pace.left.map(|left| left - 1);
            pace.batches += 1;
            pace.bytes += batch.bytes() as u64;
        }
        read
    }
}

/// A source without end: one split whose `n`th record `make` makes, in batches of 16.
#[derive(Clone)]
pub(crate) struct Endless {
    pub(crate) make: fn(u64) -> Vec<u8>,
    pub(crate) pace: Arc<Pace>,
}

impl Source for Endless {
    fn identity(&self) -> String {
        "endless".to_owned()
    }

    fn open(&self, _context: SourceContext) -> BoxFuture<'_, Result<Box<dyn Enumerator>>> {
        let source = self.clone();
        Box::pin(async move { Ok(Box::new(source) as Box<dyn Enumerator>) })
    }
}

impl Enumerator for Endless {
    fn interval(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn discover(&mut self) -> BoxFuture<'_, Result<Discovery>> {
        let split = Split::new("endless", Vec::new(), Position::new("0"));
        Box::pin(async move { Ok(Discovery { splits: vec![split], complete: true }) })
    }

    fn open(&mut self, _split: &SplitId, position: &Position) -> Result<Box<dyn Reader>> {
        let inner = Box::new(EndlessReader { make: self.make, next: position.as_str().parse().unwrap() });
        Ok(Box::new(PacedReader { inner, pace: Arc::clone(&self.pace) }))
    }
}

struct EndlessReader {
    make: fn(u64) -> Vec<u8>,
    next: u64,
}

impl Reader for EndlessReader {
    fn poll_read(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Option<RawBatch>>> {
        let mut batch = RawBatch::with_positions(Position::new("0"));
        for number in self.next..self.next + 16 {
            batch.push(&(self.make)(number), number);
        }
        self.next += 16;
        batch.set_after(Position::new(self.next.to_string()));
        Poll::Ready(Ok(Some(batch)))
    }
}
