//! A source of bare numbers that wakes its readers when they are due, to a tenth of a millisecond.
//!
//! Record `n` is the number `n`, in split `n % splits`. What is due and not yet read waits, as in [`super::lines`]. The
//! timers of an asynchronous runtime tick once a millisecond, which is more than what is measured here: a thread of its own
//! stands for the network, and calls the readers whose next record has come.
//!
//! # Progress tracking
//! A position is the number of records of the split before it.
//!
//! # Resumption
//! At the position; the benchmark never does.
//!
//! # Rewinds
//! The same records in the same order.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use shardflow::source::{BoxFuture, Discovery, Enumerator, Position, RawBatch, Reader, Source, SourceContext, Split};
use shardflow::vocabulary::SplitId;
use shardflow::{Decoder, Error, Result};

use super::schedule::Schedule;

/// How often readers are called at most. A record waits half of it on average, as it would for others in a network's
/// packet.
const TICK: Duration = Duration::from_micros(100);
/// How many records are delivered at a time at most, when they have piled up.
const BATCH: u64 = 4_096;
/// Bytes of a record.
const WIDTH: usize = size_of::<u64>();

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
        Self { schedule, records, splits: splits.max(1), bell: Bell::hang() }
    }

    /// Reads a split from its beginning.
    fn reader(&self, split: u64, next: u64) -> NumberReader {
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
        let split =
            |split: u64| Split { id: SplitId::new(split.to_string()), parents: Vec::new(), start: Position::new("0") };
        let splits = (0..self.0.splits).map(split).collect();
        Box::pin(async move { Ok(Discovery { splits, complete: true }) })
    }

    fn open(&mut self, split: &SplitId, position: &Position) -> Result<Box<dyn Reader>> {
        let number =
            |text: &str| text.parse().map_err(|error| Error::source(format!("{text:?} is no number")).caused_by(error));
        Ok(Box::new(self.0.reader(number(split.as_str())?, number(position.as_str())?)))
    }
}

struct NumberReader {
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
            let batch = batch(self.next..due, |index| self.split + index * splits);
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

/// The records at `indices` of a split, which stand for the numbers that `number` gives.
pub(crate) fn batch(indices: std::ops::Range<u64>, number: impl Fn(u64) -> u64) -> RawBatch {
    let count = usize::try_from(indices.end.saturating_sub(indices.start)).unwrap_or(0);
    let mut buffer = Vec::with_capacity(count * WIDTH);
    let mut spans = Vec::with_capacity(count);
    for index in indices.clone() {
        let start = buffer.len() as u32;
        buffer.extend_from_slice(&number(index).to_le_bytes());
        spans.push((start, buffer.len() as u32));
    }
    let base = indices.start.saturating_mul(WIDTH as u64);
    RawBatch::from_offsets(buffer, spans, base, Position::new(indices.end.to_string()))
}

/// Reads the records of [`batch`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct NumberDecoder;

impl Decoder for NumberDecoder {
    type Output = u64;

    fn decode(&self, raw: &[u8]) -> Result<u64, String> {
        raw.try_into().map(u64::from_le_bytes).map_err(|_| format!("{} bytes are no number", raw.len()))
    }
}

/// Calls readers at their time.
#[derive(Debug, Default)]
struct Bell {
    waiting: Mutex<Vec<(Instant, Waker)>>,
}

impl Bell {
    /// Its thread ends with its last owner.
    fn hang() -> Arc<Self> {
        let bell = Arc::new(Self::default());
        let weak = Arc::downgrade(&bell);
        thread::spawn(move || Self::ring(&weak));
        bell
    }

    fn ring(bell: &Weak<Self>) {
        let mut next = Instant::now();
        while let Some(bell) = bell.upgrade() {
            let now = Instant::now();
            bell.due(now).into_iter().for_each(Waker::wake);
            drop(bell);
            // Ticks that were missed are skipped: nobody waits longer for it.
            next = (next + TICK).max(now);
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }

    fn call_at(&self, due: Instant, waker: Waker) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((due, waker));
    }

    /// Takes out those whose time has come.
    fn due(&self, now: Instant) -> Vec<Waker> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extract_if(.., |(due, _)| *due <= now).map(|(_, waker)| waker).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

    #[test]
    fn other_lengths_are_no_numbers() {
        assert_eq!(NumberDecoder.decode(b"123").unwrap_err(), "3 bytes are no number");
    }
}
