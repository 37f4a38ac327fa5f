//! Lives with the lease tables of the Kinesis Client Library: takes over from a fleet, keeps its table up to date, hands back.
//!
//! What enters: a DynamoDB table as the library (3.5) writes it, or the name of one that is to be made; and what the job has
//! committed. What leaves: where each shard begins at the first start, and leave to commit. What survives a crash: the
//! table's rows, which are a mirror. The job's own snapshots are the truth, and no later start asks the table for a position.
//!
//! A job is one owner of all shards and renews their leases, so that of two copies of it the older stops before the younger
//! commits. A worker of a fleet that is started on the same table takes a lease sooner or later, as it would from another worker:
//! then the job stops; see [`Leases::failover_time`].
//!
//! # Progress tracking
//! After a commit the table follows within [`Leases::mirror_interval`]: checkpoints, with the sub-sequence number inside an
//! aggregate; the leases of new shards; `SHARD_END` with the children; and leases that are done with are deleted. At any
//! moment a fleet could go on from the table and lose nothing.
//!
//! # Resumption
//! A fleet that is started after the job has stopped goes on at once, since the job gives its leases up; after a crash when
//! they have expired. It reads again what was committed and not yet mirrored: by its nature the library delivers at least
//! once. A shard of which the job has read nothing is read from its oldest record (`TRIM_HORIZON`), also where the job began
//! at a time: the table can hold no time.
//!
//! # Rewinds
//! A checkpoint is never moved backwards, and a lease that expired is never renewed.

mod checkpoint;
mod connect;
#[cfg(test)]
mod emulators;
#[cfg(test)]
mod emulators_tests;
#[cfg(test)]
mod fence_tests;
mod keeper;
mod plan;
mod row;
mod standing;
mod store;
mod table;
mod takeover;
mod taking;
mod tending;
#[cfg(test)]
mod testing;

use std::time::Duration;

use shardflow::Result;
use shardflow::metrics::SourceMetrics;

pub use takeover::TakeOver;

pub(crate) use connect::IfAbsent;
pub(crate) use keeper::{Keeper, Terms};
pub(crate) use table::Table;
pub(crate) use takeover::{From, TakenOver, refuse_foreign, take_over};

/// A lease table of the Kinesis Client Library, and how a job uses it.
///
/// Endpoint, region and credentials come from the usual AWS configuration (environment, profile, instance role) unless
/// they are given here; the region also from the stream. The job needs the permissions DescribeTable, Scan, GetItem,
/// PutItem, UpdateItem and DeleteItem, and CreateTable unless the table exists.
///
/// # Examples
/// ```
/// use shardflow_sources::kcl::{Leases, TakeOver};
/// use std::time::Duration;
///
/// let leases = Leases::table("usage-app").failover_time(Duration::from_secs(20)).take_over(TakeOver::WhenIdle);
/// assert_eq!(leases.name(), "usage-app");
/// ```
#[derive(Debug, Clone)]
pub struct Leases {
    table: String,
    endpoint: Option<String>,
    region: Option<String>,
    sdk_config: Option<aws_config::SdkConfig>,
    failover_time: Duration,
    mirror_interval: Duration,
    take_over: TakeOver,
}

impl Leases {
    /// The table of this name. The library names it after the application.
    #[must_use]
    pub fn table(name: impl Into<String>) -> Self {
        Self {
            table: name.into(),
            endpoint: None,
            region: None,
            sdk_config: None,
            failover_time: Duration::from_secs(10),
            mirror_interval: Duration::from_secs(5),
            take_over: TakeOver::default(),
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

    /// After how long without a sign of life a lease counts as expired; 10 s by default, at least 1 s. Must be what the fleet
    /// is set to (`failoverTimeMillis`), and the same for all copies of the job.
    ///
    /// It is how long DynamoDB may be out of reach before the job stops, and how long a job waits that took leases from
    /// somebody who may be alive. Leases are renewed three times as often.
    #[must_use]
    pub fn failover_time(mut self, time: Duration) -> Self {
        self.failover_time = time.max(Duration::from_secs(1));
        self
    }

    /// The shortest time between two mirrorings of what was committed; 5 s by default. Each writes the rows of the shards
    /// that have moved.
    #[must_use]
    pub fn mirror_interval(mut self, interval: Duration) -> Self {
        self.mirror_interval = interval;
        self
    }

    /// Whether the job's first start goes on where a fleet has come; [`TakeOver::No`] by default. Later starts go on after
    /// the job's own last commit, whatever this says.
    #[must_use]
    pub fn take_over(mut self, how: TakeOver) -> Self {
        self.take_over = how;
        self
    }

    /// The table's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.table
    }

    pub(crate) fn takes_over(&self) -> TakeOver {
        self.take_over
    }

    pub(crate) fn failover(&self) -> Duration {
        self.failover_time
    }

    pub(crate) fn interval(&self) -> Duration {
        self.mirror_interval
    }

    /// Reaches the table, or makes it. `region` is where the stream is, if that is known.
    ///
    /// # Errors
    /// Settings that cannot work, a table that is not there or is none for leases, a service that cannot be reached.
    pub(crate) async fn open(
        &self,
        region: Option<&str>,
        if_absent: IfAbsent,
        metrics: &SourceMetrics,
    ) -> Result<Table> {
        connect::connect(self, region, if_absent, metrics).await
    }
}
