//! What became of the records. Pure.

use std::fmt;
use std::time::Duration;

use shardflow::Error;

use super::PutRecord;
use super::queue::Waiting;

/// How far a put is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Records that the service took.
    pub put: u64,
    /// Their bytes, with partition keys.
    pub bytes: u64,
    /// How often a record was refused or its answer lost, and it was to be sent again.
    pub sent_again: u64,
    /// Of the records put, those that may be in the stream more than once: an answer about them was lost.
    pub maybe_twice: u64,
}

impl Tally {
    pub(super) fn add(&mut self, record: &PutRecord, may_have_been_there: bool) {
        self.put += 1;
        self.bytes += record.bytes() as u64;
        self.maybe_twice += u64::from(may_have_been_there);
    }
}

/// The account of a put.
#[derive(Debug)]
pub struct Finished {
    /// What was put.
    pub tally: Tally,
    /// The ids of records that came and are certainly not in the stream, in ascending order.
    pub not_put: Vec<u64>,
    /// The ids of records that may be in the stream or not: the answer about them was lost, and the put ended before they
    /// could be sent again.
    pub unknown: Vec<u64>,
    /// Why it ended early; `None` where all records that came were put.
    pub failure: Option<Error>,
    /// How long it took.
    pub took: Duration,
}

impl Finished {
    pub(super) fn new(tally: Tally, rest: Vec<Waiting>, failure: Option<Error>, took: Duration) -> Self {
        let (unknown, not_put): (Vec<_>, Vec<_>) = rest.into_iter().partition(|waiting| waiting.may_be_there);
        let ids = |rest: Vec<Waiting>| {
            let mut ids: Vec<u64> = rest.iter().map(|waiting| waiting.record.id()).collect();
            ids.sort_unstable();
            ids
        };
        let (not_put, unknown) = (ids(not_put), ids(unknown));
        let failure = failure.map(|error| if unknown.is_empty() { error } else { error.indeterminate() });
        Self { tally, not_put, unknown, failure, took }
    }
}

impl fmt::Display for Finished {
    /// `put 1000 records (52000 bytes) in 1.2 s, 833 a second; 3 sent again`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { put, bytes, sent_again, maybe_twice } = self.tally;
        let seconds = self.took.as_secs_f64();
        let rate = put as f64 / seconds.max(0.001);
        write!(f, "put {put} records ({bytes} bytes) in {seconds:.1} s, {rate:.0} a second")?;
        if sent_again > 0 {
            write!(f, "; {sent_again} sent again")?;
        }
        if maybe_twice > 0 {
            write!(f, "; {maybe_twice} may be there twice, because answers were lost")?;
        }
        if !self.not_put.is_empty() {
            write!(f, "; {} NOT put", self.not_put.len())?;
        }
        if !self.unknown.is_empty() {
            write!(f, "; {} may have been put or not, because answers were lost", self.unknown.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(tally: Tally, not_put: Vec<u64>, unknown: Vec<u64>) -> String {
        Finished { tally, not_put, unknown, failure: None, took: Duration::from_millis(2_500) }.to_string()
    }

    #[test]
    fn the_summary_says_what_was_put_and_nothing_more_where_nothing_went_wrong() {
        let tally = Tally { put: 1_000, bytes: 52_000, ..Tally::default() };
        assert_eq!(finished(tally, vec![], vec![]), "put 1000 records (52000 bytes) in 2.5 s, 400 a second");
    }

    #[test]
    fn the_summary_counts_everything_that_is_not_as_it_should_be() {
        let tally = Tally { put: 10, bytes: 50, sent_again: 4, maybe_twice: 3 };
        assert_eq!(
            finished(tally, vec![7, 9], vec![8]),
            "put 10 records (50 bytes) in 2.5 s, 4 a second; 4 sent again; 3 may be there twice, because answers were lost; \
             2 NOT put; 1 may have been put or not, because answers were lost"
        );
    }
}
