//! Where results go: their number and the sum of their hashes, which is the same in any order.
//!
//! The engine's side is a sink like any other: what it adds up counts when its epoch is committed.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use shardflow::sink::{CommitPermit, Committer, Prepared, Sink, SinkContext, SinkWriter, StagedHandle};
use shardflow::{Epoch, Error, Result, WindowResult};

use super::records::MadeKey;
use super::zipf::mix;

/// Results added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// How many results.
    pub(crate) rows: u64,
    /// Sum of their hashes.
    pub(crate) sum: u64,
}

impl Tally {
    /// Adds one result by its hash.
    #[inline]
    pub(crate) fn add(&mut self, hash: u64) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(hash);
    }

    /// Adds another tally.
    pub(crate) fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// Adds a window's count and sum for a key.
    #[inline]
    pub(crate) fn window(&mut self, key: u64, start: u64, count: u64, sum: u64) {
        self.add(mix(key ^ mix(start ^ mix(count ^ mix(sum)))));
    }

    /// Adds a key's running count.
    #[inline]
    pub(crate) fn running(&mut self, key: u64, count: u64) {
        self.add(mix(mix(key) ^ count));
    }
}

/// A result that can be added up.
pub(crate) trait Tallied: 'static {
    fn add_to(&self, tally: &mut Tally);
}

impl<K: MadeKey> Tallied for WindowResult<K, (u64, u128)> {
    #[inline]
    fn add_to(&self, tally: &mut Tally) {
        let (count, sum) = self.value;
        tally.window(self.key.route(), self.window.start().as_millis(), count, sum as u64);
    }
}

/// A sink that adds up.
pub(crate) struct Adding<T> {
    committed: Arc<Mutex<Tally>>,
    _takes: PhantomData<fn(T)>,
}

impl<T> Adding<T> {
    /// What is committed goes to `committed`.
    pub(crate) fn to(committed: &Arc<Mutex<Tally>>) -> Self {
        Self { committed: Arc::clone(committed), _takes: PhantomData }
    }
}

impl<T: Tallied> Sink<T> for Adding<T> {
    fn committer(&self, _context: &SinkContext) -> Result<Box<dyn Committer>> {
        Ok(Box::new(AddingCommitter(Arc::clone(&self.committed))))
    }

    fn writer(&self, _context: &SinkContext, _worker: usize) -> Result<Box<dyn SinkWriter<T>>> {
        Ok(Box::new(AddingWriter(Tally::default())))
    }
}

struct AddingWriter(Tally);

impl<T: Tallied> SinkWriter<T> for AddingWriter {
    #[inline]
    fn stage(&mut self, record: &T) -> Result<()> {
        record.add_to(&mut self.0);
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Option<Prepared>> {
        let Tally { rows, sum } = std::mem::take(&mut self.0);
        let handle = [rows.to_le_bytes(), sum.to_le_bytes()].concat();
        Ok((rows > 0).then_some(Prepared::Staged(handle)))
    }
}

struct AddingCommitter(Arc<Mutex<Tally>>);

impl Committer for AddingCommitter {
    /// A benchmark's job starts once: nothing was committed before.
    fn recover(&mut self, _permit: Option<&CommitPermit>, _handles: &[StagedHandle]) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self, _permit: &CommitPermit, handles: &[StagedHandle]) -> Result<()> {
        let mut committed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for staged in handles {
            committed.merge(tally(&staged.handle).ok_or_else(|| Error::sink("a handle is 16 bytes"))?);
        }
        Ok(())
    }
}

fn tally(handle: &[u8]) -> Option<Tally> {
    let (rows, sum) = handle.split_first_chunk::<8>()?;
    Some(Tally { rows: u64::from_le_bytes(*rows), sum: u64::from_le_bytes(sum.try_into().ok()?) })
}
