//! Reads an Amazon Kinesis data stream: every record of every shard, in the order of its shard, parents before children.
//!
//! What enters: a stream's name and where to start. What leaves: each record's data, with its sequence number as the
//! position. What survives a crash: for each shard the sequence number of the last record that was committed.
//!
//! A shard is one split. One task a shard calls GetRecords, paced to what the shard allows, and hands batches (at most
//! 1,000 records or about 1 MiB each) to the worker through a channel that holds two of them; the rest of the answer waits
//! behind them. What all shards of a source hold in this way is bounded by [`Kinesis::buffer_bytes`]: a slow job slows the
//! calls down and nothing piles up.
//!
//! Throttling is waited out for as long as it lasts. Other failures that may pass (time-outs, resets, faults of the
//! service, credentials that ran out, clocks that differ) are retried with growing waits until nothing else was seen for
//! [`Kinesis::give_up_after`]; what cannot pass (no permission, no such stream or shard) fails at once. Failures that last
//! longer than 10 s are logged as a warning, once, and so is their end; each is counted by its cause in
//! `shardflow_source_retries_total`.
//!
//! # Progress tracking
//! A position is text: `trim-horizon`, `at:<ms since 1970>` or `after:<sequence number>`. Until a record was read it stays
//! what it was at the start; then it is `after:` the last record of the batch.
//!
//! # Resumption
//! A shard is read on after the stored sequence number. A shard that appeared since is read from its beginning.
//!
//! Keep the stream's retention longer than the job may be down: records that have expired are lost. The job goes on with
//! what is left, and says so, in a warning that names the shard and the position, and in the counter
//! `shardflow_position_expired_total`. To know it, a start asks each shard for the last committed record itself and skips
//! it. A shard that is gone altogether counts as ended. Where the stored record has expired and there is none after it,
//! nobody can tell whether there were any.
//!
//! # Rewinds
//! A shard is an immutable log as long as its records are kept, so reading again gives the same records.

mod backoff;
mod batches;
mod budget;
mod client;
mod connect;
mod enumerator;
mod failure;
mod fetch;
mod lineage;
mod pacing;
mod position;
mod proof;
mod reader;
mod retry;
#[cfg(test)]
mod said;
mod standing;
mod start;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use shardflow::Result;
use shardflow::metrics::SourceMetrics;
use shardflow::source::{BoxFuture, Enumerator, Source, SourceContext};

pub use start::Start;

use budget::Budget;
use enumerator::KinesisEnumerator;
use lineage::Lineage;
use pacing::Pace;

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
    calls_per_second: f64,
    idle_gap: Duration,
    connect_timeout: Duration,
    give_up_after: Duration,
    buffer_bytes: u64,
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
            calls_per_second: pacing::CALLS_PER_SECOND,
            idle_gap: pacing::IDLE_GAP,
            connect_timeout: Duration::from_secs(10),
            give_up_after: Duration::from_secs(300),
            buffer_bytes: budget::BUFFER_BYTES,
        }
    }

    /// Another endpoint than that of the region: a URL with `http://` or `https://`.
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
        self.calls_per_second = calls;
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
            let start = self.start.concrete(Timestamp::now())?;
            let metrics = SourceMetrics::register(&context.step);
            let client = connect::connect(self, &metrics).await?;
            let enumerator: Box<dyn Enumerator> = Box::new(KinesisEnumerator {
                client,
                lineage: Lineage::new(&context.known, context.first_start, start),
                budget: Budget::new(self.buffer_bytes),
                metrics,
                resumed: context.known.into_keys().collect(),
                listed: BTreeSet::new(),
                interval: self.discovery_interval,
                pace: Pace::new(self.calls_per_second, self.idle_gap),
                give_up_after: self.give_up_after,
                runtime: context.runtime,
            });
            Ok(enumerator)
        })
    }
}
