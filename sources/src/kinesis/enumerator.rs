//! Lists the shards and opens their readers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use shardflow::metrics::SourceMetrics;
use shardflow::source::{BoxFuture, Discovery, Enumerator, Position, Reader};
use shardflow::vocabulary::SplitId;
use shardflow::{Error, Result};
use tokio::runtime::Handle;

use super::budget::Budget;
use super::client::{Client, ShardApi};
use super::fetch::Fetch;
use super::lineage::Lineage;
use super::pacing::Pace;
use super::position::ShardPosition;
use super::reader::ShardReader;
use super::retry::{Retries, WallClock};
use super::standing::Standing;

/// The shards of one stream.
pub(super) struct KinesisEnumerator {
    pub(super) client: Client,
    pub(super) lineage: Lineage,
    pub(super) interval: Duration,
    pub(super) pace: Pace,
    pub(super) give_up_after: Duration,
    pub(super) runtime: Handle,
    pub(super) budget: Budget,
    pub(super) metrics: SourceMetrics,
    /// What was known at the start.
    pub(super) resumed: BTreeSet<SplitId>,
    /// What the last listing had.
    pub(super) listed: BTreeSet<SplitId>,
}

impl Enumerator for KinesisEnumerator {
    fn interval(&self) -> Duration {
        self.interval
    }

    fn discover(&mut self) -> BoxFuture<'_, Result<Discovery>> {
        Box::pin(async move {
            let attempted = format!("list the shards of {}", self.client.describe());
            let retries = Retries::new(self.give_up_after, &WallClock, &self.metrics, attempted);
            let listed = retries.run(|| self.client.shards()).await;
            let listed = listed.map_err(|failure| {
                Error::source(format!("could not list the shards of {}", self.client.describe())).caused_by(failure)
            })?;
            self.listed = listed.iter().map(|shard| SplitId::new(&shard.id)).collect();
            // A stream can be resharded at any time, so there is always more to come.
            Ok(Discovery { splits: self.lineage.splits(&listed), complete: false })
        })
    }

    fn open(&mut self, split: &SplitId, position: &Position) -> Result<Box<dyn Reader>> {
        let position = ShardPosition::parse(position.as_str()).ok_or_else(|| {
            let stream = self.client.describe();
            Error::source(format!(
                "could not read shard \"{split}\" of {stream} from \"{position}\": that is no position in a shard"
            ))
        })?;
        let fetch = Fetch {
            api: self.client.clone(),
            clock: WallClock,
            shard: split.to_string(),
            position,
            may_be_gone: self.resumed.contains(split) && !self.listed.contains(split),
            pace: self.pace,
            give_up_after: self.give_up_after,
            budget: self.budget.clone(),
            metrics: self.metrics.clone(),
            standing: Arc::new(Standing::new(self.pace.longest())),
        };
        Ok(Box::new(ShardReader::start(fetch, &self.runtime)))
    }
}
