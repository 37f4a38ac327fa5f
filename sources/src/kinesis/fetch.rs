//! The task of one shard: calls GetRecords at its pace, renews iterators, waits failures out, hands batches over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shardflow::source::RawBatch;
use shardflow::{Error, Result};
use tokio::sync::mpsc;

use super::backoff::{Backoff, Failed};
use super::batches::batches;
use super::client::{Fetched, ShardApi};
use super::failure::{Failure, Remedy};
use super::pacing::{self, Answer, Pace};
use super::position::ShardPosition;
use super::retry::{Clock, retrying, wait_out};
use super::standing::Standing;

/// What the task tells the reader.
pub(super) enum Message {
    /// Records.
    Batch(RawBatch),
    /// The shard is closed and was read to its end. Said, so that a task that dies does not look like an end.
    End,
    /// It cannot go on.
    Failed(Error),
}

/// Reads one shard from `position` on until its end, a failure that cannot pass, or until nobody listens.
pub(super) struct Fetch<A, C> {
    pub(super) api: A,
    pub(super) clock: C,
    pub(super) shard: String,
    /// After the last record that was handed over.
    pub(super) position: ShardPosition,
    pub(super) pace: Pace,
    pub(super) give_up_after: Duration,
    /// What the reader tells the engine of where it stands.
    pub(super) standing: Arc<Standing>,
}

/// Nobody listens any more: the reader was dropped.
struct Unheard;

impl<A: ShardApi, C: Clock> Fetch<A, C> {
    /// Runs to the end and reports it.
    pub(super) async fn run(mut self, out: mpsc::Sender<Message>) {
        let last = match self.read(&out).await {
            Ok(Ok(())) => Message::End,
            Ok(Err(Unheard)) => return,
            Err(error) => Message::Failed(error),
        };
        // A reader that was dropped meanwhile does not care.
        let _ = out.send(last).await;
    }

    async fn read(&mut self, out: &mpsc::Sender<Message>) -> Result<Result<(), Unheard>> {
        let mut backoff = Backoff::new(self.give_up_after);
        let mut iterator = None;
        let mut last_call: Option<Instant> = None;
        let mut gap = self.pace.shortest();
        let mut renewed = false;
        loop {
            // Before a new iterator is asked for, so that it is used fresh.
            self.clock.sleep(pacing::wait(self.clock.now(), last_call, gap)).await;
            let current = match iterator.take() {
                Some(iterator) => iterator,
                None => self.iterator().await?,
            };
            last_call = Some(self.clock.now());
            match self.api.records(&current).await {
                Ok(fetched) => {
                    backoff.succeeded();
                    renewed = false;
                    if fetched.is_the_end_for_now() {
                        self.standing.nothing_to_read(self.clock.now());
                    } else {
                        self.standing.something_to_read();
                    }
                    let answer = Answer { records: fetched.records.len(), millis_behind: fetched.millis_behind };
                    gap = self.pace.gap(gap, answer);
                    iterator = fetched.next.clone();
                    if self.hand_over(fetched, out).await.is_err() {
                        return Ok(Err(Unheard));
                    }
                    if iterator.is_none() {
                        return Ok(Ok(()));
                    }
                }
                Err(failure) if failure.remedy == Remedy::NewIterator => {
                    // Once is what a long pause does. Again at once is a fault, and must not become a busy loop.
                    self.standing.something_to_read();
                    if renewed {
                        let failure = Failure { remedy: Remedy::Retry(Failed::Transient), ..failure };
                        self.wait_out(failure, &mut backoff).await?;
                    }
                    renewed = true;
                }
                Err(failure) => {
                    self.standing.something_to_read();
                    self.wait_out(failure, &mut backoff).await?;
                    iterator = Some(current);
                }
            }
        }
    }

    /// A fresh iterator at the current position.
    async fn iterator(&self) -> Result<String> {
        let call = || self.api.iterator(&self.shard, &self.position);
        retrying(self.give_up_after, &self.clock, "get a shard iterator", call).await.map_err(|failure| {
            let (shard, stream, position) = (&self.shard, self.api.describe(), &self.position);
            Error::source(format!("could not read shard \"{shard}\" of {stream} from position \"{position}\""))
                .caused_by(failure)
        })
    }

    async fn wait_out(&self, failure: Failure, backoff: &mut Backoff) -> Result<()> {
        wait_out(failure, backoff, &self.clock, "get records").await.map_err(|failure| {
            let (shard, stream) = (&self.shard, self.api.describe());
            Error::source(format!("could not read shard \"{shard}\" of {stream}")).caused_by(failure)
        })
    }

    /// Sends the records on, waiting for room, and moves the position with each batch.
    async fn hand_over(&mut self, fetched: Fetched, out: &mpsc::Sender<Message>) -> Result<(), Unheard> {
        for (batch, after) in batches(fetched.records, &self.position.clone()) {
            out.send(Message::Batch(batch)).await.map_err(|_| Unheard)?;
            self.position = after;
        }
        // Only now: as long as batches of this answer wait, the reader has not come this far.
        self.standing.set_behind(fetched.millis_behind);
        Ok(())
    }
}
