//! The program's side of a channel.

use shardflow::Epoch;
use shardflow::vocabulary::StepName;
use tokio::sync::mpsc;

/// A record, with its [place](Self::place) in the job's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handed<T> {
    /// The record.
    pub record: T,
    /// The step whose sink it went into: several steps of a job may share a channel, and each counts for itself.
    pub step: StepName,
    /// The epoch that it was committed with.
    pub epoch: Epoch,
    /// The worker that it comes from.
    pub worker: u32,
    /// Its number in what this worker wrote in this epoch, from 0.
    pub index: u64,
}

impl<T> Handed<T> {
    /// What tells it from all others: step, epoch, worker and index. A record that is handed over again after a crash has the same
    /// place, and no two records of one job's state have the same.
    #[must_use]
    pub fn place(&self) -> (&StepName, Epoch, u32, u64) {
        (&self.step, self.epoch, self.worker, self.index)
    }
}

/// Receives what a job has committed. When it is dropped the job stops, or goes on without it: see
/// [`ChannelSink::drop_unreceived`](super::ChannelSink::drop_unreceived).
#[derive(Debug)]
pub struct Receiver<T> {
    inner: mpsc::Receiver<Handed<T>>,
}

impl<T> Receiver<T> {
    pub(super) fn new(inner: mpsc::Receiver<Handed<T>>) -> Self {
        Self { inner }
    }

    /// Waits for the next record. `None`: the job has ended, and no other can come, since every
    /// [`ChannelSink`](super::ChannelSink) of this channel is dropped.
    ///
    /// # Panics
    /// Inside asynchronous code, which it would block: use [`recv_async`](Self::recv_async) there.
    pub fn recv(&mut self) -> Option<Handed<T>> {
        self.inner.blocking_recv()
    }

    /// As [`recv`](Self::recv), in asynchronous code.
    ///
    /// # Cancel safety
    /// A record is received or stays in the channel.
    pub async fn recv_async(&mut self) -> Option<Handed<T>> {
        self.inner.recv().await
    }

    /// The next record, if one is there now.
    pub fn try_recv(&mut self) -> Option<Handed<T>> {
        self.inner.try_recv().ok()
    }

    /// The records alone, each when it comes, until the job has ended.
    ///
    /// # Panics
    /// Inside asynchronous code, as [`recv`](Self::recv).
    pub fn records(&mut self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.recv()).map(|handed| handed.record)
    }
}
