//! The task of one shard: calls GetRecords at its pace, renews iterators, waits failures out, hands batches over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use shardflow::metrics::SourceMetrics;
use shardflow::source::RawBatch;
use shardflow::vocabulary::SplitId;
use shardflow::{Error, Result};
use tokio::sync::mpsc;

use super::backoff::Failed;
use super::batches::batches;
use super::budget::{Appetite, Budget, Share};
use super::client::{Fetched, ShardApi};
use super::failure::{Failure, Remedy};
use super::pacing::{self, Answer, Pace};
use super::position::ShardPosition;
use super::proof::{Kept, Proof, Verdict};
use super::retry::{Clock, Retries};
use super::standing::Standing;

/// How long a call may wait for room in the buffer before its iterator may have expired. They live for 5 minutes.
const LONG_WAIT: Duration = Duration::from_secs(60);

/// What the task tells the reader.
pub(super) enum Message {
    /// Records, and what they take of the source's buffer until the worker has them.
    Batch(RawBatch, Option<Share>),
    /// The shard is closed and was read to its end, and these follow. Said, so that a task that dies does not look like
    /// an end.
    End(Vec<SplitId>),
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
    /// Whether the shard was known at the start and is no longer listed: if it is not found, its records have expired.
    pub(super) may_be_gone: bool,
    pub(super) pace: Pace,
    pub(super) give_up_after: Duration,
    pub(super) budget: Budget,
    pub(super) metrics: SourceMetrics,
    /// What the reader tells the engine of where it stands.
    pub(super) standing: Arc<Standing>,
}

/// Nobody listens any more: the reader was dropped.
struct Unheard;

/// What the next call of a shard depends on.
struct Calls<C> {
    /// Where the last answer ended; `None`: a new one is needed.
    iterator: Option<String>,
    /// When the last call began.
    last: Option<Instant>,
    /// How long after that the next may.
    gap: Duration,
    /// Whether the last call only found that its iterator had expired.
    renewed: bool,
    /// What is still to be seen before it is known that nothing has expired unread.
    proof: Option<Proof>,
    appetite: Appetite,
    retries: Retries<C>,
}

impl<A: ShardApi, C: Clock> Fetch<A, C> {
    /// Runs to the end and reports it.
    pub(super) async fn run(mut self, out: mpsc::Sender<Message>) {
        let last = match self.read(&out).await {
            Ok(Ok(children)) => Message::End(children),
            Ok(Err(Unheard)) => return,
            Err(error) => Message::Failed(error),
        };
        // A reader that was dropped meanwhile does not care.
        let _ = out.send(last).await;
    }

    async fn read(&mut self, out: &mpsc::Sender<Message>) -> Result<Result<Vec<SplitId>, Unheard>> {
        let mut calls = self.first_call();
        loop {
            // Before a new iterator is asked for, so that it is used fresh.
            self.clock.sleep(pacing::wait(self.clock.now(), calls.last, calls.gap)).await;
            let current = match calls.iterator.take() {
                Some(iterator) => iterator,
                None => match self.iterator(calls.proof.as_ref()).await? {
                    Some(iterator) => iterator,
                    None => return Ok(Ok(Vec::new())),
                },
            };
            // With the iterator at hand, so that a shard that gets none keeps nothing from the others.
            let mut share = self.room(&mut calls).await?;
            let answer = self.api.records(&current, calls.appetite.records()).await;
            match answer {
                Ok(mut fetched) => {
                    share.shrink(calls.appetite.fed(&fetched.records));
                    self.succeeded(&mut calls, &mut fetched);
                    let children = fetched.children.iter().map(SplitId::new).collect();
                    if self.hand_over(fetched, share, out).await.is_err() {
                        return Ok(Err(Unheard));
                    }
                    if calls.iterator.is_none() {
                        return Ok(Ok(children));
                    }
                }
                Err(failure) => {
                    drop(share);
                    self.call_failed(&mut calls, current, failure).await?;
                }
            }
        }
    }

    fn first_call(&self) -> Calls<C> {
        Calls {
            iterator: None,
            last: None,
            gap: self.pace.shortest(),
            renewed: false,
            proof: self.proof(),
            appetite: Appetite::unknown(),
            retries: self.retries("read"),
        }
    }

    /// Waits until there is room for what the next call may give; the call begins then.
    async fn room(&self, calls: &mut Calls<C>) -> Result<Share> {
        let waiting = self.clock.now();
        let share = self.budget.reserve(calls.appetite.bytes()).await?;
        let began = self.clock.now();
        calls.last = Some(began);
        // After a wait as long as this an expired iterator is no fault, however often it happens.
        calls.renewed &= began.saturating_duration_since(waiting) < LONG_WAIT;
        Ok(share)
    }

    /// Takes in what an answer says about the shard and the next call.
    fn succeeded(&self, calls: &mut Calls<C>, fetched: &mut Fetched) {
        calls.proof = calls.proof.take().filter(|proof| !self.is_proven(proof, fetched));
        calls.retries.succeeded();
        calls.renewed = false;
        if fetched.is_the_end_for_now() {
            self.standing.nothing_to_read(self.clock.now());
        } else {
            self.standing.something_to_read();
        }
        let answer = Answer { records: fetched.records.len(), millis_behind: fetched.millis_behind };
        calls.gap = self.pace.gap(calls.gap, answer);
        calls.iterator = fetched.next.take();
    }

    /// Waits a failure out, where it may pass. `iterator` is the one that was used.
    async fn call_failed(&self, calls: &mut Calls<C>, iterator: String, failure: Failure) -> Result<()> {
        self.standing.something_to_read();
        if failure.remedy != Remedy::NewIterator {
            calls.iterator = Some(iterator);
            return calls.retries.wait_out(failure).await.map_err(|failure| self.failed(failure));
        }
        // Once is what a long pause does. Again at once is a fault, and must not become a busy loop.
        if std::mem::replace(&mut calls.renewed, true) {
            let failure = Failure { remedy: Remedy::Retry(Failed::Transient), ..failure };
            calls.retries.wait_out(failure).await.map_err(|failure| self.failed(failure))?;
        }
        Ok(())
    }

    /// What a start after a stored record has to see, to know that nothing has expired unread.
    fn proof(&self) -> Option<Proof> {
        match &self.position {
            ShardPosition::After(sequence) => Some(Proof::after(sequence)),
            ShardPosition::TrimHorizon | ShardPosition::Time(_) => None,
        }
    }

    /// Takes what was read before out of an answer. Gives whether it is decided if something has expired; says so if it has.
    fn is_proven(&self, proof: &Proof, fetched: &mut Fetched) -> bool {
        let Verdict { known, decided } = proof.judge(fetched);
        fetched.records.drain(..known);
        if let Some(Kept::NotAll { first_arrived }) = decided {
            let arrived = first_arrived.and_then(|millis| Timestamp::from_millisecond(millis).ok());
            let arrived = arrived.map_or_else(|| "unknown".to_owned(), |time| time.to_string());
            let (shard, stream, position) = (&self.shard, self.api.describe(), &self.position);
            tracing::warn!(
                shard, stream, %position, first_left_arrived = arrived,
                "the record at the stored position has expired: records that came after it may be LOST; going on with the \
                 first that is left"
            );
            self.metrics.position_expired.increment(1);
        }
        decided.is_some()
    }

    /// A fresh iterator at the current position, or at the record that is to be seen first. `None`: the shard is gone.
    async fn iterator(&self, proof: Option<&Proof>) -> Result<Option<String>> {
        let call = || async {
            match proof {
                Some(proof) => self.api.iterator_at(&self.shard, proof.sequence()).await,
                None => self.api.iterator(&self.shard, &self.position).await,
            }
        };
        let (shard, stream, position) = (&self.shard, self.api.describe(), &self.position);
        match self.retries("get an iterator for").run(call).await {
            Ok(iterator) => Ok(Some(iterator)),
            Err(failure) if failure.remedy == Remedy::Missing && self.may_be_gone => {
                tracing::warn!(
                    shard, stream, %position,
                    "the shard is gone: its records have expired, and those after the stored position may be LOST; going on \
                     as if it had ended"
                );
                self.metrics.position_expired.increment(1);
                Ok(None)
            }
            Err(failure) => {
                Err(Error::source(format!("could not read shard \"{shard}\" of {stream} from position \"{position}\""))
                    .caused_by(failure))
            }
        }
    }

    fn retries(&self, what: &str) -> Retries<C> {
        let attempted = format!("{what} shard \"{}\" of {}", self.shard, self.api.describe());
        Retries::new(self.give_up_after, &self.clock, &self.metrics, attempted)
    }

    fn failed(&self, failure: Failure) -> Error {
        let (shard, stream) = (&self.shard, self.api.describe());
        Error::source(format!("could not read shard \"{shard}\" of {stream}")).caused_by(failure)
    }

    /// Sends the records on, waiting for room, and moves the position with each batch.
    async fn hand_over(
        &mut self,
        fetched: Fetched,
        mut share: Share,
        out: &mpsc::Sender<Message>,
    ) -> Result<(), Unheard> {
        for (batch, after) in batches(fetched.records, &self.position.clone()) {
            let part = share.part_of(&batch);
            out.send(Message::Batch(batch, part)).await.map_err(|_| Unheard)?;
            self.position = after;
        }
        // Only now: as long as batches of this answer wait, the reader has not come this far.
        self.standing.set_behind(fetched.millis_behind);
        Ok(())
    }
}
