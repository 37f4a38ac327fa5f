//! Reads an Amazon Kinesis data stream: every record of every shard, in the order of its shard, parents before children.
//!
//! What enters: a stream's name and where to start. What leaves: each record's data, with its sequence number as the
//! position. What survives a crash: for each shard the sequence number of the last record that was committed.
//!
//! A shard is one split. One task a shard fetches records and hands batches (at most 1,000 records or about 1 MiB each) to
//! the worker through a channel that holds two of them; the rest of the answer waits behind them. What all shards of a
//! source hold in this way is bounded by [`Kinesis::buffer_bytes`]: a slow job slows the reading down and nothing piles up.
//!
//! A shard is polled with GetRecords, paced to what the shard allows and what other readers are to have of it
//! ([`Kinesis::shared_with`]), or read by enhanced fan-out, where the service pushes ([`ReadMode`]).
//!
//! Records that the Kinesis Producer Library aggregated are opened: each user record counts, with its own partition key,
//! explicit hash key and tags. What only looks like an aggregate is delivered as it is, and counted.
//!
//! Throttling is waited out for as long as it lasts. Other failures that may pass (time-outs, resets, faults of the
//! service, credentials that ran out, clocks that differ) are retried with growing waits until nothing else was seen for
//! [`Kinesis::give_up_after`]; what cannot pass (no permission, no such stream or shard) fails at once. Failures that last
//! longer than 10 s are logged as a warning, once, and so is their end; each is counted by its cause in
//! `shardflow_source_retries_total`. The metrics of each shard are in [`metrics`].
//!
//! # Progress tracking
//! A position is text: `trim-horizon`, `at:<ms since 1970>`, `after:<sequence number>`, or within an aggregate
//! `after:<sequence number>:<sub-sequence number>`. Until a record was read it stays what it was at the start. A shard that
//! is quiet has `;empty:<ms since 1970>` behind it, renewed every 10 minutes: then it was read to its end.
//!
//! # Resumption
//! A shard is read on after the stored record, in the midst of an aggregate too. A shard that appeared since is read from
//! its beginning, in a later epoch than the one in which its parents ended.
//!
//! Keep the stream's retention longer than the job may be down: records that have expired are lost. A start asks each
//! shard for the last committed record itself and skips it; where that is gone and the shard was not known to be read to its
//! end at a time that is still kept, records may have expired unread. Then the job stops, or goes on with what is left and
//! counts it in `shardflow_position_expired_total`, as [`Kinesis::on_expired`] says; never silently. A shard that is gone
//! altogether is judged alike, and then counts as ended.
//!
//! # Rewinds
//! A shard is an immutable log as long as its records are kept, so reading again gives the same records.

mod batches;
mod budget;
pub(crate) mod client;
#[cfg(any(feature = "kcl", feature = "zookeeper"))]
pub(crate) mod committed;
pub(crate) mod connect;
mod consumer;
mod enumerator;
mod fanout;
#[cfg(any(feature = "kcl", feature = "zookeeper"))]
mod follower;
mod intake;
mod lineage;
pub mod metrics;
#[cfg(any(feature = "kcl", feature = "zookeeper"))]
mod neighbours;
pub(crate) mod pacing;
mod polling;
pub(crate) mod position;
mod reader;
#[cfg(test)]
mod said;
mod shard;
mod standing;
mod start;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use shardflow::metrics::SourceMetrics;
use shardflow::source::{BoxFuture, Enumerator, Source, SourceContext};
use shardflow::vocabulary::StepName;
use shardflow::{Error, Result};

pub use shard::OnExpired;
pub use start::{Others, ShardStarts, Start};

use budget::Budget;
use connect::Connected;
use enumerator::KinesisEnumerator;
use lineage::Lineage;
use pacing::{Allowance, Pace};
use shard::Settings;

/// How the shards of a stream are read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ReadMode {
    /// By GetRecords calls: no extra cost; up to five calls and 2 MiB a second and shard, shared by all that poll it, so a
    /// record is seen after a fraction of a second.
    #[default]
    Polling,
    /// By enhanced fan-out: the service pushes records to a registered consumer, with 2 MiB a second and shard of its own, at a
    /// price a shard and hour and a price a byte.
    FanOut {
        /// The consumer's name. It is registered where the stream has none of that name. A job needs one of its own: two
        /// that subscribe under one name take each other's subscriptions away.
        consumer: String,
    },
    /// By enhanced fan-out where it is to be had, else by calls: where the consumer cannot be registered (no permission, 20
    /// consumers already), or subscriptions are refused later. Both are told in a warning.
    Automatic {
        /// As with [`ReadMode::FanOut`].
        consumer: String,
    },
}

/// Reads an Amazon Kinesis data stream.
///
/// Endpoint, region and credentials come from the usual AWS configuration (environment, profile, instance role) unless
/// they are given here.
///
/// # Examples
/// ```
/// use shardflow_sources::{Kinesis, Start};
/// use std::time::Duration;
///
/// let usage = Kinesis::stream("usage").region("eu-west-1").start(Start::Latest).discovery_interval(Duration::from_secs(5));
/// assert_eq!(usage.name(), "usage");
/// ```
#[derive(Debug, Clone)]
pub struct Kinesis {
    stream: String,
    endpoint: Option<String>,
    region: Option<String>,
    sdk_config: Option<aws_config::SdkConfig>,
    start: Start,
    discovery_interval: Duration,
    read_mode: ReadMode,
    on_expired: OnExpired,
    allowance: Allowance,
    idle_gap: Duration,
    connect_timeout: Duration,
    give_up_after: Duration,
    buffer_bytes: u64,
    #[cfg(feature = "kcl")]
    leases: Option<crate::kcl::Leases>,
    #[cfg(feature = "zookeeper")]
    spout: Option<crate::zookeeper::SpoutNodes>,
}

impl Kinesis {
    /// The stream of this name, or of this ARN, whose region then is the default.
    #[must_use]
    pub fn stream(name_or_arn: impl Into<String>) -> Self {
        Self {
            stream: name_or_arn.into(),
            endpoint: None,
            region: None,
            sdk_config: None,
            start: Start::default(),
            discovery_interval: Duration::from_secs(10),
            read_mode: ReadMode::default(),
            on_expired: OnExpired::default(),
            allowance: Allowance::default(),
            idle_gap: pacing::IDLE_GAP,
            connect_timeout: Duration::from_secs(10),
            give_up_after: Duration::from_secs(300),
            buffer_bytes: budget::BUFFER_BYTES,
            #[cfg(feature = "kcl")]
            leases: None,
            #[cfg(feature = "zookeeper")]
            spout: None,
        }
    }

    /// Another endpoint than that of the region: a URL with `http://` or `https://`, without credentials.
    #[must_use]
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// The AWS region.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// An AWS configuration of one's own (an assumed role, credentials from elsewhere) instead of the usual one.
    /// Its settings for retries and time-outs do not apply.
    #[must_use]
    pub fn sdk_config(mut self, config: aws_config::SdkConfig) -> Self {
        self.sdk_config = Some(config);
        self
    }

    /// Where the job's first start begins; [`Start::TrimHorizon`] by default. Later starts go on after the last commit.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// How often to look for new shards; 10 s by default, at least 100 ms. The end of a shard triggers a look at once.
    #[must_use]
    pub fn discovery_interval(mut self, interval: Duration) -> Self {
        self.discovery_interval = interval.max(Duration::from_millis(100));
        self
    }

    /// How many GetRecords calls a second this job may use of each shard; by default all 5 that a shard allows to all its
    /// readers together. Clamped to 0.01..=5. Lower it where other programs read the same stream.
    #[must_use]
    pub fn calls_per_second(mut self, calls: f64) -> Self {
        self.allowance.calls = calls;
        self
    }

    /// How many bytes a second this job may use of each shard; by default all 2 MiB that a shard allows to all its readers
    /// together. At least 1 KiB. A shard of a stand-in may give more.
    #[must_use]
    pub fn bytes_per_second(mut self, bytes: u64) -> Self {
        self.allowance.bytes = bytes;
        self
    }

    /// How many other programs poll the same stream: this job uses its even share of what a shard allows, and leaves the
    /// rest to them. Consumers of enhanced fan-out do not count. 0 by default.
    #[must_use]
    pub fn shared_with(mut self, others: u32) -> Self {
        self.allowance.others = others;
        self
    }

    /// By calls, by enhanced fan-out, or by whichever is to be had; [`ReadMode::Polling`] by default.
    #[must_use]
    pub fn read_mode(mut self, mode: ReadMode) -> Self {
        self.read_mode = mode;
        self
    }

    /// What to do where records have expired before they were read; [`OnExpired::Stop`] by default.
    #[must_use]
    pub fn on_expired(mut self, policy: OnExpired) -> Self {
        self.on_expired = policy;
        self
    }

    /// The longest gap between two calls to a shard that gives no records; 1 s by default. Calls slow down to it step by
    /// step and are fast again with the first record. Shorter gives the first record after a pause sooner, at the cost of
    /// more empty calls.
    #[must_use]
    pub fn idle_gap(mut self, gap: Duration) -> Self {
        self.idle_gap = gap;
        self
    }

    /// How long the start may take to reach the stream, all in all; 10 s by default.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// After how long of nothing but failures other than throttling the job fails; 5 min by default.
    #[must_use]
    pub fn give_up_after(mut self, time: Duration) -> Self {
        self.give_up_after = time;
        self
    }

    /// How much all shards together may have fetched and not handed over, in bytes; 64 MiB by default, at least 10 MiB, which
    /// is what one answer may weigh. Calls ask for no more than is free; an answer whose records are far larger than those
    /// before it may exceed it once. More helps where hundreds of shards have to catch up at once.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: u64) -> Self {
        self.buffer_bytes = bytes;
        self
    }

    /// Holds the leases of a table of the Kinesis Client Library while the job runs, mirrors into it what the job has committed,
    /// and where asked to takes over from the fleet that it was written by.
    #[cfg(feature = "kcl")]
    #[must_use]
    pub fn leases(mut self, leases: crate::kcl::Leases) -> Self {
        self.leases = Some(leases);
        self
    }

    /// Mirrors what the job has committed to the nodes of the Kinesis spout for Storm, and where asked to takes over from
    /// the topology that they were written by.
    #[cfg(feature = "zookeeper")]
    #[must_use]
    pub fn spout(mut self, nodes: crate::zookeeper::SpoutNodes) -> Self {
        self.spout = Some(nodes);
        self
    }

    /// Takes the consumer that [`ReadMode`] names off the stream, for a job that is not to run again: a consumer costs by the
    /// hour, and a stream has room for 20. `Ok(false)`: there was none. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// A stream that cannot be reached, a call that is refused, or a source that is polled.
    pub async fn deregister_consumer(&self) -> Result<bool> {
        let (ReadMode::FanOut { consumer } | ReadMode::Automatic { consumer }) = &self.read_mode else {
            let stream = &self.stream;
            return Err(Error::config(format!("could not deregister a consumer of \"{stream}\": it is read by calls")));
        };
        let settings = Self { read_mode: ReadMode::Polling, ..self.clone() };
        let metrics = SourceMetrics::register(&StepName::new(&self.stream));
        let Connected { client, summary, .. } = connect::connect(&settings, &metrics).await?;
        consumer::deregister(&client.sdk, &summary.arn, consumer).await.map_err(|failure| {
            let stream = &client.description;
            Error::source(format!("could not deregister consumer \"{consumer}\" of {stream}")).caused_by(failure)
        })
    }

    /// The stream's name or ARN, as given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.stream
    }
}

impl Source for Kinesis {
    /// The stream as it was given: a name and an ARN may mean two streams, in different accounts or regions.
    fn identity(&self) -> String {
        format!("kinesis:{}", self.stream)
    }

    fn open(&self, context: SourceContext) -> BoxFuture<'_, Result<Box<dyn Enumerator>>> {
        Box::pin(async move {
            metrics::describe();
            let metrics = SourceMetrics::register(&context.step);
            let Connected { client, summary, way, .. } = connect::connect(self, &metrics).await?;
            let start = self.start.concrete(Timestamp::now(), summary.retention)?;
            #[cfg(any(feature = "kcl", feature = "zookeeper"))]
            let (start, follower) = neighbours::meet(self, &context, &client, &metrics, start).await?;
            let enumerator: Box<dyn Enumerator> = Box::new(KinesisEnumerator {
                step: context.step,
                arn: summary.arn.clone(),
                client,
                lineage: Lineage::new(&context.known, context.first_start, start),
                budget: Budget::new(self.buffer_bytes),
                metrics,
                resumed: context.known.into_keys().collect(),
                listed: BTreeSet::new(),
                interval: self.discovery_interval,
                settings: Settings {
                    way,
                    pace: Pace::new(self.allowance, self.idle_gap),
                    give_up_after: self.give_up_after,
                    on_expired: self.on_expired,
                    retention: summary.retention,
                },
                runtime: context.runtime,
                #[cfg(any(feature = "kcl", feature = "zookeeper"))]
                follower,
            });
            Ok(enumerator)
        })
    }
}
