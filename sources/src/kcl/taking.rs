//! Takes all leases of a table at the start of a job.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use shardflow::retry::{Clock, Retries};
use shardflow::{Error, Result};
use shardflow_aws::failure::Failure;

use super::keeper::Terms;
use super::plan::Rows;
use super::row::Lease;
use super::standing::{Standing, quoted};
use super::store::{Change, Store, Written, write_all};

/// For how long a start goes on when calls fail.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How often the table is read again because a row changed in between. An owner renews a row every few seconds, so that
/// the same one is met again is rare, and often a sign that somebody is at war with us.
const ROUNDS: usize = 10;

/// The table's leases, all taken, each from whoever had it. Notes in `standing` when, and whom it was taken from.
pub(super) async fn take_all<S: Store, C: Clock>(
    store: &S,
    clock: &C,
    terms: &Terms,
    standing: &mut Standing,
) -> Result<Rows> {
    let table = store.describe();
    let failed = |failure: Failure| Error::source(format!("could not take the leases of {table}")).caused_by(failure);
    let mut retries = Retries::new(PATIENCE, clock, &terms.metrics.retries, format!("take the leases of {table}"));
    let mut taking = Taking { store, terms, held: Rows::new(), taken: 0, taken_from: BTreeSet::new() };
    let mut rounds = 0;
    loop {
        let taken_before = taking.taken;
        match taking.round(clock, standing).await? {
            Ok(0) => break,
            Ok(_) if rounds == ROUNDS => {
                return Err(Error::source(format!(
                    "could not take the leases of {table}: their rows change all the time"
                )));
            }
            Ok(_) => {
                retries.succeeded();
                rounds += 1;
            }
            Err(failure) => {
                if taking.taken > taken_before {
                    // Some calls get through. What was taken must be fresh when the rest is.
                    retries.succeeded();
                }
                retries.wait_out(failure).await.map_err(failed)?;
            }
        }
    }
    let Taking { held, taken_from, .. } = taking;
    tracing::info!(table, owner = terms.owner, leases = held.len(), "took the leases");
    if !taken_from.is_empty() {
        let owners = quoted(&taken_from);
        tracing::info!(table, owners, wait = ?terms.failover_time, "took leases from others, who may use them for a while");
    }
    // Now, and not when each was taken: a call whose answer was lost may have been done late.
    standing.taken_from(taken_from, clock.now());
    Ok(held)
}

struct Taking<'a, S> {
    store: &'a S,
    terms: &'a Terms,
    held: Rows,
    /// How many writes were done.
    taken: u64,
    /// Who had leases and may be alive.
    taken_from: BTreeSet<String>,
}

impl<S: Store> Taking<'_, S> {
    /// Reads the table and takes what is not held. Gives how many rows have changed in between.
    async fn round(&mut self, clock: &impl Clock, standing: &mut Standing) -> Result<Result<usize, Failure>> {
        let (store, terms) = (self.store, self.terms);
        let rows = match store.leases().await {
            Ok(rows) => rows,
            Err(failure) => return Ok(Err(failure)),
        };
        refuse_several_streams(&rows, store.describe())?;
        let began = clock.now();
        // What an earlier round took a while ago is renewed by the way.
        let is_fresh = |at: Instant| began.saturating_duration_since(at) < terms.failover_time / 6;
        let is_held =
            |row: &Lease| self.held.get(&row.key) == Some(row) && standing.renewal_of(&row.key).is_some_and(is_fresh);
        let changes = rows.iter().filter(|row| !is_held(row)).map(|row| {
            let then = Some(terms.take(row));
            Change { seen: Some(row.clone()), then }
        });
        let (mut changed, mut failure) = (0, None);
        for (change, written) in write_all(store, changes.collect()).await {
            let (Some(seen), Some(then)) = (change.seen, change.then) else { continue };
            let rival = terms.rival(&seen);
            match written {
                Ok(Written::Done) => {
                    self.taken = self.taken.saturating_add(1);
                    self.taken_from.extend(rival);
                    standing.renewed(&then.key, began);
                    self.held.insert(then.key.clone(), then);
                }
                Ok(Written::Refused(row)) => {
                    changed += 1;
                    refuse_a_race(&seen, row.as_deref(), terms, store.describe())?;
                }
                Err(error) => {
                    // It may have been done all the same; the next round would see a lease of our own.
                    self.taken_from.extend(rival);
                    failure = Some(error);
                }
            }
        }
        Ok(failure.map_or(Ok(changed), Err))
    }
}

/// Of two copies that start at the same time one has to go: the one that finds itself too late. An owner that has just
/// renewed is no such copy, nor is an earlier run.
fn refuse_a_race(seen: &Lease, row: Option<&Lease>, terms: &Terms, table: &str) -> Result<()> {
    let now = row.and_then(Lease::reader);
    match now.filter(|owner| now != seen.reader() && !terms.is_free(Some(owner))) {
        Some(owner) => {
            let key = &seen.key;
            Err(Error::source(format!("could not take lease \"{key}\" of {table}: \"{owner}\" is taking it")))
        }
        None => Ok(()),
    }
}

/// A table for several streams has other keys, and leases that are not this job's to take.
pub(super) fn refuse_several_streams(rows: &[Lease], table: &str) -> Result<()> {
    let of_stream = rows.iter().find_map(|row| Some((row, row.stream.as_deref()?)));
    of_stream.map_or(Ok(()), |(row, stream)| {
        let key = &row.key;
        Err(Error::config(format!(
            "could not use {table}: its row \"{key}\" is of stream \"{stream}\" among several, and only tables of a single \
             stream are understood"
        )))
    })
}
