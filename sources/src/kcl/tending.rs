//! The task that keeps leases: renews them, mirrors what was committed, and gives them up in the end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shardflow::retry::{self, Backoff, Clock};
use shardflow::{Error, Result};
use shardflow_aws::failure::{Failure, Remedy};
use tokio::sync::watch;

use super::keeper::Terms;
use super::plan::{Rows, Write, plan};
use super::row::Lease;
use super::standing::{Over, Standing, Verdict};
use super::store::{Change, Store, Written, write_all};
use super::taking::PATIENCE;
use crate::kinesis::committed::States;

/// What the job wants of its keeper.
#[derive(Debug)]
pub(super) struct Wanted {
    /// What it has committed.
    pub(super) states: Arc<States>,
    /// Whether it is done.
    pub(super) stop: bool,
}

/// What is left to do after some writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    /// Some were not done, and will be tried again.
    Some,
}

pub(super) struct Tending<S, C> {
    store: S,
    clock: C,
    terms: Terms,
    standing: Arc<Mutex<Standing>>,
    /// The rows as last seen: all of the table, and all ours.
    held: Rows,
    wanted: watch::Receiver<Wanted>,
    states: Arc<States>,
    stop: bool,
    /// Whether only leases that are missing are made: before the first commit of a job's first start nothing that the table
    /// says may go, since a start that fails before it has to find it again.
    only_missing: bool,
    /// Whether `states` are to be mirrored, and when at the earliest.
    mirror: Option<Instant>,
    /// When the last mirroring began.
    mirrored: Instant,
    backoff: Backoff,
    /// After a failure: no call before.
    pause: Option<Instant>,
}

impl<S: Store, C: Clock> Tending<S, C> {
    pub(super) fn new(
        store: S,
        clock: C,
        terms: Terms,
        standing: Arc<Mutex<Standing>>,
        held: Rows,
        mut wanted: watch::Receiver<Wanted>,
    ) -> Self {
        let states = Arc::clone(&wanted.borrow_and_update().states);
        let now = clock.now();
        // Given up on by the leases' expiry, not by the count of failures.
        let backoff = Backoff::new(Duration::MAX);
        let (mirror, mirrored, pause, stop, only_missing) = (Some(now), now, None, false, terms.first_start);
        Self {
            store,
            clock,
            terms,
            standing,
            held,
            wanted,
            states,
            stop,
            only_missing,
            mirror,
            mirrored,
            backoff,
            pause,
        }
    }

    /// Writes the first mirror, and with it the leases that are missing.
    pub(super) async fn begin(&mut self) -> Result<()> {
        let deadline = self.clock.now() + PATIENCE;
        self.mirror_until(deadline).await
    }

    /// Keeps the leases until the job is done with them.
    pub(super) async fn run(mut self) -> Result<()> {
        while !self.stop {
            self.renew().await;
            self.mirror().await;
            let wait = self.wait();
            tokio::select! {
                () = self.clock.sleep(wait) => {}
                changed = self.wanted.changed() => match changed {
                    Ok(()) => self.take_wanted(),
                    // The keeper was dropped: the leases expire.
                    Err(_) => return Ok(()),
                }
            }
        }
        self.give_up().await
    }

    fn take_wanted(&mut self) {
        let wanted = self.wanted.borrow_and_update();
        self.only_missing &= Arc::ptr_eq(&self.states, &wanted.states);
        self.states = Arc::clone(&wanted.states);
        self.stop = wanted.stop;
        self.mirror.get_or_insert(self.mirrored + self.terms.mirror_interval);
    }

    /// How long there is nothing to do.
    fn wait(&self) -> Duration {
        let now = self.clock.now();
        if self.is_over(now) {
            // Only to be told to stop.
            return Duration::from_secs(3600);
        }
        let renewal = self.standing().oldest().map(|(_, began)| began + self.terms.failover_time / 3);
        let next = [renewal, self.mirror].into_iter().flatten().min();
        next.max(self.pause).map_or(self.terms.failover_time, |next| next.saturating_duration_since(now))
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the right to the leases is lost. What has expired stays so: it is never renewed.
    fn is_over(&self, now: Instant) -> bool {
        let mut standing = self.standing();
        let Verdict::Never(over) = standing.verdict(now) else { return false };
        standing.lost(over);
        true
    }

    /// Renews the leases where one is due: all that will be soon, so that they stay together.
    async fn renew(&mut self) {
        let now = self.clock.now();
        if self.is_over(now) || self.pause.is_some_and(|pause| now < pause) {
            return;
        }
        let (due, soon) = (self.terms.failover_time / 3, self.terms.failover_time / 6);
        let mut leases: Vec<(Instant, &Lease)> = {
            let standing = self.standing();
            if standing.oldest().is_none_or(|(_, began)| now < began + due) {
                return;
            }
            let renewals = self.held.values().filter_map(|lease| Some((standing.renewal_of(&lease.key)?, lease)));
            renewals.filter(|(began, _)| now >= *began + soon).collect()
        };
        // The oldest first: they are the first to expire.
        leases.sort_by_key(|(began, _)| *began);
        let is_alone = self.standing().is_alone(now);
        let renewed = |lease: &Lease| if is_alone { lease.renewed().undisputed() } else { lease.renewed() };
        let renewal = |lease: &Lease| Change { seen: Some(lease.clone()), then: Some(renewed(lease)) };
        let changes = leases.into_iter().map(|(_, lease)| renewal(lease)).collect();
        self.write(changes).await;
    }

    /// Mirrors what was committed, if it is time. Between stages leases are renewed.
    async fn mirror(&mut self) {
        let now = self.clock.now();
        let is_time = self.mirror.is_some_and(|at| now >= at) && self.pause.is_none_or(|pause| now >= pause);
        if !is_time || self.is_over(now) {
            return;
        }
        self.mirrored = now;
        for mut stage in plan(&self.states, &self.held) {
            stage.retain(|write| !self.only_missing || matches!(write, Write::Create(_)));
            self.renew().await;
            let changes = stage.into_iter().filter_map(|write| self.change(write)).collect();
            if self.write(changes).await == Left::Some {
                // What is left is planned again, from what the rows are by then.
                return;
            }
        }
        self.mirror = None;
    }

    fn change(&self, write: Write) -> Option<Change> {
        let seen = self.held.get(write.key()).cloned();
        let is_alone = self.standing().is_alone(self.clock.now());
        let then = match write {
            Write::Create(lease) => Some(self.terms.take(&lease)),
            Write::Advance { to, children, .. } => {
                let seen = seen.as_ref()?;
                let then = seen.advanced(to, &children);
                // The count of switches is what tells the next run that others may still be there.
                Some(if is_alone { then } else { Lease { switches: seen.switches, ..then } })
            }
            Write::Delete { .. } => None,
        };
        Some(Change { seen, then })
    }

    /// Makes the changes, and those that taking a lease which appeared meanwhile needs.
    async fn write(&mut self, mut changes: Vec<Change>) -> Left {
        let mut left = Left::Nothing;
        while !changes.is_empty() {
            let began = self.clock.now();
            let mut failures = Vec::new();
            for (change, written) in write_all(&self.store, std::mem::take(&mut changes)).await {
                match written {
                    Ok(Written::Done) => self.done(change, began),
                    Ok(Written::Refused(row)) => {
                        left = Left::Some;
                        changes.extend(self.refused(change, row.map(|row| *row)));
                    }
                    Err(failure) => failures.push(failure),
                }
            }
            // After what went well, so that the pause that they ask for stands.
            for failure in failures {
                left = Left::Some;
                self.failed(failure);
            }
            if self.is_over(self.clock.now()) {
                return Left::Some;
            }
        }
        left
    }

    fn done(&mut self, change: Change, began: Instant) {
        self.pause = None;
        let lasted = self.backoff.succeeded(self.clock.now());
        if let Some(lasted) = lasted {
            tracing::debug!(table = self.store.describe(), ?lasted, "leases can be kept again");
        }
        match (change.seen, change.then) {
            (_, Some(then)) => {
                self.standing().renewed(&then.key, began);
                self.held.insert(then.key.clone(), then);
            }
            (Some(seen), None) => {
                self.standing().gone(&seen.key);
                self.held.remove(&seen.key);
            }
            (None, None) => {}
        }
    }

    /// The row is not as it was seen. Ours all the same: an earlier call got through, and the next goes on from there. A new
    /// shard's lease that is free: take it. Else we have lost it.
    fn refused(&mut self, change: Change, row: Option<Lease>) -> Option<Change> {
        let is_ours = |row: &Lease| row.reader() == Some(&self.terms.owner) && row.owner.as_deref() == row.reader();
        let is_new = change.seen.is_none();
        match row {
            Some(row) if is_ours(&row) => {
                // Without a renewal of its own yet it is due at once.
                if self.standing().renewal_of(&row.key).is_none() {
                    return Some(Change { then: Some(row.renewed()), seen: Some(row) });
                }
                self.held.insert(row.key.clone(), row);
                None
            }
            Some(row) if is_new && self.terms.rival(&row).is_none() => {
                Some(Change { then: Some(self.terms.take(&row)), seen: Some(row) })
            }
            row => {
                let key = change.seen.or(change.then).map_or_else(String::new, |lease| lease.key);
                // Asked to hand over, the library's way: the owner is the new one already.
                let by = row.and_then(|row| row.owner.filter(|owner| *owner != self.terms.owner));
                tracing::warn!(table = self.store.describe(), lease = key, by, "a lease was lost");
                self.standing().lost(Over::Taken { key, by });
                None
            }
        }
    }

    fn failed(&mut self, failure: Failure) {
        let (table, metrics) = (self.store.describe(), &self.terms.metrics);
        let Remedy::Retry(failed) = failure.remedy else {
            tracing::warn!(table, %failure, "leases cannot be kept");
            self.standing().lost(Over::Refused(failure.text));
            return;
        };
        retry::counter(&metrics.retries, failed).increment(1);
        let now = self.clock.now();
        let wait = self.backoff.failed(failed, now, rand::random()).unwrap_or(Duration::ZERO);
        tracing::debug!(table, %failure, "a call for leases failed, will be made again");
        // Never so long that a lease expires meanwhile.
        self.pause = Some(now + wait.min(self.terms.failover_time / 10));
        self.standing().failed(failure.text);
    }

    /// Mirrors as long as it takes, or until `deadline`.
    async fn mirror_until(&mut self, deadline: Instant) -> Result<()> {
        self.mirror = Some(self.clock.now());
        loop {
            self.mirror().await;
            let now = self.clock.now();
            if self.mirror.is_none() || self.is_over(now) {
                break;
            }
            if now >= deadline {
                return Err(self.unwritten("it took too long"));
            }
            self.clock.sleep(self.pause.map_or(Duration::ZERO, |pause| pause.saturating_duration_since(now))).await;
        }
        let standing = self.standing();
        match standing.verdict(self.clock.now()) {
            verdict @ Verdict::Never(_) => standing.error(&verdict).map_or(Ok(()), Err),
            Verdict::May | Verdict::NotYet(_) => Ok(()),
        }
    }

    /// Mirrors once more, then frees the leases. In the time in which they would have expired anyway.
    async fn give_up(&mut self) -> Result<()> {
        let deadline = self.clock.now() + self.terms.failover_time;
        let mirrored = if self.is_over(self.clock.now()) { Ok(()) } else { self.mirror_until(deadline).await };
        let mut changes = self.releases();
        while !changes.is_empty() {
            let planned = changes.len();
            for (change, written) in write_all(&self.store, std::mem::take(&mut changes)).await {
                let Some(key) = change.seen.map(|seen| seen.key) else { continue };
                match written {
                    Ok(Written::Refused(Some(row))) if row.owner.as_ref() == Some(&self.terms.owner) => {
                        self.held.insert(key, *row);
                    }
                    // Freed, or somebody else's by now.
                    Ok(_) => drop(self.held.remove(&key)),
                    Err(failure) if matches!(failure.remedy, Remedy::Retry(_)) => self.failed(failure),
                    Err(failure) => return Err(self.unwritten("the leases are left to expire").caused_by(failure)),
                }
            }
            changes = self.releases();
            let now = self.clock.now();
            if now >= deadline && !changes.is_empty() {
                return Err(self.unwritten(&format!("{} leases are left to expire", changes.len())));
            }
            if changes.len() == planned {
                self.clock.sleep(self.pause.map_or(Duration::ZERO, |pause| pause.saturating_duration_since(now))).await;
            }
        }
        tracing::info!(table = self.store.describe(), owner = self.terms.owner, "gave up the leases");
        mirrored
    }

    fn releases(&self) -> Vec<Change> {
        let release = |lease: &Lease| Change { seen: Some(lease.clone()), then: Some(lease.released()) };
        self.held.values().map(release).collect()
    }

    fn unwritten(&self, why: &str) -> Error {
        Error::source(format!("could not leave {} up to date and free: {why}", self.store.describe()))
    }
}
