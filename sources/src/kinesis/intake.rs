//! What a shard's answers mean for the place that is read from: which records are new, what may have expired. Pure.
//!
//! Asked for what comes after a record that retention has passed, Kinesis gives the oldest that it still has, without a
//! word. So a start that goes on after a record asks for that record itself first: if it comes, nothing is missing, and it
//! is skipped; if a later one comes in its place, or nothing at all, what came after it may be lost, unless the shard was
//! found read to its end at a time whose records are all still kept.
//!
//! An answer that is delivered twice, by whatever lies between the service and us, is found out by its sequence numbers,
//! which only grow in a shard.

use std::cmp::Ordering;
use std::time::Duration;

use super::client::{Fetched, ReadFrom, Record};
use super::position::{Sequence, ShardPosition, Standpoint, compare};

/// After how many answers in a row an open shard is believed that it has neither the stored record nor any after it.
const BLANKS: u32 = 3;

/// How often to note that a shard is read to its end.
const NOTE_EVERY: Duration = Duration::from_secs(600);

/// By how much this machine's clock and the service's may differ in judging what is still kept.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

/// By how much a record may seem to have arrived before the time it was asked for, in milliseconds: arrival times are
/// approximate.
const ARRIVAL_SLACK: i64 = 1_000;

/// Where a shard is read, and what is still to be learned about that place.
#[derive(Debug)]
pub(super) struct Intake {
    position: ShardPosition,
    empty_at: Option<u64>,
    /// Whether it is still open if records after the stored position have expired.
    unproven: bool,
    /// How many answers in a row have said that there is neither the stored record nor any after it.
    blank: u32,
    /// When the last note was written, or this reader began, in milliseconds since 1970.
    noted: u64,
}

/// What an answer holds that is new.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct New {
    pub(super) records: Vec<Record>,
    /// How many records were dropped because they had been read before, not counting the stored one that was asked for.
    pub(super) repeated: usize,
    /// Records after the stored position may be lost.
    pub(super) gap: Option<Gap>,
}

/// The records between a stored position and the first that is left may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    /// When the first that is left arrived, in milliseconds since 1970, where that is known.
    pub(super) first_arrived: Option<i64>,
}

impl Intake {
    /// Begins at `standpoint`. `resumed`: an earlier run has stored it.
    pub(super) fn new(standpoint: Standpoint, now: u64, resumed: bool) -> Self {
        let Standpoint { at, empty_at } = standpoint;
        // What comes after a record is to be proven whoever has read it: this job, or another that it takes over from.
        let unproven = match at {
            ShardPosition::TrimHorizon => false,
            ShardPosition::Time(_) => resumed,
            ShardPosition::After(_) => true,
        };
        Self { position: at, empty_at, unproven, blank: 0, noted: now }
    }

    /// After the last record that was handed over.
    pub(super) fn position(&self) -> &ShardPosition {
        &self.position
    }

    /// Takes in that all up to `position` was handed over.
    pub(super) fn advance(&mut self, position: ShardPosition) {
        (self.position, self.empty_at) = (position, None);
    }

    /// Where to ask for records.
    pub(super) fn read_from(&self) -> ReadFrom {
        match &self.position {
            ShardPosition::TrimHorizon => ReadFrom::TrimHorizon,
            ShardPosition::Time(millis) => ReadFrom::Time(*millis),
            ShardPosition::After(Sequence { number, sub }) if self.unproven || sub.is_some() => {
                ReadFrom::At(number.clone())
            }
            ShardPosition::After(Sequence { number, .. }) => ReadFrom::After(number.clone()),
        }
    }

    /// Takes the records of an answer. `kept_since`: what arrived from then on is still kept, in milliseconds since 1970.
    pub(super) fn take(&mut self, answer: &mut Fetched, kept_since: u64) -> New {
        let records = std::mem::take(&mut answer.records);
        match &self.position {
            ShardPosition::TrimHorizon => New::all(records),
            ShardPosition::Time(millis) => {
                let millis = *millis;
                let mut new = New::all(after_start(records, millis));
                let was_known_empty_at = self.empty_at.unwrap_or(millis);
                if std::mem::replace(&mut self.unproven, false) && was_known_empty_at < kept_since {
                    new.gap = Some(Gap { first_arrived: new.records.first().and_then(|record| record.arrived) });
                }
                new
            }
            ShardPosition::After(sequence) => {
                let sequence = sequence.clone();
                let (behind, is_last) = (answer.millis_behind, answer.is_the_end());
                self.take_after(records, &sequence, (behind, is_last), kept_since)
            }
        }
    }

    fn take_after(
        &mut self,
        mut records: Vec<Record>,
        at: &Sequence,
        (behind, is_last): (Option<u64>, bool),
        kept_since: u64,
    ) -> New {
        let is_known = |record: &&Record| compare(&record.sequence, &at.number) != Ordering::Greater;
        let known = records.iter().take_while(is_known).count();
        let found = known.checked_sub(1).and_then(|last| records.get(last)).is_some_and(|r| r.sequence == at.number);
        let first_left = records.get(known).map(|record| Gap { first_arrived: record.arrived });
        let mut gap = None;
        if self.unproven {
            let is_blank = records.is_empty() && behind.unwrap_or(0) == 0;
            self.blank = if is_blank { self.blank + 1 } else { 0 };
            let nothing_is_left = self.blank >= BLANKS || (is_blank && is_last);
            self.unproven = !(found || first_left.is_some() || nothing_is_left);
            let was_empty = self.empty_at.is_some_and(|millis| millis >= kept_since);
            // Where the stored record is gone and nothing is left, nobody can tell whether anything came after it; but
            // where it was quiet at a time that is still kept, nothing did.
            let left = first_left.or(nothing_is_left.then_some(Gap { first_arrived: None }));
            gap = left.filter(|_| !found && !was_empty);
        }
        // An aggregate that was read in part, or whole, is looked into again.
        let reopened = usize::from(found && at.sub.is_some());
        let repeated = known - usize::from(found);
        records.drain(..known - reopened);
        New { records, repeated, gap }
    }

    /// The shard was read to its end at `now`. Gives what to store of that, where the last note is old.
    pub(super) fn note_empty(&mut self, now: u64) -> Option<Standpoint> {
        let due = now.saturating_sub(self.noted) >= millis(NOTE_EVERY);
        due.then(|| {
            (self.noted, self.empty_at) = (now, Some(now));
            Standpoint { at: self.position.clone(), empty_at: self.empty_at }
        })
    }
}

impl New {
    fn all(records: Vec<Record>) -> Self {
        Self { records, repeated: 0, gap: None }
    }
}

/// From when on records are still kept at `now`, of a stream that keeps them for `retention`.
pub(super) fn kept_since(now: u64, retention: Duration) -> u64 {
    now.saturating_sub(millis(retention)).saturating_add(millis(CLOCK_SLACK))
}

/// Drops the first records where they are older than the start time that was asked for.
///
/// Amazon gives none. Stand-ins give the whole shard where nothing is as young as the time: without this, starting at
/// "latest" there would read everything.
fn after_start(mut records: Vec<Record>, start: u64) -> Vec<Record> {
    let earliest = i64::try_from(start).unwrap_or(i64::MAX).saturating_sub(ARRIVAL_SLACK);
    let early = records.iter().take_while(|record| record.arrived.is_some_and(|arrived| arrived < earliest)).count();
    records.drain(..early);
    records
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000_000;

    fn record(sequence: &str, arrived: i64) -> Record {
        Record { sequence: sequence.to_owned(), data: Vec::new(), arrived: Some(arrived), partition_key: None }
    }

    fn fetched(sequences: &[&str], behind: u64) -> Fetched {
        let records = sequences.iter().map(|sequence| record(sequence, 7)).collect();
        Fetched { records, millis_behind: Some(behind), next: Some("next".to_owned()), ..Fetched::default() }
    }

    fn resumed(standpoint: &str) -> Intake {
        Intake::new(Standpoint::parse(standpoint).unwrap(), NOW, true)
    }

    /// The sequence numbers that are new, how many were not, and whether there is a gap.
    fn take(intake: &mut Intake, sequences: &[&str], behind: u64) -> (Vec<String>, usize, bool) {
        let New { records, repeated, gap } = intake.take(&mut fetched(sequences, behind), NOW - 1_000);
        (records.into_iter().map(|record| record.sequence).collect(), repeated, gap.is_some())
    }

    fn new(sequences: &[&str]) -> (Vec<String>, usize, bool) {
        (sequences.iter().map(ToString::to_string).collect(), 0, false)
    }

    #[test]
    fn the_stored_record_proves_that_nothing_after_it_is_missing() {
        let mut intake = resumed("after:99");
        assert_eq!(intake.read_from(), ReadFrom::At("99".to_owned()));
        assert_eq!(take(&mut intake, &["99", "100"], 0), new(&["100"]));
        assert_eq!(intake.read_from(), ReadFrom::After("99".to_owned()), "the position moves with what is handed over");
    }

    #[test]
    fn a_later_record_in_its_place_shows_that_some_may_be_missing() {
        let mut intake = resumed("after:99");
        let answer = intake.take(&mut fetched(&["100", "101"], 5), NOW);
        assert_eq!((answer.records.len(), answer.gap), (2, Some(Gap { first_arrived: Some(7) })));
        assert_eq!(take(&mut intake, &["102"], 5), new(&["102"]), "told once");
    }

    #[test]
    fn a_shard_that_was_found_empty_at_a_time_that_is_kept_has_no_gap() {
        let kept = format!("after:99;empty:{}", NOW - 1_000);
        assert_eq!(take(&mut resumed(&kept), &["100"], 5), new(&["100"]));
        let not_kept = format!("after:99;empty:{}", NOW - 1_001);
        assert!(take(&mut resumed(&not_kept), &["100"], 5).2);
    }

    #[test]
    fn empty_pages_prove_nothing_before_the_end() {
        let mut intake = resumed("after:99");
        for sequences in [&[] as &[&str], &["98"]] {
            take(&mut intake, sequences, 5);
            assert_eq!(intake.read_from(), ReadFrom::At("99".to_owned()));
        }
        assert_eq!(take(&mut intake, &[], 0), new(&[]));
        assert_eq!(take(&mut intake, &["99", "100"], 0), new(&["100"]), "the answer before it lagged");
    }

    #[test]
    fn where_the_stored_record_and_all_after_it_are_gone_some_may_be_missing() {
        let mut intake = resumed("after:99");
        let told: Vec<bool> = (0..5).map(|_| take(&mut intake, &[], 0).2).collect();
        assert_eq!(told, [false, false, true, false, false]);
        let quiet = format!("after:99;empty:{}", NOW - 10);
        let mut intake = resumed(&quiet);
        assert!((0..5).all(|_| !take(&mut intake, &[], 0).2), "it was known to be quiet");
        let end = Fetched { millis_behind: Some(0), ..Fetched::default() };
        assert!(resumed("after:99").take(&mut end.clone(), NOW).gap.is_some(), "a closed shard says so once");
    }

    #[test]
    fn a_first_start_after_what_another_program_has_read_is_proven_too() {
        let mut intake = Intake::new(Standpoint::parse("after:99").unwrap(), NOW, false);
        assert_eq!(intake.read_from(), ReadFrom::At("99".to_owned()));
        assert!(take(&mut intake, &["101"], 5).2);
    }

    #[test]
    fn a_start_time_that_is_no_longer_kept_is_a_gap_where_an_earlier_run_stored_it() {
        assert!(!take(&mut resumed(&format!("at:{}", NOW - 1_000)), &[], 0).2);
        assert!(take(&mut resumed("at:5"), &["1"], 0).2);
        assert!(!take(&mut resumed(&format!("at:5;empty:{}", NOW - 10)), &["1"], 0).2);
        let mut first = Intake::new(Standpoint::parse("at:5").unwrap(), NOW, false);
        assert!(!take(&mut first, &["1"], 0).2, "the user asked for it");
    }

    #[test]
    fn an_answer_that_comes_twice_is_taken_once() {
        let mut intake = Intake::new(Standpoint::new(ShardPosition::TrimHorizon), NOW, false);
        assert_eq!(take(&mut intake, &["8", "9"], 5), new(&["8", "9"]));
        intake.advance(ShardPosition::After(Sequence::of("9")));
        assert_eq!(take(&mut intake, &["8", "9"], 5), (Vec::new(), 1, false));
        assert_eq!(take(&mut intake, &["10"], 5), new(&["10"]));
    }

    #[test]
    fn an_aggregate_that_was_read_in_part_is_asked_for_and_looked_into_again() {
        let mut intake = resumed("after:99:4");
        assert_eq!(take(&mut intake, &["99", "100"], 5), new(&["99", "100"]));
        // Also long after the start, where its iterator has expired.
        intake.advance(ShardPosition::After(Sequence { number: "100".to_owned(), sub: Some(0) }));
        assert_eq!(intake.read_from(), ReadFrom::At("100".to_owned()));
        assert_eq!(take(&mut intake, &["100", "101"], 5), new(&["100", "101"]));
    }

    #[test]
    fn leading_records_from_before_the_start_time_are_dropped_and_later_ones_kept() {
        let records = vec![record("1", 5_000), record("2", 9_500), record("3", 5_000)];
        let numbers: Vec<_> = after_start(records, 10_000).into_iter().map(|record| record.sequence).collect();
        assert_eq!(numbers, ["2", "3"]);
        assert!(after_start(vec![record("1", 1)], 10_000).is_empty());
    }

    #[test]
    fn a_quiet_shard_is_noted_every_ten_minutes_and_not_before() {
        let mut intake = resumed("after:99");
        assert_eq!(intake.note_empty(NOW + 599_999), None);
        let note = intake.note_empty(NOW + 600_000).unwrap();
        assert_eq!(note.to_string(), format!("after:99;empty:{}", NOW + 600_000));
        assert_eq!(intake.note_empty(NOW + 600_001), None);
        assert_eq!(kept_since(NOW, Duration::from_millis(10_000)), NOW - 10_000 + 60_000);
    }
}
