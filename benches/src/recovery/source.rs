//! A source that first gives every key once, as fast as it is read, and then changes of keys, at a steady rate.
//!
//! # Progress tracking
//! A position is the number of records of the split before it.
//!
//! # Resumption
//! At the position. Changes are due from when a reader is opened: a job that was down finds one at once, and no backlog
//! beside it.
//!
//! # Rewinds
//! The same records in the same order.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use shardflow::source::{BoxFuture, Discovery, Enumerator, Position, RawBatch, Reader, Source, SourceContext, Split};
use shardflow::vocabulary::SplitId;
use shardflow::{Error, Result};

use crate::paced::Bell;
use crate::records::batch;

const SPLITS: u64 = 4;
/// Changes a second, of all splits.
const CHANGES: u64 = 50_000;
const TICK: Duration = Duration::from_millis(5);
/// How many records are delivered at a time at most.
const BATCH: u64 = 4_096;

/// The source.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    keys: u64,
    bell: Arc<Bell>,
}

impl Keys {
    /// The keys below `keys`.
    pub(super) fn new(keys: u64) -> Self {
        Self { keys, bell: Bell::hang(TICK) }
    }
}

impl Source for Keys {
    fn identity(&self) -> String {
        format!("keys:{}", self.keys)
    }

    fn open(&self, _context: SourceContext) -> BoxFuture<'_, Result<Box<dyn Enumerator>>> {
        let enumerator = KeyEnumerator(self.clone());
        Box::pin(async move { Ok(Box::new(enumerator) as Box<dyn Enumerator>) })
    }
}

struct KeyEnumerator(Keys);

impl Enumerator for KeyEnumerator {
    fn interval(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn discover(&mut self) -> BoxFuture<'_, Result<Discovery>> {
        let split = |split: u64| Split::new(SplitId::new(split.to_string()), Vec::new(), Position::new("0"));
        let splits = (0..SPLITS).map(split).collect();
        Box::pin(async move { Ok(Discovery { splits, complete: true }) })
    }

    fn open(&mut self, split: &SplitId, position: &Position) -> Result<Box<dyn Reader>> {
        let number =
            |text: &str| text.parse().map_err(|error| Error::source(format!("{text:?} is no number")).caused_by(error));
        Ok(Box::new(KeyReader {
            source: self.0.clone(),
            split: number(split.as_str())?,
            next: number(position.as_str())?,
            changes: None,
        }))
    }
}

struct KeyReader {
    source: Keys,
    split: u64,
    next: u64,
    /// When the first change was due, and where it stood.
    changes: Option<(Instant, u64)>,
}

impl KeyReader {
    /// How many records bring each key of the split once.
    fn whole(&self) -> u64 {
        self.source.keys.saturating_sub(self.split).div_ceil(SPLITS)
    }

    fn key(&self, index: u64) -> u64 {
        if index < self.whole() {
            return self.split + index * SPLITS;
        }
        // Keys of other splits too: changes come from anywhere.
        index.wrapping_mul(SPLITS).wrapping_add(self.split).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            % self.source.keys.max(1)
    }
}

impl Reader for KeyReader {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RawBatch>>> {
        let whole = self.whole();
        let until = if self.next < whole {
            whole
        } else {
            let now = Instant::now();
            let (since, first) = *self.changes.get_or_insert((now, self.next));
            let passed = now.saturating_duration_since(since).as_nanos() * u128::from(CHANGES / SPLITS) / 1_000_000_000;
            first.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX)).saturating_add(1)
        };
        let until = until.min(self.next.saturating_add(BATCH));
        if until == self.next {
            self.source.bell.call_at(Instant::now(), cx.waker().clone());
            return Poll::Pending;
        }
        let batch = batch(self.next, (self.next..until).map(|index| self.key(index)));
        self.next = until;
        Poll::Ready(Ok(Some(batch)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::NumberDecoder;
    use shardflow::Decoder;
    use std::collections::BTreeSet;
    use std::future::poll_fn;

    fn reader(source: &Keys, split: u64, next: u64) -> KeyReader {
        KeyReader { source: source.clone(), split, next, changes: None }
    }

    async fn read(reader: &mut KeyReader) -> Vec<u64> {
        let batch = poll_fn(|cx| reader.poll_read(cx)).await.unwrap().unwrap();
        batch.records().map(|raw| NumberDecoder.decode(raw).unwrap()).collect()
    }

    #[tokio::test]
    async fn every_key_comes_once_before_any_change() {
        let source = Keys::new(10_001);
        let mut seen = BTreeSet::new();
        for split in 0..SPLITS {
            let mut reader = reader(&source, split, 0);
            while reader.next < reader.whole() {
                for key in read(&mut reader).await {
                    assert!(seen.insert(key), "{key}");
                }
            }
        }
        assert_eq!(seen, (0..10_001).collect());
    }

    #[tokio::test]
    async fn a_job_that_was_down_finds_one_change_at_once_and_no_backlog() {
        let source = Keys::new(100);
        let mut first = reader(&source, 2, 500);
        let keys = read(&mut first).await;
        assert_eq!(keys.len(), 1);
        assert_eq!(keys, read(&mut reader(&source, 2, 500)).await, "a rewind gives the same");
        assert!(read(&mut first).await.iter().all(|key| *key < 100));
    }
}
