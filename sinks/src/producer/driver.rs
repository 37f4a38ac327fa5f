//! Makes the calls that the scheduler decides on, and brings their answers back. All that waits, waits here.

use std::sync::Arc;
use std::time::Duration;

use shardflow::metrics::RetryMetrics;
use shardflow::retry::{Clock, Retries};
use shardflow_aws::failure::{Failure, Remedy};
use tokio::task::JoinSet;

use super::answers::News;
use super::edge::Service;
use super::item::{Answer, Call, Entry};
use super::shards::ShardMap;
use super::shared::{Reply, Shared};

/// How long the shards may take to be listed after a reshard, whatever keeps them: nothing goes meanwhile.
const LISTING_PATIENCE: Duration = Duration::from_secs(10);

/// The task behind the handles of a producer.
pub(super) struct Driver<S, C> {
    pub(super) shared: Arc<Shared>,
    pub(super) service: S,
    pub(super) clock: C,
    /// `stream "usage" at …`, for the log.
    pub(super) description: String,
    pub(super) give_up_after: Duration,
    calls: JoinSet<(Call<Reply>, Answer, Duration)>,
    listing: JoinSet<Result<ShardMap, Failure>>,
    /// Here, and not in [`run`](Self::run): a runtime may end before that has begun.
    _ending: Ending,
}

/// However the driver ends, nobody waits for it any longer.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<S: Service, C: Clock> Driver<S, C> {
    pub(super) fn new(shared: Arc<Shared>, service: S, clock: C, description: String, give_up_after: Duration) -> Self {
        let _ending = Ending(Arc::clone(&shared));
        let (calls, listing) = (JoinSet::new(), JoinSet::new());
        Self { shared, service, clock, description, give_up_after, calls, listing, _ending }
    }

    /// Runs until the producer is closed and everything has come to its end.
    pub(super) async fn run(mut self) {
        loop {
            let now = self.clock.now();
            let step = self.shared.step(now);
            if let Some(shard) = step.unpredictable {
                let text = "the stream does not place records by their hash keys: shards are predicted no more";
                tracing::warn!(stream = self.description, %shard, "{text}");
            }
            step.calls.into_iter().for_each(|call| self.call(call));
            if step.lists {
                self.list();
            }
            if step.is_done {
                return;
            }
            let wait = step.wake.map(|at| at.saturating_duration_since(now));
            tokio::select! {
                Some(answered) = self.calls.join_next() => match answered {
                    Ok((call, answer, took)) => self.answered(call, answer, took),
                    // Its records are lost with it: nothing can be promised any more.
                    Err(error) => return tracing::error!(stream = self.description, %error, "a call did not end"),
                },
                Some(listed) = self.listing.join_next() => self.listed(listed.ok()),
                () = self.shared.wake.notified() => {}
                () = self.clock.sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
        }
    }

    fn call(&mut self, call: Call<Reply>) {
        let under_way = self.shared.metrics.call(call.entries.iter().map(|entry| entry.items.len()));
        let (service, clock) = (self.service.clone(), self.clock.clone());
        self.calls.spawn(async move {
            let records = call.entries.iter().map(Entry::wire).collect();
            let begun = clock.now();
            let answer = service.put(records).await;
            drop(under_way);
            let took = clock.now().saturating_duration_since(begun);
            (call, answer, took)
        });
    }

    fn answered(&self, call: Call<Reply>, answer: Answer, took: Duration) {
        let answered = self.shared.answered(call, answer, self.clock.now());
        self.shared.metrics.answered(took, answered.retried);
        let stream = &self.description;
        match answered.news {
            Some(News::Failing(failure)) => {
                tracing::warn!(stream, failure, "puts have failed for a while and are tried again");
            }
            Some(News::Well(lasted)) => tracing::info!(stream, ?lasted, "puts succeed again"),
            None => {}
        }
    }

    fn list(&mut self) {
        self.shared.metrics.listings.increment(1);
        let service = self.service.clone();
        let attempted = format!("list the shards of {}", self.description);
        let retries = Retries::new(self.give_up_after, &self.clock, &RetryMetrics::unseen(), attempted);
        let clock = self.clock.clone();
        self.listing.spawn(async move {
            tokio::select! {
                listed = retries.run(|| service.shards()) => listed,
                // Throttling would be waited out for as long as it lasts.
                () = clock.sleep(LISTING_PATIENCE) => {
                    let text = format!("nothing came of it in {LISTING_PATIENCE:?}");
                    Err(Failure { remedy: Remedy::None, text })
                }
            }
        });
    }

    fn listed(&self, listed: Option<Result<ShardMap, Failure>>) {
        let stream = &self.description;
        let map = match listed {
            Some(Ok(map)) => Some(map),
            Some(Err(failure)) => {
                tracing::warn!(stream, %failure, "the shards cannot be listed: each record goes alone until they can");
                None
            }
            None => None,
        };
        self.shared.listed(map);
    }
}
