//! The task of one shard: fetches records by polling or by a subscription, and hands them over in batches.
//!
//! What is the same for both ways lies here: what an answer means for the place that is read from, the policy for records
//! that expired unread, and the way to the worker.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use shardflow::metrics::SourceMetrics;
use shardflow::retry::{Clock, Retries};
use shardflow::source::{RawBatch, Split};
use shardflow::{Error, Result};
use shardflow_aws::failure::{Failure, Remedy};
use tokio::sync::mpsc;

use super::batches::Batches;
use super::budget::{Budget, Share};
use super::client::{Fetched, ShardApi};
use super::intake::{Gap, Intake, New, kept_since};
use super::lineage;
use super::metrics::ShardMetrics;
use super::pacing::Pace;
use super::standing::Standing;

/// What the task tells the reader.
pub(crate) enum Message {
    /// Records, and what they take of the source's buffer until the worker has them.
    Batch(RawBatch, Option<Share>),
    /// The shard is closed and was read to its end, and these follow. Said, so that a task that dies does not look like
    /// an end.
    End(Vec<Split>),
    /// It cannot go on.
    Failed(Error),
}

/// What to do where records have expired before they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnExpired {
    /// The job stops with an error that names the shard and its position. Nobody but the user can say that the loss is
    /// acceptable.
    #[default]
    Stop,
    /// The job goes on with the oldest record that is left; a warning names the shard and the position, and
    /// `shardflow_position_expired_total` counts it.
    GoOn,
}

/// How a shard is read.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// By GetRecords calls.
    Polling,
    /// By subscriptions of the consumer of this ARN. `or_poll`: where they are refused, by calls.
    FanOut { consumer: Arc<str>, or_poll: bool },
}

/// What is the same for all shards of a source.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) way: Way,
    pub(crate) pace: Pace,
    pub(crate) give_up_after: Duration,
    pub(crate) on_expired: OnExpired,
    /// For how long the stream keeps its records.
    pub(crate) retention: Duration,
}

/// Reads one shard until its end, a failure that cannot pass, or until nobody listens.
pub(crate) struct ShardTask<A, C> {
    pub(crate) api: A,
    pub(crate) clock: C,
    pub(crate) shard: String,
    /// Where it is read.
    pub(crate) intake: Intake,
    /// Whether the shard was known at the start and is no longer listed: if it is not found, its records have expired.
    pub(crate) may_be_gone: bool,
    pub(crate) settings: Settings,
    pub(crate) budget: Budget,
    pub(crate) metrics: SourceMetrics,
    pub(crate) shard_metrics: ShardMetrics,
    /// What the reader tells the engine of where it stands.
    pub(crate) standing: Arc<Standing>,
    pub(crate) out: mpsc::Sender<Message>,
}

/// Why a shard is read no further.
pub(super) enum Stop {
    /// It has ended, and these follow.
    End(Vec<Split>),
    /// Nobody listens any more: the reader was dropped.
    Unheard,
}

/// Why a subscription is given up for good.
pub(super) enum Left {
    /// The shard is read no further.
    Stopped(Stop),
    /// Subscriptions are refused, and calls may do.
    Refused,
}

impl<A: ShardApi, C: Clock> ShardTask<A, C> {
    /// Runs to the end and reports it.
    pub(crate) async fn run(mut self) {
        let last = match self.read().await {
            Ok(Stop::End(children)) => Message::End(children),
            Ok(Stop::Unheard) => return,
            Err(error) => Message::Failed(error),
        };
        // A reader that was dropped meanwhile does not care.
        let _ = self.out.send(last).await;
    }

    async fn read(&mut self) -> Result<Stop> {
        if let Way::FanOut { consumer, or_poll } = self.settings.way.clone() {
            match self.follow(&consumer, or_poll).await? {
                Left::Stopped(stop) => return Ok(stop),
                Left::Refused => {}
            }
        }
        self.poll().await
    }

    /// Takes in an answer and hands its records over. Gives why the shard is read no further, where it is not.
    pub(super) async fn take(&mut self, mut fetched: Fetched, share: Share) -> Result<Option<Stop>> {
        self.shard_metrics.answered();
        let now = self.clock.wall_millis();
        let is_the_end_for_now = fetched.is_the_end_for_now();
        let New { records, repeated, gap } = self.intake.take(&mut fetched, kept_since(now, self.settings.retention));
        self.shard_metrics.repeated(repeated);
        if let Some(Gap { first_arrived }) = gap {
            let arrived = first_arrived.and_then(|millis| Timestamp::from_millisecond(millis).ok());
            let left = match arrived {
                Some(time) => format!("the first that is left arrived at {time}"),
                None if records.is_empty() => "none after it is left".to_owned(),
                None => "nobody knows when the first that is left arrived".to_owned(),
            };
            self.expired(&format!("the record at the stored position has expired, and {left}"))?;
        }
        let last_arrived = records.last().and_then(|record| record.arrived);
        let behind = fetched.millis_behind;
        if !records.is_empty() {
            // What was said before does not hold for these.
            self.standing.set_behind(None);
        }
        if self.hand_over(records, share).await.is_err() {
            return Ok(Some(Stop::Unheard));
        }
        // Only now: as long as batches of this answer wait, the reader has not come this far.
        if behind.is_some() {
            self.standing.set_behind(behind);
        }
        let age = last_arrived.map(|arrived| now.saturating_sub(u64::try_from(arrived).unwrap_or(0)));
        if let Some(age) = age.or(is_the_end_for_now.then_some(0)) {
            self.shard_metrics.iterator_age(age);
        }
        if is_the_end_for_now {
            if let Some(note) = self.intake.note_empty(now) {
                let empty = RawBatch::with_positions(note.to_position());
                if self.out.send(Message::Batch(empty, None)).await.is_err() {
                    return Ok(Some(Stop::Unheard));
                }
            }
            self.standing.nothing_to_read(self.clock.now());
        } else {
            self.standing.something_to_read();
        }
        Ok(fetched.is_the_end().then(|| Stop::End(lineage::children(&self.shard, &fetched.children))))
    }

    /// Sends the records on, waiting for room, and moves the position with each batch.
    async fn hand_over(&mut self, records: Vec<super::client::Record>, mut share: Share) -> Result<(), Unheard> {
        let mut batches = Batches::new(records, self.intake.position());
        for (batch, after) in batches.by_ref() {
            self.standing.something_to_read();
            let part = share.part_of(&batch);
            self.out.send(Message::Batch(batch, part)).await.map_err(|_| Unheard)?;
            self.intake.advance(after);
        }
        self.shard_metrics.opened(batches.opened());
        Ok(())
    }

    /// Records have expired unread, as far as can be told.
    pub(super) fn expired(&self, what: &str) -> Result<()> {
        let (shard, stream, position) = (&self.shard, self.api.describe(), self.intake.position());
        self.metrics.position_expired.increment(1);
        match self.settings.on_expired {
            OnExpired::GoOn => {
                tracing::warn!(
                    shard, stream, %position,
                    "{what}: records that came after it may be LOST; going on with what is left"
                );
                Ok(())
            }
            OnExpired::Stop => Err(Error::config(format!(
                "could not go on with shard \"{shard}\" of {stream} from position \"{position}\": {what}; records that came \
                 after it may be lost, and the job goes on with what is left only where it is told to (OnExpired::GoOn)"
            ))),
        }
    }

    /// A fresh iterator at the current place. `None`: the shard is gone.
    pub(super) async fn iterator(&self) -> Result<Option<String>> {
        let from = self.intake.read_from();
        let call = || self.api.iterator(&self.shard, &from);
        match self.retries("get an iterator for").run(call).await {
            Ok(iterator) => Ok(Some(iterator)),
            Err(failure) if failure.remedy == Remedy::Missing && self.may_be_gone => {
                self.expired("the shard is gone, with all its records")?;
                Ok(None)
            }
            Err(failure) => Err(self.failed_at(failure)),
        }
    }

    fn failed_at(&self, failure: Failure) -> Error {
        let (shard, stream, position) = (&self.shard, self.api.describe(), self.intake.position());
        Error::source(format!("could not read shard \"{shard}\" of {stream} from position \"{position}\""))
            .caused_by(failure)
    }

    pub(super) fn retries(&self, what: &str) -> Retries<C> {
        let attempted = format!("{what} shard \"{}\" of {}", self.shard, self.api.describe());
        Retries::new(self.settings.give_up_after, &self.clock, &self.metrics.retries, attempted)
    }

    pub(super) fn failed(&self, failure: Failure) -> Error {
        let (shard, stream) = (&self.shard, self.api.describe());
        Error::source(format!("could not read shard \"{shard}\" of {stream}")).caused_by(failure)
    }
}

/// The reader was dropped.
struct Unheard;
