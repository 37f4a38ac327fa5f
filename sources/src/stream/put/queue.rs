//! The records that wait to be sent, and which of them may go together. Pure: time and chance are handed in.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use shardflow::retry::Backoff;
use shardflow_aws::failure::{Failure, Remedy};

use super::PutRecord;

/// What one PutRecords call takes.
const CALL_RECORDS: usize = 500;
const CALL_BYTES: usize = 10 << 20;

/// What may wait. More than a few calls' worth only helps to find distinct keys where order is kept.
const ROOM_RECORDS: usize = 5_000;
const ROOM_BYTES: usize = 4 * CALL_BYTES;

/// A record that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) record: PutRecord,
    /// An answer about it was lost: it may be in the stream already.
    pub(super) may_be_there: bool,
    /// Its refusals so far. Most records have none.
    backoff: Option<Box<Backoff>>,
    not_before: Option<Instant>,
}

/// Waiting for it is of no use.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hopeless;

impl Waiting {
    fn new(record: PutRecord) -> Self {
        Self { record, may_be_there: false, backoff: None, not_before: None }
    }

    /// It was not taken at `now`, or the answer was lost. Sets when it may go again, unless it never may: the failure cannot
    /// pass, or has not passed for `patience`.
    pub(super) fn failed(
        &mut self,
        failure: &Failure,
        now: Instant,
        dice: f64,
        patience: Duration,
    ) -> Result<(), Hopeless> {
        let Remedy::Retry(failed) = failure.remedy else { return Err(Hopeless) };
        let backoff = self.backoff.get_or_insert_with(|| Box::new(Backoff::new(patience)));
        let wait = backoff.failed(failed, now, dice).ok_or(Hopeless)?;
        self.not_before = Some(now + wait);
        Ok(())
    }

    fn may_go(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }
}

/// The records that wait, in the order they came in.
#[derive(Debug)]
pub(super) struct Queue {
    ordered: bool,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// Where order is kept: the keys of records under way.
    under_way: HashSet<String>,
}

impl Queue {
    /// `ordered`: no record goes before the last one of its partition key has been taken.
    pub(super) fn new(ordered: bool) -> Self {
        Self { ordered, waiting: VecDeque::new(), bytes: 0, under_way: HashSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < ROOM_RECORDS && self.bytes < ROOM_BYTES
    }

    pub(super) fn add(&mut self, records: Vec<PutRecord>) {
        self.bytes += records.iter().map(PutRecord::bytes).sum::<usize>();
        self.waiting.extend(records.into_iter().map(Waiting::new));
    }

    /// The records of the next call at `now`, `most` at most; none where none may go yet.
    pub(super) fn take(&mut self, now: Instant, most: usize) -> Vec<Waiting> {
        let most = most.min(CALL_RECORDS);
        let (mut taken, mut left, mut bytes) = (Vec::new(), VecDeque::with_capacity(self.waiting.len()), 0);
        // Where order is kept: the keys of records that were passed over. What follows of these has to wait too.
        let mut passed_over: HashSet<String> = HashSet::new();
        while let Some(waiting) = self.waiting.pop_front() {
            let weight = waiting.record.bytes();
            let fits = taken.len() < most && (taken.is_empty() || bytes + weight <= CALL_BYTES);
            if taken.len() >= most {
                // The call is full: the rest need not be looked at one by one.
                left.push_back(waiting);
                left.append(&mut self.waiting);
                break;
            }
            let key = waiting.record.partition_key();
            let is_free = !self.ordered || !(self.under_way.contains(key) || passed_over.contains(key));
            if fits && is_free && waiting.may_go(now) {
                if self.ordered {
                    self.under_way.insert(key.to_owned());
                }
                bytes += weight;
                taken.push(waiting);
            } else {
                if self.ordered {
                    passed_over.insert(key.to_owned());
                }
                left.push_back(waiting);
            }
        }
        self.waiting = left;
        self.bytes -= bytes;
        taken
    }

    /// When the first of the waiting records may go that only waits for its time.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        self.waiting.iter().filter_map(|waiting| waiting.not_before).min()
    }

    /// There is an answer about these records; `again` are those of them that have to wait once more. They go to the front,
    /// where they came from.
    pub(super) fn answered<'a>(&mut self, keys: impl Iterator<Item = &'a str>, again: Vec<Waiting>) {
        for key in keys {
            self.under_way.remove(key);
        }
        for waiting in again.into_iter().rev() {
            self.bytes += waiting.record.bytes();
            self.waiting.push_front(waiting);
        }
    }

    /// All that still wait.
    pub(super) fn into_rest(self) -> Vec<Waiting> {
        self.waiting.into()
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
