//! Reads a shard by subscriptions of enhanced fan-out: the service pushes, and nobody else's reading slows ours.
//!
//! A subscription lives for five minutes and is renewed before, at the place that the last event named. Whatever breaks it
//! (the network, a fault of the service, a frame that cannot be read), the next one goes on after the last record that was
//! handed over. Within 5 s of a subscription the service refuses the next with ResourceInUse, which is waited out.
//!
//! An event is taken when there is room for it. Until then it is not read, and the connection's flow control stops the
//! service: so beside the source's buffer, each shard holds one event at most, of up to 2 MiB.

use std::time::Duration;

use shardflow::retry::{Clock, Failed, Retries};
use shardflow::{Error, Result};
use shardflow_aws::failure::{Failure, Remedy};

use super::budget;
use super::client::{Events, Fetched, ReadFrom, ShardApi};
use super::shard::{Left, ShardTask, Stop};

/// After how long a subscription is replaced. The service ends it after 300 s.
const RENEW_AFTER: Duration = Duration::from_secs(285);

/// How long a subscription may say nothing. The service sends an event at least every few seconds, with records or
/// without: what is silent for this long hangs.
const SILENCE: Duration = Duration::from_secs(35);

/// A subscription without an event is no success where it was this short.
const SHORT: Duration = Duration::from_secs(5);

/// How long an event that says that there is nothing to read holds.
pub(super) const EVENT_FRESH: Duration = Duration::from_secs(10);

/// How a subscription came to its end.
enum Over {
    /// It has run its time, or the service has ended it.
    Renew,
    /// It broke.
    Broken(Failure),
    /// The shard is read no further.
    Stopped(Stop),
    /// It has ended, as it seems, and names no children: calls will tell.
    Doubtful,
}

impl<A: ShardApi, C: Clock> ShardTask<A, C> {
    /// Reads the shard until it is to be read no further, or until subscriptions are refused and it may be polled instead.
    pub(super) async fn follow(&mut self, consumer: &str, or_poll: bool) -> Result<Left> {
        let mut retries = self.retries("subscribe to");
        // Where the last event of all ended: further than the last record, where the shard is sparse.
        let mut after = None;
        loop {
            let from = after.clone().map_or_else(|| self.intake.read_from(), ReadFrom::After);
            let failure = match self.subscribe(consumer, &from).await {
                Ok(mut events) => {
                    self.shard_metrics.subscribed();
                    match self.listen(&mut events, &mut after, &mut retries).await? {
                        Over::Renew => continue,
                        Over::Stopped(stop) => return Ok(Left::Stopped(stop)),
                        Over::Doubtful => return Ok(Left::Refused),
                        Over::Broken(failure) => failure,
                    }
                }
                Err(failure) => failure,
            };
            self.standing.something_to_read();
            match failure.remedy {
                Remedy::Retry(failed) => {
                    self.shard_metrics.failed(failed);
                    self.wait_out(&mut retries, failure).await?;
                }
                // Where the last event ended may be a place that the service does not know any more.
                Remedy::NewIterator | Remedy::None | Remedy::Conflict if after.is_some() => after = None,
                Remedy::NewIterator => {
                    let failure = Failure { remedy: Remedy::Retry(Failed::Transient), ..failure };
                    self.wait_out(&mut retries, failure).await?;
                }
                Remedy::Missing | Remedy::None | Remedy::Conflict => {
                    return self.refused(&from, failure, or_poll).await;
                }
            }
        }
    }

    /// A subscription, or what the service says instead. The SDK waits for the first event, and knows no limit for it.
    async fn subscribe(&self, consumer: &str, from: &ReadFrom) -> Result<A::Events, Failure> {
        tokio::select! {
            biased;
            events = self.api.subscribe(consumer, &self.shard, from) => events,
            () = self.clock.sleep(SILENCE) => Err(silent()),
        }
    }

    /// Takes the events of one subscription.
    async fn listen(
        &mut self,
        events: &mut A::Events,
        after: &mut Option<String>,
        retries: &mut Retries<C>,
    ) -> Result<Over> {
        let begun = self.clock.now();
        let mut events_taken = 0_u64;
        loop {
            let left = RENEW_AFTER.saturating_sub(self.clock.now().saturating_duration_since(begun));
            if left.is_zero() {
                return Ok(Over::Renew);
            }
            let mut fetched = match self.event(events, left).await {
                Ok(Some(fetched)) => fetched,
                // What ends before it has said anything would be asked for again and again without a pause.
                Ok(None) if events_taken == 0 && self.clock.now().saturating_duration_since(begun) < SHORT => {
                    return Ok(Over::Broken(Failure {
                        remedy: Remedy::Retry(Failed::Transient),
                        text: "the subscription ended before its first event".to_owned(),
                    }));
                }
                Ok(None) => return Ok(Over::Renew),
                Err(failure) => return Ok(Over::Broken(failure)),
            };
            retries.succeeded();
            events_taken = events_taken.saturating_add(1);
            let weight = budget::weight_of(&fetched.records);
            let share = self.budget.reserve(weight).await?;
            let next = fetched.next.clone();
            fetched.doubted = fetched.is_doubtful();
            let doubted = fetched.doubted;
            if let Some(stop) = self.take(fetched, share).await? {
                return Ok(Over::Stopped(stop));
            }
            if doubted {
                return Ok(Over::Doubtful);
            }
            // Only now: before, what lay between was not handed over.
            *after = next;
        }
    }

    /// The next event. `None`: the subscription is over, by the service's word or because its time, `left`, has come.
    async fn event(&self, events: &mut A::Events, left: Duration) -> Result<Option<Fetched>, Failure> {
        let silence = SILENCE.min(left);
        let event = tokio::select! {
            biased;
            event = events.next() => Some(event),
            () = self.clock.sleep(silence) => None,
        };
        match event {
            Some(event) => event,
            None if left <= SILENCE => Ok(None),
            None => Err(silent()),
        }
    }

    /// The service will not give a subscription, neither now nor later.
    async fn refused(&mut self, from: &ReadFrom, failure: Failure, or_poll: bool) -> Result<Left> {
        // It may be the shard that is missing, and not the consumer.
        if failure.remedy == Remedy::Missing && self.may_be_gone && self.iterator().await?.is_none() {
            return Ok(Left::Stopped(Stop::End(Vec::new())));
        }
        if !or_poll {
            let (shard, stream) = (&self.shard, self.api.describe());
            let message = format!("could not subscribe to shard \"{shard}\" of {stream} from \"{from}\"");
            return Err(Error::source(message).caused_by(failure));
        }
        let (shard, stream) = (&self.shard, self.api.describe());
        tracing::warn!(shard, stream, %failure, "subscriptions are refused: the shard is polled from here on");
        Ok(Left::Refused)
    }
}

fn silent() -> Failure {
    Failure { remedy: Remedy::Retry(Failed::Transient), text: format!("the subscription said nothing for {SILENCE:?}") }
}
