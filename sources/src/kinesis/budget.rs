//! How much all shards of a source together may have fetched and not handed over.
//!
//! Before each call a shard reserves what its answer is expected to weigh, and asks for no more records than that; when
//! the answer is there, what it does not need goes back; each batch gives its part back when the worker takes it. So a
//! job that does not read stops the calls, with a bounded memory however many shards there are.

use std::sync::Arc;

use shardflow::source::RawBatch;
use shardflow::{Error, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::client::Record;

/// The default of [`Kinesis::buffer_bytes`](super::Kinesis::buffer_bytes): 64 MiB. Room for the first calls of six shards
/// at a time, and for those of hundreds once it is known what they give.
pub(crate) const BUFFER_BYTES: u64 = 64 << 20;

/// The most that one answer may weigh, as the service limits it. The first call of a shard reserves it.
pub(crate) const LARGEST_ANSWER: u64 = 10 << 20;

/// The most that a later call asks for. A shard gives 2 MiB a second, in up to five calls.
const MOST: u64 = 2 << 20;

/// The least that a call reserves: what a shard may well have after a quiet second.
const LEAST: u64 = 256 << 10;

/// The most records that one call may ask for.
const MOST_RECORDS: u64 = 10_000;

/// What a record takes besides its data, about: its sequence number, twice, and their bookkeeping.
const RECORD_OVERHEAD: u64 = 160;

/// What one permit stands for, in bytes. The semaphore counts in `u32`.
const UNIT: u64 = 1 << 10;

/// The budget of one source.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    units: Arc<Semaphore>,
    total: u64,
}

/// A part of a budget; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Share(OwnedSemaphorePermit);

impl Budget {
    /// Up to `bytes`, at least the service's largest answer.
    pub(crate) fn new(bytes: u64) -> Self {
        Self::exactly(bytes.max(LARGEST_ANSWER))
    }

    fn exactly(bytes: u64) -> Self {
        let total = bytes.div_ceil(UNIT).clamp(1, u64::from(u32::MAX >> 3));
        Self { units: Arc::new(Semaphore::new(usize::try_from(total).unwrap_or(1))), total }
    }

    /// A budget below what the service may answer.
    #[cfg(test)]
    pub(crate) fn tiny(bytes: u64) -> Self {
        Self::exactly(bytes)
    }

    /// Waits until `bytes` are free, and takes them. First come, first served.
    pub(crate) async fn reserve(&self, bytes: u64) -> Result<Share> {
        let units = u32::try_from(bytes.div_ceil(UNIT).clamp(1, self.total)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.units).acquire_many_owned(units).await;
        permit.map(Share).map_err(|error| Error::internal("the buffer of a source is closed").caused_by(error))
    }
}

impl Share {
    /// Gives back all but `bytes`. An answer may weigh more than was reserved; then all is kept.
    pub(crate) fn shrink(&mut self, bytes: u64) {
        let needed = usize::try_from(bytes.div_ceil(UNIT)).unwrap_or(usize::MAX);
        drop(self.0.split(self.0.num_permits().saturating_sub(needed)));
    }

    /// The part that `batch` weighs, as far as there is so much.
    pub(crate) fn part_of(&mut self, batch: &RawBatch) -> Option<Self> {
        let bytes = weight(batch.len(), batch.bytes());
        let units = usize::try_from(bytes.div_ceil(UNIT)).unwrap_or(usize::MAX);
        self.0.split(units.min(self.0.num_permits())).map(Self)
    }
}

/// What the next call of one shard will weigh, judged by the last. Pure.
#[derive(Debug)]
pub(crate) struct Appetite {
    bytes: u64,
    /// What a record weighed in the last answer that had any.
    record: Option<u64>,
}

impl Appetite {
    /// Before the first answer.
    pub(crate) fn unknown() -> Self {
        Self { bytes: LARGEST_ANSWER, record: None }
    }

    /// What to reserve, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many records to ask for; `None`: as many as there are. Without any record so far there is nothing to judge by;
    /// the shard is at its end then, and has no more than came since the last call.
    pub(crate) fn records(&self) -> Option<i32> {
        let records = (self.bytes / self.record?).clamp(1, MOST_RECORDS);
        i32::try_from(records).ok().filter(|_| records < MOST_RECORDS)
    }

    /// Takes in an answer; gives what it weighs. Twice as much may come next: a shard that is behind is soon read at its
    /// full rate.
    pub(crate) fn fed(&mut self, records: &[Record]) -> u64 {
        let weight = weight_of(records);
        if !records.is_empty() {
            self.record = Some((weight / records.len() as u64).max(1));
        }
        self.bytes = weight.saturating_mul(2).clamp(LEAST, MOST);
        weight
    }
}

/// What an answer weighs, in bytes.
pub(crate) fn weight_of(records: &[Record]) -> u64 {
    weight(records.len(), records.iter().map(|record| record.data.len()).sum())
}

fn weight(records: usize, bytes: usize) -> u64 {
    (records as u64).saturating_mul(RECORD_OVERHEAD).saturating_add(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(count: usize, bytes: usize) -> Vec<Record> {
        vec![Record { sequence: "1".to_owned(), data: vec![b'x'; bytes], arrived: None, partition_key: None }; count]
    }

    #[test]
    fn the_next_call_asks_for_about_twice_what_the_last_one_gave() {
        let mut appetite = Appetite::unknown();
        assert_eq!((appetite.bytes(), appetite.records()), (LARGEST_ANSWER, None));
        assert_eq!(appetite.fed(&[]), 0);
        assert_eq!((appetite.bytes(), appetite.records()), (LEAST, None));
        assert_eq!(appetite.fed(&records(1_000, 840)), 1_000_000);
        assert_eq!((appetite.bytes(), appetite.records()), (2_000_000, Some(2_000)));
        appetite.fed(&records(2_000, 840));
        assert_eq!((appetite.bytes(), appetite.records()), (MOST, Some(2_097)));
        appetite.fed(&[]);
        assert_eq!((appetite.bytes(), appetite.records()), (LEAST, Some(262)), "records are as large as they were");
        appetite.fed(&records(1, 9 << 20));
        assert_eq!(appetite.records(), Some(1), "one at least");
    }

    #[tokio::test]
    async fn shares_go_back_part_by_part() {
        let budget = Budget::tiny(100 << 10);
        let mut share = budget.reserve(LARGEST_ANSWER).await.unwrap();
        assert_eq!(budget.units.available_permits(), 0, "never more than there is");
        share.shrink(40 << 10);
        assert_eq!(budget.units.available_permits(), 60);
        let mut batch = RawBatch::with_positions(shardflow::source::Position::new("1"));
        batch.push(&[0; 10 << 10], "1");
        let part = share.part_of(&batch);
        drop(share);
        assert_eq!(budget.units.available_permits(), 89);
        drop(part);
        assert_eq!(budget.units.available_permits(), 100);
    }
}
