//! Reads a shard by GetRecords calls at its pace: renews iterators, waits failures out.

use std::time::{Duration, Instant};

use shardflow::retry::{Clock, Failed, Retries};
use shardflow::{Error, Result};
use shardflow_aws::failure::{Failure, Remedy};

use super::budget::{Appetite, Share};
use super::client::{Fetched, ShardApi};
use super::pacing::{self, Answer};
use super::position::ShardPosition;
use super::shard::{ShardTask, Stop};

/// From which age on an iterator is renewed before it is used. They live for 5 minutes; a job that is slow may hold one
/// for longer, waiting for room.
const RENEW_AFTER: Duration = Duration::from_secs(240);

/// What the next call of a shard depends on.
struct Calls<C> {
    /// Where the last answer ended, and when that was; `None`: a new one is needed.
    iterator: Option<(String, Instant)>,
    /// When the last call began.
    last: Option<Instant>,
    /// How long after that the next may.
    gap: Duration,
    /// Whether the last call only found that its iterator had expired.
    renewed: bool,
    appetite: Appetite,
    /// Where an answer has said that the shard has ended, without naming what follows.
    ended_at: Option<ShardPosition>,
    retries: Retries<C>,
}

impl<A: ShardApi, C: Clock> ShardTask<A, C> {
    /// Reads the shard until it is to be read no further.
    pub(super) async fn poll(&mut self) -> Result<Stop> {
        let mut calls = Calls {
            iterator: None,
            last: None,
            gap: self.settings.pace.shortest(),
            renewed: false,
            appetite: Appetite::unknown(),
            ended_at: None,
            retries: self.retries("read"),
        };
        loop {
            // Before a new iterator is asked for, so that it is used fresh.
            self.clock.sleep(pacing::wait(self.clock.now(), calls.last, calls.gap)).await;
            let mut current = match calls.iterator.take() {
                Some(iterator) => iterator,
                None => match self.iterator().await? {
                    Some(iterator) => (iterator, self.clock.now()),
                    None => return Ok(Stop::End(Vec::new())),
                },
            };
            // With the iterator at hand, so that a shard that gets none keeps nothing from the others.
            let mut share = self.budget.reserve(calls.appetite.bytes()).await?;
            let answer = self.call(&mut calls, &mut current).await;
            match answer {
                Ok(fetched) => {
                    share.shrink(calls.appetite.fed(&fetched.records));
                    if let Some(stop) = self.answered(&mut calls, fetched, share).await? {
                        return Ok(stop);
                    }
                }
                Err(failure) => {
                    drop(share);
                    self.call_failed(&mut calls, current, failure).await?;
                }
            }
        }
    }

    /// Calls for records, with a fresh iterator where the one at hand has grown old.
    async fn call(&self, calls: &mut Calls<C>, iterator: &mut (String, Instant)) -> Result<Fetched, Failure> {
        let now = self.clock.now();
        calls.last = Some(now);
        if now.saturating_duration_since(iterator.1) >= RENEW_AFTER {
            *iterator = (self.api.iterator(&self.shard, &self.intake.read_from()).await?, now);
        }
        self.api.records(&iterator.0, calls.appetite.records()).await
    }

    /// Takes in what an answer says about the shard and the next call.
    ///
    /// An end that is doubtful is asked for once more, where the records stop.
    async fn answered(&mut self, calls: &mut Calls<C>, mut fetched: Fetched, share: Share) -> Result<Option<Stop>> {
        calls.retries.succeeded();
        calls.renewed = false;
        let bytes = fetched.records.iter().map(|record| record.data.len() as u64).sum();
        let answer = Answer { records: fetched.records.len(), bytes, millis_behind: fetched.millis_behind };
        calls.gap = self.settings.pace.gap(calls.gap, answer);
        calls.iterator = fetched.next.clone().map(|next| (next, self.clock.now()));
        if !fetched.is_doubtful() {
            return self.take(fetched, share).await;
        }
        let said_before = calls.ended_at.take().is_some_and(|at| at == *self.intake.position());
        let has_records = !fetched.records.is_empty();
        let before = self.intake.position().clone();
        fetched.doubted = !said_before;
        let stop = self.take(fetched, share).await?;
        // Records that came with it may be followed by others.
        let moved = has_records && before != *self.intake.position();
        if stop.is_none() || moved {
            calls.ended_at = Some(self.intake.position().clone());
        }
        Ok(stop.filter(|stop| !moved || matches!(stop, Stop::Unheard)))
    }

    /// Waits a failure out, where it may pass. `iterator` is the one that was used.
    async fn call_failed(&self, calls: &mut Calls<C>, iterator: (String, Instant), failure: Failure) -> Result<()> {
        self.standing.something_to_read();
        if failure.remedy != Remedy::NewIterator {
            if let Remedy::Retry(failed) = failure.remedy {
                self.shard_metrics.failed(failed);
            }
            calls.iterator = Some(iterator);
            return self.wait_out(&mut calls.retries, failure).await;
        }
        self.shard_metrics.expired();
        // Once is what a long pause does. Again at once is a fault, and must not become a busy loop.
        if std::mem::replace(&mut calls.renewed, true) {
            let failure = Failure { remedy: Remedy::Retry(Failed::Transient), ..failure };
            return self.wait_out(&mut calls.retries, failure).await;
        }
        Ok(())
    }

    pub(super) async fn wait_out(&self, retries: &mut Retries<C>, failure: Failure) -> Result<(), Error> {
        retries.wait_out(failure).await.map_err(|failure| self.failed(failure))
    }
}
