//! Lists the shards and opens their readers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use shardflow::metrics::SourceMetrics;
use shardflow::retry::{Clock, Retries, WallClock};
#[cfg(any(feature = "kcl", feature = "zookeeper"))]
use shardflow::source::Follower;
use shardflow::source::{BoxFuture, Discovery, Enumerator, Position, Reader};
use shardflow::vocabulary::{SourceId, SplitId, StepName};
use shardflow::{Error, Result};
use tokio::runtime::Handle;

use super::budget::Budget;
use super::client::{Client, ShardApi};
#[cfg(any(feature = "kcl", feature = "zookeeper"))]
use super::committed::HashRanges;
use super::fanout;
#[cfg(any(feature = "kcl", feature = "zookeeper"))]
use super::follower::ShardFollower;
use super::intake::Intake;
use super::lineage::{Lineage, Shard};
use super::metrics::ShardMetrics;
use super::position::Standpoint;
use super::reader::ShardReader;
use super::shard::{OnExpired, Settings, ShardTask, Way};
use super::standing::Standing;

/// All shards that the stream lists now; failures that may pass are waited out for `give_up_after`.
pub(super) async fn list(client: &Client, give_up_after: Duration, metrics: &SourceMetrics) -> Result<Vec<Shard>> {
    let stream = client.describe();
    let retries = Retries::new(give_up_after, &WallClock, &metrics.retries, format!("list the shards of {stream}"));
    let listed = retries.run(|| client.shards()).await;
    listed.map_err(|failure| Error::source(format!("could not list the shards of {stream}")).caused_by(failure))
}

/// The shards of one stream.
pub(crate) struct KinesisEnumerator {
    pub(crate) step: StepName,
    /// The stream's, which no other stream of the world has.
    pub(crate) arn: String,
    pub(crate) client: Client,
    pub(crate) lineage: Lineage,
    pub(crate) interval: Duration,
    pub(crate) settings: Settings,
    pub(crate) runtime: Handle,
    pub(crate) budget: Budget,
    pub(crate) metrics: SourceMetrics,
    /// What was known at the start.
    pub(crate) resumed: BTreeSet<SplitId>,
    /// What the last listing had.
    pub(crate) listed: BTreeSet<SplitId>,
    /// Who follows the job's commits, until the engine asks for it, and the hash keys that it tells of.
    #[cfg(any(feature = "kcl", feature = "zookeeper"))]
    pub(crate) follower: (Option<ShardFollower>, HashRanges),
}

impl KinesisEnumerator {
    /// Shards that the job's start names and that are gone: what was not read of them has expired.
    fn judge_expired(&self, expired: &[String]) -> Result<()> {
        if expired.is_empty() {
            return Ok(());
        }
        let stream = self.client.describe();
        self.metrics.position_expired.increment(expired.len() as u64);
        match self.settings.on_expired {
            OnExpired::GoOn => {
                tracing::warn!(
                    stream, shards = ?expired,
                    "shards to start from are gone, with all their records: those that were not read are LOST"
                );
                Ok(())
            }
            OnExpired::Stop => Err(Error::config(format!(
                "could not start {stream} where it was left: the shards {expired:?} are gone, with all their records; those \
                 that were not read are lost, and the job goes on without them only where it is told to (OnExpired::GoOn)"
            ))),
        }
    }
}

impl Enumerator for KinesisEnumerator {
    fn interval(&self) -> Duration {
        self.interval
    }

    fn discover(&mut self) -> BoxFuture<'_, Result<Discovery>> {
        Box::pin(async move {
            let listed = list(&self.client, self.settings.give_up_after, &self.metrics).await?;
            self.judge_expired(&self.lineage.expired(&listed))?;
            #[cfg(any(feature = "kcl", feature = "zookeeper"))]
            self.follower.1.listed(&listed);
            self.listed = listed.iter().map(|shard| SplitId::new(&shard.id)).collect();
            // A stream can be resharded at any time, so there is always more to come.
            Ok(Discovery { splits: self.lineage.splits(&listed), complete: false })
        })
    }

    fn open(&mut self, split: &SplitId, position: &Position) -> Result<Box<dyn Reader>> {
        let standpoint = Standpoint::parse(position.as_str()).ok_or_else(|| {
            let stream = self.client.describe();
            Error::source(format!(
                "could not read shard \"{split}\" of {stream} from \"{position}\": that is no position in a shard"
            ))
        })?;
        let resumed = self.resumed.contains(split);
        let make = |out| ShardTask {
            api: self.client.clone(),
            clock: WallClock,
            shard: split.to_string(),
            intake: Intake::new(standpoint, WallClock.wall_millis(), resumed),
            may_be_gone: resumed && !self.listed.contains(split),
            settings: self.settings.clone(),
            budget: self.budget.clone(),
            metrics: self.metrics.clone(),
            shard_metrics: ShardMetrics::register(&self.step, split.as_str()),
            standing: Arc::new(Standing::new(match self.settings.way {
                Way::Polling => self.settings.pace.longest(),
                Way::FanOut { .. } => fanout::EVENT_FRESH.max(self.settings.pace.longest()),
            })),
            out,
        };
        Ok(Box::new(ShardReader::start(make, &self.runtime)))
    }

    fn input(&self) -> Option<SourceId> {
        Some(SourceId::new(format!("kinesis:{}", self.arn)))
    }

    #[cfg(any(feature = "kcl", feature = "zookeeper"))]
    fn follower(&mut self) -> Option<Box<dyn Follower>> {
        self.follower.0.take().map(|follower| Box::new(follower) as Box<dyn Follower>)
    }
}
