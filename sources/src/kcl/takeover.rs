//! Takes over from a fleet of the Kinesis Client Library, at a job's very first start: where it is to begin in each shard.
//!
//! The table has no times in it. Whether an owner lives is seen by watching: whoever lives moves the counters of its leases
//! well within the failover time. Taking over from a fleet that lives would process records twice, so it is refused unless
//! forced. A checkpoint that is pending is none: what it stands for may not have happened.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use shardflow::metrics::SourceMetrics;
use shardflow::retry::{Clock, Retries};
use shardflow::{Error, Result};
use shardflow_aws::failure::{Failure, Remedy};

use super::checkpoint::Checkpoint;
use super::row::Lease;
use super::standing::quoted;
use super::store::Store;
use super::taking::{PATIENCE, refuse_several_streams};
use crate::kinesis::position::Sequence;

/// Whether a job's first start begins where a fleet of the Kinesis Client Library has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TakeOver {
    /// It begins where its source is set to begin. What the table says is not asked for.
    #[default]
    No,
    /// It begins after the fleet's checkpoints, once no worker has renewed a lease for the failover time. While one does,
    /// the start fails.
    WhenIdle,
    /// It begins after the fleet's checkpoints, whoever lives. Records that a worker has processed and not checkpointed are
    /// processed again.
    Force,
}

/// Where to begin in a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TakenOver {
    /// The shard.
    pub(crate) shard: String,
    /// Where.
    pub(crate) from: From,
}

/// What a checkpoint means for a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum From {
    /// At the oldest record that is still kept.
    TrimHorizon,
    /// At what arrives next.
    Latest,
    /// At the time that the fleet is set to begin at, which the table does not hold.
    AtTimestamp,
    /// After this record. Its `sub` is never `None`: a plain record and the first of an aggregate are both written as 0, so
    /// the record itself tells which it is.
    After(Sequence),
    /// Nowhere: the shard was read to its end.
    Ended,
}

/// Where a job begins that takes over from `store`; nothing for [`TakeOver::No`].
///
/// # Errors
/// The table is missing, empty, malformed or of several streams; or, unless forced, a worker still renews leases: the error
/// names workers and shards.
pub(crate) async fn take_over<S: Store, C: Clock>(
    store: &S,
    clock: &C,
    failover_time: Duration,
    how: TakeOver,
    metrics: &SourceMetrics,
) -> Result<Vec<TakenOver>> {
    if how == TakeOver::No {
        return Ok(Vec::new());
    }
    let rows_of = || leases(store, clock, metrics, "take over from");
    let mut rows = rows_of().await?;
    if how == TakeOver::WhenIdle {
        let mut watch = Watch::new(&rows, clock.now(), failover_time);
        while watch.goes_on(clock.now()) {
            clock.sleep(failover_time / 10).await;
            rows = rows_of().await?;
            watch.saw(&rows);
        }
        refuse_the_living(&watch.living(), store.describe())?;
    }
    beginnings(&rows, store.describe())
}

/// The rows; failures that may pass are waited out. `to` is what they are read for.
async fn leases<S: Store, C: Clock>(
    store: &S,
    clock: &C,
    metrics: &SourceMetrics,
    to: &'static str,
) -> Result<Vec<Lease>> {
    let table = store.describe();
    let retries = Retries::new(PATIENCE, clock, &metrics.retries, format!("read {table}"));
    retries.run(|| store.leases()).await.map_err(|failure: Failure| match failure.remedy {
        Remedy::Missing => Error::config(format!("could not {to} {table}: there is no such table")),
        _ => Error::source(format!("could not {to} {table}")).caused_by(failure),
    })
}

fn beginnings(rows: &[Lease], table: &str) -> Result<Vec<TakenOver>> {
    refuse_several_streams(rows, table)?;
    if rows.is_empty() {
        return Err(Error::config(format!(
            "could not take over from {table}: it holds no lease, so no fleet has ever worked with it"
        )));
    }
    let from = |checkpoint: &Checkpoint| match checkpoint {
        Checkpoint::TrimHorizon => From::TrimHorizon,
        Checkpoint::Latest => From::Latest,
        Checkpoint::AtTimestamp => From::AtTimestamp,
        Checkpoint::After { number, sub } => From::After(Sequence { number: number.clone(), sub: Some(*sub) }),
        Checkpoint::ShardEnd => From::Ended,
    };
    Ok(rows.iter().map(|row| TakenOver { shard: row.key.clone(), from: from(&row.checkpoint) }).collect())
}

/// Refuses a table that has leases of others than the job whose owners' names begin with `prefix`. A job that begins where
/// its own settings say must not mirror that over what others have left: a fleet that goes on there would skip what the job
/// has not read.
///
/// # Errors
/// The table cannot be read, or has such a lease: the error names it.
pub(crate) async fn refuse_foreign<S: Store, C: Clock>(
    store: &S,
    clock: &C,
    metrics: &SourceMetrics,
    prefix: &str,
) -> Result<()> {
    let table = store.describe();
    let rows = leases(store, clock, metrics, "read").await?;
    let Some(row) = rows.iter().find(|row| !row.owner.as_ref().is_some_and(|owner| owner.starts_with(prefix))) else {
        return Ok(());
    };
    let shard = &row.key;
    let owner = row.owner.as_ref().map_or_else(|| "nobody now".to_owned(), |owner| format!("\"{owner}\""));
    Err(Error::config(format!(
        "could not use {table} for a job that starts anew: it has the lease \"{shard}\" of another program (held by {owner}); \
         take over from it (TakeOver::WhenIdle), or name another table"
    )))
}

/// What is seen of the owners while one waits. Pure.
#[derive(Debug)]
struct Watch {
    began: Instant,
    failover_time: Duration,
    /// Of each row the counter and who reads the shard.
    rows: BTreeMap<String, (u64, Option<String>)>,
    /// The rows that have moved.
    moved: BTreeSet<String>,
}

impl Watch {
    fn new(rows: &[Lease], began: Instant, failover_time: Duration) -> Self {
        let mut watch = Self { began, failover_time, rows: BTreeMap::new(), moved: BTreeSet::new() };
        watch.saw(rows);
        watch.moved.clear();
        watch
    }

    fn saw(&mut self, rows: &[Lease]) {
        self.rows.retain(|key, _| rows.iter().any(|row| row.key == *key));
        for row in rows {
            let now = (row.counter, row.reader().map(ToOwned::to_owned));
            if self.rows.get(&row.key) != Some(&now) {
                self.moved.insert(row.key.clone());
                self.rows.insert(row.key.clone(), now);
            }
        }
    }

    /// Whether there is more to see: an owner, and not yet watched for long enough.
    fn goes_on(&self, now: Instant) -> bool {
        let is_owned = self.rows.values().any(|(_, reader)| reader.is_some());
        is_owned && now.saturating_duration_since(self.began) <= self.failover_time
    }

    /// Who has moved a row and still has it, with the rows.
    fn living(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut living: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for key in &self.moved {
            if let Some((_, Some(reader))) = self.rows.get(key) {
                living.entry(reader).or_default().insert(key);
            }
        }
        living
    }
}

fn refuse_the_living(living: &BTreeMap<&str, BTreeSet<&str>>, table: &str) -> Result<()> {
    if living.is_empty() {
        return Ok(());
    }
    let owners: BTreeSet<&str> = living.keys().copied().collect();
    let shards: BTreeSet<&str> = living.values().flatten().copied().collect();
    Err(Error::source(format!(
        "could not take over from {table}: {} still renew(s) the leases of {}; stop the workers first, or take over by force \
         (TakeOver::Force), which processes some records twice",
        quoted(&owners),
        quoted(&shards)
    )))
}

#[cfg(test)]
#[path = "takeover_tests.rs"]
mod tests;
