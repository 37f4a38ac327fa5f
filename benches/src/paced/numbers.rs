//! A source of bare numbers that are due by the clock, to a tenth of a millisecond.
//!
//! Record `n` is the number `n`, in split `n % splits`. What is due and not yet read waits, as in [`super::lines`]. The
//! timers of an asynchronous runtime tick once a millisecond, which is more than what is measured here: a thread of its own
//! ([`Bell`]) stands for the network, and calls the readers whose next record has come.
//!
//! # Progress tracking
//! A position is the number of records of the split before it.
//!
//! # Resumption
//! At the position; the benchmark never does.
//!
//! # Rewinds
//! The same records in the same order.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use shardflow::source::{BoxFuture, Discovery, Enumerator, Position, RawBatch, Reader, Source, SourceContext, Split};
use shardflow::vocabulary::SplitId;
use shardflow::{Error, Result};

use super::bell::Bell;
use super::schedule::Schedule;
use crate::records::batch;

/// How often readers are called at most. A record waits half of it on average, as it would for others in a network's
/// packet.
const TICK: Duration = Duration::from_micros(100);
/// How many records are delivered at a time at most, when they have piled up.
const BATCH: u64 = 4_096;

/// The source.
#[derive(Debug, Clone)]
pub(super) struct Numbers {
    schedule: Schedule,
    records: u64,
    splits: u64,
    bell: Arc<Bell>,
}

impl Numbers {
    /// The numbers below `records`, in `splits` splits.
    pub(super) fn new(schedule: Schedule, records: u64, splits: u64) -> Self {
        Self { schedule, records, splits: splits.max(1), bell: Bell::hang(TICK) }
    }

    /// Reads a split after its first `next` records.
    pub(super) fn reader(&self, split: u64, next: u64) -> NumberReader {
        NumberReader { source: self.clone(), split, next }
    }
}

impl Source for Numbers {
    fn identity(&self) -> String {
        "numbers".to_owned()
    }

    fn open(&self, _context: SourceContext) -> BoxFuture<'_, Result<Box<dyn Enumerator>>> {
        let enumerator = NumberEnumerator(self.clone());
        Box::pin(async move { Ok(Box::new(enumerator) as Box<dyn Enumerator>) })
    }
}

struct NumberEnumerator(Numbers);

impl Enumerator for NumberEnumerator {
    fn interval(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn discover(&mut self) -> BoxFuture<'_, Result<Discovery>> {
        let split = |split: u64| Split::new(SplitId::new(split.to_string()), Vec::new(), Position::new("0"));
        let splits = (0..self.0.splits).map(split).collect();
        Box::pin(async move { Ok(Discovery { splits, complete: true }) })
    }

    fn open(&mut self, split: &SplitId, position: &Position) -> Result<Box<dyn Reader>> {
        let number =
            |text: &str| text.parse().map_err(|error| Error::source(format!("{text:?} is no number")).caused_by(error));
        Ok(Box::new(self.0.reader(number(split.as_str())?, number(position.as_str())?)))
    }
}

/// Reads one split.
pub(super) struct NumberReader {
    source: Numbers,
    split: u64,
    next: u64,
}

impl Reader for NumberReader {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RawBatch>>> {
        let Numbers { schedule, records, splits, bell } = &self.source;
        let in_split = |count: u64| count.saturating_sub(self.split).div_ceil(*splits);
        let due = in_split(schedule.due_by(Instant::now()).min(*records)).min(self.next.saturating_add(BATCH));
        if due > self.next {
            let batch = batch(self.next, (self.next..due).map(|index| self.split + index * splits));
            self.next = due;
            return Poll::Ready(Ok(Some(batch)));
        }
        if self.next >= in_split(*records) {
            return Poll::Ready(Ok(None));
        }
        bell.call_at(schedule.due(self.split + self.next * splits), cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::NumberDecoder;
    use shardflow::Decoder;
    use std::future::poll_fn;

    #[tokio::test]
    async fn every_number_is_delivered_once_and_none_before_it_is_due() {
        let schedule = Schedule::new(20_000);
        let source = Numbers::new(schedule.clone(), 2_001, 4);
        let mut read = Vec::new();
        for split in 0..4 {
            let mut reader = source.reader(split, 0);
            while let Some(batch) = poll_fn(|cx| reader.poll_read(cx)).await.unwrap() {
                let now = Instant::now();
                let numbers: Vec<u64> = batch.records().map(|raw| NumberDecoder.decode(raw).unwrap()).collect();
                assert!(numbers.iter().all(|number| number % 4 == split && schedule.due(*number) <= now));
                assert_eq!(batch.after().as_str(), reader.next.to_string());
                read.extend(numbers);
            }
        }
        read.sort_unstable();
        assert_eq!(read, (0..2_001).collect::<Vec<u64>>());
    }

    #[tokio::test]
    async fn a_reader_goes_on_at_its_position() {
        let source = Numbers::new(Schedule::new(1_000_000), 100, 2);
        let mut reader = source.reader(1, 7);
        let batch = poll_fn(|cx| reader.poll_read(cx)).await.unwrap().unwrap();
        assert_eq!(NumberDecoder.decode(batch.record(0)), Ok(15));
        assert_eq!(batch.position(0), "56");
    }
}
