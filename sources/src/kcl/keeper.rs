//! Holds the leases of a job's shards, and mirrors into them what the job has committed.
//!
//! What enters: the committed positions, as often as there are new ones. What leaves: leave to commit, or the reason why not.
//! What survives a crash: the rows in the table. The job's own snapshots are the truth; nothing is read from the table but
//! who holds a lease.
//!
//! # The fence
//! At most one process may commit, though two run: one that hangs, one that took its place. Each start takes every lease of
//! the table, so that the older copy's next renewal is refused; a copy that cannot reach the table stops by its own clock
//! before its leases expire for the others; and one that has taken leases from an owner that may be alive waits until they
//! have. So does the run after one that died while it waited. The check before a commit looks at memory alone.
//!
//! A process that hangs *between* the check and the commit is beyond any lease: where that must not be, the sink has to
//! refuse old incarnations.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shardflow::metrics::SourceMetrics;
use shardflow::retry::{Clock, WallClock};
use shardflow::{Error, Result};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::row::Lease;
use super::standing::{Standing, Verdict};
use super::store::Store;
use super::taking::take_all;
use super::tending::{Tending, Wanted};
use crate::kinesis::committed::States;

/// Who holds the leases, and on what terms.
#[derive(Clone)]
pub(crate) struct Terms {
    /// The owner's name. No two processes may have the same.
    pub(crate) owner: String,
    /// Whether the job has never committed anything.
    pub(crate) first_start: bool,
    /// After how long without a sign of life others may take a lease.
    pub(crate) failover_time: Duration,
    /// The shortest time between two mirrorings.
    pub(crate) mirror_interval: Duration,
    /// Whether an owner is sure to be dead: an earlier run of this job, in whose place this one was started. Its leases are
    /// used without waiting for them to expire.
    pub(crate) is_my_predecessor: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// Where failed calls are counted.
    pub(crate) metrics: SourceMetrics,
}

impl Terms {
    /// The lease, taken.
    pub(super) fn take(&self, row: &Lease) -> Lease {
        if self.is_free(row.reader()) { row.inherited_by(&self.owner) } else { row.taken_by(&self.owner) }
    }

    /// Who may believe that it has this lease, if anybody may. Behind the present owner there can be another: an earlier run
    /// may have taken the lease and died before that one's time was over. The count of switches tells.
    pub(super) fn rival(&self, row: &Lease) -> Option<String> {
        match row.reader().filter(|owner| !self.is_free(Some(owner))) {
            Some(owner) => Some(owner.to_owned()),
            None => (row.switches > 0).then(|| "an earlier owner".to_owned()),
        }
    }

    /// Whether a lease of this reader is for the taking: nobody's, ours, or a dead one's.
    pub(super) fn is_free(&self, reader: Option<&str>) -> bool {
        reader.is_none_or(|owner| owner == self.owner || (self.is_my_predecessor)(owner))
    }
}

/// Keeps the leases of one job. Dropped without [`Keeper::stop`] it lets them expire.
pub(crate) struct Keeper<C = WallClock> {
    clock: C,
    failover_time: Duration,
    standing: Arc<Mutex<Standing>>,
    wanted: watch::Sender<Wanted>,
    task: Option<JoinHandle<Result<()>>>,
}

impl<C: Clock> Keeper<C> {
    /// Takes every lease of the table, whoever has it, and makes those that `states` lacks; then a task on `runtime` keeps
    /// them. Not to be used for commits before [`Keeper::ready`].
    ///
    /// `states` is what the last commit knows; at the first start what was listed. It must not be empty.
    ///
    /// # Errors
    /// The table cannot be read or written, serves several streams, or somebody else is taking the leases at this moment.
    pub(crate) async fn start<S: Store>(
        store: S,
        clock: C,
        terms: Terms,
        states: States,
        runtime: &Handle,
    ) -> Result<Self> {
        if states.is_empty() {
            return Err(Error::internal(format!("could not take leases in {}: there is no shard", store.describe())));
        }
        let failover_time = terms.failover_time;
        let mut standing = Standing::new(store.describe(), failover_time, clock.now());
        let held = take_all(&store, &clock, &terms, &mut standing).await?;
        let standing = Arc::new(Mutex::new(standing));
        let (wanted, receiver) = watch::channel(Wanted { states: Arc::new(states), stop: false });
        let mut tending = Tending::new(store, clock.clone(), terms, Arc::clone(&standing), held, receiver);
        tending.begin().await?;
        let task = Some(runtime.spawn(tending.run()));
        Ok(Self { clock, failover_time, standing, wanted, task })
    }

    /// Whether the job may commit now. Looks at memory alone.
    ///
    /// # Errors
    /// A lease was taken by somebody else, or has not been renewed for the failover time: the job must stop. So also before
    /// [`Keeper::ready`].
    pub(crate) fn may_commit(&self) -> Result<()> {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.error(&standing.verdict(self.clock.now())).map_or(Ok(()), Err)
    }

    /// Waits until nobody from whom a lease was taken can believe that it still has it.
    ///
    /// # Errors
    /// As [`Keeper::may_commit`].
    pub(crate) async fn ready(&self) -> Result<()> {
        loop {
            let verdict = self.standing.lock().unwrap_or_else(PoisonError::into_inner).verdict(self.clock.now());
            match verdict {
                // Not in one go: the leases may be lost meanwhile.
                Verdict::NotYet(wait) => self.clock.sleep(wait.min(self.failover_time / 10)).await,
                Verdict::May | Verdict::Never(_) => return self.may_commit(),
            }
        }
    }

    /// Takes what is to be mirrored, soon; the latest wins. Returns at once.
    pub(crate) fn committed(&self, states: States) {
        self.wanted.send_modify(|wanted| wanted.states = Arc::new(states));
    }

    /// Writes the mirror once more and gives up the leases, so that others need not wait for them to expire.
    ///
    /// # Errors
    /// The mirror could not be written, or not all leases could be given up. They expire then.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.wanted.send_modify(|wanted| wanted.stop = true);
        let Some(task) = self.task.take() else { return Ok(()) };
        task.await
            .unwrap_or_else(|error| Err(Error::internal("could not end the task that keeps leases").caused_by(error)))
    }
}

impl<C> Drop for Keeper<C> {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
