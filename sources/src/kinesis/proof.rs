//! Whether the records after a stored position are still kept. Pure.
//!
//! Asked for what comes after a record that retention has passed, Kinesis gives the oldest that it still has, without a
//! word. So a start that goes on after a stored record asks for that record itself first: if it comes, nothing is
//! missing, and it is skipped; if a later one comes in its place, what lay between may be lost.

use std::cmp::Ordering;

use super::client::{Fetched, Record};

/// The last committed record of a shard, which is to be seen once more.
#[derive(Debug)]
pub(super) struct Proof {
    sequence: String,
}

/// What an answer proves.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// How many of the first records were read before the stored position.
    pub(super) known: usize,
    /// What is decided; `None`: the next answer may tell.
    pub(super) decided: Option<Kept>,
}

/// Whether the records after the position are kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// They are, or there are none.
    Yes,
    /// The stored record is gone, and others after it may be. When the first that is left arrived, in milliseconds since
    /// 1970.
    NotAll { first_arrived: Option<i64> },
}

impl Proof {
    /// For a start after the record of this number.
    pub(super) fn after(sequence: &str) -> Self {
        Self { sequence: sequence.to_owned() }
    }

    /// The number of the record to ask for.
    pub(super) fn sequence(&self) -> &str {
        &self.sequence
    }

    /// Looks at an answer that was asked for from the stored record on.
    pub(super) fn judge(&self, fetched: &Fetched) -> Verdict {
        let is_known = |record: &&Record| compare(&record.sequence, &self.sequence) != Ordering::Greater;
        let known = fetched.records.iter().take_while(is_known).count();
        let found = known.checked_sub(1).and_then(|last| fetched.records.get(last));
        let next = fetched.records.get(known);
        let decided = match (found, next) {
            (Some(found), _) if found.sequence == self.sequence => Some(Kept::Yes),
            (_, Some(next)) => Some(Kept::NotAll { first_arrived: next.arrived }),
            // Nothing lies between the position and the end: what comes from now on is new.
            (None, None) if fetched.is_the_end_for_now() => Some(Kept::Yes),
            _ => None,
        };
        Verdict { known, decided }
    }
}

/// Compares two decimal numbers of any length.
fn compare(left: &str, right: &str) -> Ordering {
    let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(sequences: &[&str], millis_behind: u64) -> Verdict {
        let record = |sequence: &&str| Record { sequence: (*sequence).to_owned(), data: Vec::new(), arrived: Some(7) };
        let records = sequences.iter().map(record).collect();
        Proof::after("99").judge(&Fetched { records, millis_behind: Some(millis_behind), ..Fetched::default() })
    }

    #[test]
    fn the_stored_record_proves_that_nothing_after_it_is_missing() {
        assert_eq!(judge(&["99", "100"], 0), Verdict { known: 1, decided: Some(Kept::Yes) });
        assert_eq!(judge(&["099"], 5), Verdict { known: 1, decided: None }, "not as it is written");
        assert_eq!(judge(&["98", "99"], 5), Verdict { known: 2, decided: Some(Kept::Yes) });
    }

    #[test]
    fn a_later_record_in_its_place_shows_that_some_may_be_missing() {
        let expired = Some(Kept::NotAll { first_arrived: Some(7) });
        assert_eq!(judge(&["100", "101"], 5), Verdict { known: 0, decided: expired });
    }

    #[test]
    fn empty_pages_prove_nothing_before_the_end() {
        assert_eq!(judge(&[], 5), Verdict { known: 0, decided: None });
        assert_eq!(judge(&[], 0), Verdict { known: 0, decided: Some(Kept::Yes) });
        assert_eq!(judge(&["98"], 5), Verdict { known: 1, decided: None });
    }
}
