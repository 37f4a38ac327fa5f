//! Whether the job may commit: a function of when each lease was last renewed, and of the time. Pure.
//!
//! Others take a lease as expired when its counter has not moved for the failover time, by their own clocks. The counter
//! moved after our call began, so a lease counts from there, by ours: we stop before anyone else begins.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use shardflow::Error;

/// Where the job stands with its leases. Kept by the task that renews them, looked at before each commit.
#[derive(Debug)]
pub(super) struct Standing {
    /// `lease table "usage" at http://…`
    table: String,
    failover_time: Duration,
    /// When the last successful renewal of each lease began.
    renewed: BTreeMap<String, Instant>,
    /// From when on nobody from whom a lease was taken can believe that it still has it.
    alone_from: Instant,
    /// From whom leases were taken that may be alive.
    taken_from: BTreeSet<String>,
    /// Why the job may not commit any more. Never unset.
    over: Option<Over>,
    /// The last call that failed, to be told where leases expire.
    trouble: Option<String>,
}

/// Why a job has no right to its leases any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Over {
    /// Somebody has taken a lease; `None`: its row was deleted, or its owner removed.
    Taken { key: String, by: Option<String> },
    /// A lease could not be renewed in time.
    Expired { key: String, trouble: Option<String> },
    /// The table refuses what keeping leases needs.
    Refused(String),
}

/// What may be done now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Commit.
    May,
    /// Wait: for so long another owner may believe that it has the leases.
    NotYet(Duration),
    /// Stop.
    Never(Over),
}

impl Standing {
    pub(super) fn new(table: &str, failover_time: Duration, now: Instant) -> Self {
        let (renewed, taken_from) = (BTreeMap::new(), BTreeSet::new());
        let table = table.to_owned();
        Self { table, failover_time, renewed, alone_from: now, taken_from, over: None, trouble: None }
    }

    /// Leases were taken by `now` from owners that may be alive. None of them has renewed after that.
    pub(super) fn taken_from(&mut self, owners: BTreeSet<String>, now: Instant) {
        if !owners.is_empty() {
            self.alone_from = now + self.failover_time;
            self.taken_from.extend(owners);
        }
    }

    /// A lease was taken, renewed or written to by a call that began at `began`.
    pub(super) fn renewed(&mut self, key: &str, began: Instant) {
        self.renewed.insert(key.to_owned(), began);
        self.trouble = None;
    }

    /// A lease was given up, or deleted.
    pub(super) fn gone(&mut self, key: &str) {
        self.renewed.remove(key);
    }

    /// A call failed that will be made again.
    pub(super) fn failed(&mut self, text: String) {
        self.trouble = Some(text);
    }

    /// The right to commit is lost. The first reason stays.
    pub(super) fn lost(&mut self, over: Over) {
        self.over.get_or_insert(over);
    }

    /// Whether by `now` nobody else can believe that it has a lease.
    pub(super) fn is_alone(&self, now: Instant) -> bool {
        self.alone_from <= now
    }

    /// When the last renewal of a lease began.
    pub(super) fn renewal_of(&self, key: &str) -> Option<Instant> {
        self.renewed.get(key).copied()
    }

    /// When the last renewal began of the lease that waits longest for the next.
    pub(super) fn oldest(&self) -> Option<(&str, Instant)> {
        self.renewed.iter().min_by_key(|(_, began)| **began).map(|(key, began)| (key.as_str(), *began))
    }

    /// What may be done at `now`.
    pub(super) fn verdict(&self, now: Instant) -> Verdict {
        if let Some(over) = &self.over {
            return Verdict::Never(over.clone());
        }
        let expired = self.oldest().filter(|(_, began)| now.saturating_duration_since(*began) >= self.failover_time);
        if let Some((key, _)) = expired {
            return Verdict::Never(Over::Expired { key: key.to_owned(), trouble: self.trouble.clone() });
        }
        match self.alone_from.saturating_duration_since(now) {
            Duration::ZERO => Verdict::May,
            wait => Verdict::NotYet(wait),
        }
    }

    /// The error for a job that wants to commit and may not.
    pub(super) fn error(&self, verdict: &Verdict) -> Option<Error> {
        match verdict {
            Verdict::May => None,
            Verdict::NotYet(wait) => Some(Error::source(format!(
                "could not commit under the leases of {}: for {wait:?} more they may still be used by {}",
                self.table,
                quoted(&self.taken_from)
            ))),
            Verdict::Never(over) => Some(self.over_error(over)),
        }
    }

    fn over_error(&self, over: &Over) -> Error {
        let table = &self.table;
        match over {
            Over::Taken { key, by: Some(by) } => {
                Error::source(format!("could not keep lease \"{key}\" of {table}: it was taken by \"{by}\""))
            }
            Over::Taken { key, by: None } => {
                Error::source(format!("could not keep lease \"{key}\" of {table}: somebody has deleted or freed it"))
            }
            Over::Expired { key, trouble } => {
                let time = self.failover_time;
                let error = Error::source(format!(
                    "could not keep lease \"{key}\" of {table}: it could not be renewed for {time:?}, so others may have it"
                ));
                match trouble {
                    Some(trouble) => error.caused_by(trouble.clone()),
                    None => error,
                }
            }
            Over::Refused(text) => {
                Error::source(format!("could not keep the leases of {table}")).caused_by(text.clone())
            }
        }
    }
}

/// `"a", "b" and 3 more`: of a fleet of hundreds a few will do.
pub(super) fn quoted<T: fmt::Display>(names: &BTreeSet<T>) -> String {
    const MOST: usize = 10;
    let named: Vec<String> = names.iter().take(MOST).map(|name| format!("\"{name}\"")).collect();
    match names.len().saturating_sub(MOST) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILOVER: Duration = Duration::from_secs(10);

    fn standing(now: Instant) -> Standing {
        let mut standing = Standing::new("lease table \"usage\"", FAILOVER, now);
        standing.renewed("a", now);
        standing.renewed("b", now);
        standing
    }

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    fn text(standing: &Standing, now: Instant) -> String {
        standing.error(&standing.verdict(now)).map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_job_may_commit_until_its_oldest_renewal_began_a_failover_time_ago() {
        let start = Instant::now();
        let mut standing = standing(start);
        standing.renewed("a", at(start, 5_000));
        assert_eq!(standing.verdict(at(start, 9_999)), Verdict::May);
        standing.failed("connection refused".to_owned());
        assert_eq!(
            text(&standing, at(start, 10_000)),
            "could not keep lease \"b\" of lease table \"usage\": it could not be renewed for 10s, so others may have it: \
             connection refused"
        );
        standing.renewed("b", at(start, 9_000));
        assert_eq!(standing.verdict(at(start, 14_999)), Verdict::May);
    }

    #[test]
    fn after_taking_from_others_a_job_waits_for_as_long_as_they_may_go_on() {
        let start = Instant::now();
        let mut standing = standing(start);
        standing.taken_from(BTreeSet::from(["worker-1".to_owned(), "worker-2".to_owned()]), at(start, 100));
        standing.renewed("a", at(start, 9_000));
        standing.renewed("b", at(start, 9_000));
        assert_eq!(standing.verdict(at(start, 10_000)), Verdict::NotYet(Duration::from_millis(100)));
        assert!(text(&standing, at(start, 10_000)).ends_with("they may still be used by \"worker-1\", \"worker-2\""));
        assert_eq!(standing.verdict(at(start, 10_100)), Verdict::May);
    }

    #[test]
    fn a_lease_that_was_taken_is_named_with_its_new_owner_for_good() {
        let start = Instant::now();
        let mut standing = standing(start);
        standing.lost(Over::Taken { key: "a".to_owned(), by: Some("worker-1".to_owned()) });
        standing.lost(Over::Refused("no".to_owned()));
        standing.renewed("a", start);
        assert_eq!(
            text(&standing, start),
            "could not keep lease \"a\" of lease table \"usage\": it was taken by \"worker-1\""
        );
    }

    #[test]
    fn many_owners_are_counted_and_a_few_named() {
        let owners: BTreeSet<u32> = (10..25).collect();
        assert!(quoted(&owners).ends_with("\"19\" and 5 more"));
    }
}
