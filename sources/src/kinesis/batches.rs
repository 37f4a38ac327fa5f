//! Opens the records of one answer and cuts them into batches of a size that the engine likes. Pure.

use std::vec;

use shardflow::source::{RawBatch, RecordMeta};
use shardflow::vocabulary::EventTime;

use super::client::Record;
use super::position::{Sequence, ShardPosition, Standpoint};
use crate::kpl::{self, NotAggregate, UserRecord};

/// The most records in a batch.
const BATCH_RECORDS: usize = 1_000;

/// A batch is full when it holds so many bytes; one record alone may be larger.
const BATCH_BYTES: usize = 1 << 20;

/// One record for the engine: a stream record, or a user record out of one.
struct Piece {
    sequence: Sequence,
    data: Vec<u8>,
    meta: RecordMeta,
}

/// What was met while opening, to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Opened {
    /// Aggregates.
    pub(crate) aggregates: u64,
    /// Records that begin as an aggregate and are none: they are delivered as they are.
    pub(crate) malformed: u64,
}

/// Gives the records of one answer as batches, each with the position after it. Aggregates are opened one by one, as the
/// batches are taken, so that no more of them lies in memory than what was fetched and one of them opened.
pub(crate) struct Batches {
    records: vec::IntoIter<Record>,
    /// The rest of the aggregate that was opened last.
    pieces: vec::IntoIter<Piece>,
    next: Option<Piece>,
    /// The record that was handed over last, where it may be a part of the first aggregate.
    done: Option<Sequence>,
    opened: Opened,
}

impl Batches {
    /// The batches of `records`, all of which come after `position` but for the sub-records of an aggregate that it stands in.
    pub(crate) fn new(records: Vec<Record>, position: &ShardPosition) -> Self {
        let done = match position {
            ShardPosition::After(sequence) => Some(sequence.clone()),
            ShardPosition::TrimHorizon | ShardPosition::Time(_) => None,
        };
        let (records, pieces) = (records.into_iter(), Vec::new().into_iter());
        let mut batches = Self { records, pieces, next: None, done, opened: Opened::default() };
        batches.next = batches.piece();
        batches
    }

    /// What was opened so far.
    pub(crate) fn opened(&self) -> Opened {
        self.opened
    }

    fn piece(&mut self) -> Option<Piece> {
        loop {
            if let Some(piece) = self.pieces.next() {
                return Some(piece);
            }
            let record = self.records.next()?;
            if let Some(piece) = self.open(record) {
                return Some(piece);
            }
        }
    }

    /// The record, where it is a plain one that is new; the pieces of an aggregate are laid by.
    fn open(&mut self, record: Record) -> Option<Piece> {
        let arrived = record.arrived.map(|millis| EventTime::from_millis(u64::try_from(millis).unwrap_or(0)));
        let done = self.done.take().filter(|done| done.number == record.sequence);
        match kpl::open(&record.data) {
            Ok(aggregate) => {
                self.opened.aggregates += 1;
                let skipped = done.map_or(0, |done| done.sub.map_or(u64::MAX, |sub| sub.saturating_add(1)));
                let pieces = (0u64..).zip(aggregate.records).filter(|(sub, _)| *sub >= skipped);
                let piece = |(sub, user)| Piece::of_user(&record.sequence, sub, user, arrived);
                self.pieces = pieces.map(piece).collect::<Vec<_>>().into_iter();
                None
            }
            // Read before, by a program that writes a sub-sequence number of 0 behind every plain record.
            Err(_) if done.is_some() => None,
            Err(not) => {
                self.opened.malformed += u64::from(not != NotAggregate::Plain);
                let partition_key = record.partition_key;
                let meta = RecordMeta { partition_key, arrived, ..RecordMeta::default() };
                Some(Piece { sequence: Sequence::of(record.sequence), data: record.data, meta })
            }
        }
    }
}

impl Piece {
    fn of_user(number: &str, sub: u64, user: UserRecord, arrived: Option<EventTime>) -> Self {
        let UserRecord { partition_key, explicit_hash_key, data, tags } = user;
        let meta = RecordMeta { partition_key: Some(partition_key), explicit_hash_key, arrived, tags };
        Self { sequence: Sequence { number: number.to_owned(), sub: Some(sub) }, data, meta }
    }
}

impl Iterator for Batches {
    type Item = (RawBatch, ShardPosition);

    fn next(&mut self) -> Option<Self::Item> {
        let mut piece = self.next.take()?;
        let mut batch = RawBatch::with_positions(Standpoint::new(ShardPosition::TrimHorizon).to_position());
        loop {
            let Piece { sequence, data, meta } = piece;
            batch.push_with(&data, &sequence, meta);
            match self.piece() {
                Some(next) if fits(&batch, &next) => piece = next,
                next => {
                    self.next = next;
                    let after = ShardPosition::After(sequence);
                    batch.set_after(Standpoint::new(after.clone()).to_position());
                    return Some((batch, after));
                }
            }
        }
    }
}

fn fits(batch: &RawBatch, piece: &Piece) -> bool {
    batch.len() < BATCH_RECORDS && batch.bytes().saturating_add(piece.data.len()) <= BATCH_BYTES
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    fn record(sequence: usize, bytes: usize) -> Record {
        Record { sequence: sequence.to_string(), data: vec![b'x'; bytes], arrived: None, partition_key: None }
    }

    fn user(data: &str) -> UserRecord {
        UserRecord {
            partition_key: format!("key of {data}"),
            explicit_hash_key: None,
            data: data.as_bytes().to_vec(),
            tags: BTreeMap::new(),
        }
    }

    fn positions(batch: &RawBatch) -> Vec<String> {
        (0..batch.len()).map(|index| batch.position(index)).collect()
    }

    #[test]
    fn a_record_larger_than_a_batch_goes_alone() {
        let records = vec![record(1, 10), record(2, BATCH_BYTES + 1), record(3, 10)];
        let all: Vec<_> =
            Batches::new(records, &ShardPosition::TrimHorizon).map(|(batch, _)| positions(&batch)).collect();
        assert_eq!(all, [["1"], ["2"], ["3"]]);
    }

    #[test]
    fn user_records_come_with_their_own_keys_and_those_of_plain_records_with_the_streams() {
        let aggregate = kpl::aggregate(&[
            UserRecord { explicit_hash_key: Some("5".to_owned()), ..user("a") },
            UserRecord { tags: BTreeMap::from([("colour".to_owned(), None)]), ..user("b") },
        ]);
        let at = Some(9);
        let records = vec![
            Record { data: aggregate, arrived: at, partition_key: Some("a".to_owned()), ..record(1, 0) },
            Record { arrived: at, partition_key: Some("plain".to_owned()), ..record(2, 1) },
        ];
        let (batch, after) = Batches::new(records, &ShardPosition::TrimHorizon).next().unwrap();
        assert_eq!(
            (positions(&batch), after.to_string()),
            (vec!["1:0".into(), "1:1".into(), "2".into()], "after:2".into())
        );
        let meta = |index| batch.meta(index).unwrap().clone();
        assert_eq!(meta(0).explicit_hash_key.as_deref(), Some("5"));
        assert_eq!(meta(0).partition_key.as_deref(), Some("key of a"));
        assert_eq!(meta(1).tags, BTreeMap::from([("colour".to_owned(), None)]));
        assert_eq!(meta(1).arrived, Some(EventTime::from_millis(9)), "that of the aggregate");
        assert_eq!(meta(2).partition_key.as_deref(), Some("plain"));
    }

    #[test]
    fn what_only_begins_as_an_aggregate_is_delivered_as_it_is_and_counted() {
        let broken = [kpl::MAGIC.as_slice(), b"no message"].concat();
        let records = vec![Record { data: broken.clone(), ..record(1, 0) }, record(2, 1)];
        let mut batches = Batches::new(records, &ShardPosition::TrimHorizon);
        let (batch, _) = batches.next().unwrap();
        assert_eq!(batch.record(0), broken);
        assert_eq!(batches.opened(), Opened { aggregates: 0, malformed: 1 });
    }

    #[test]
    fn a_plain_record_that_was_read_under_a_sub_sequence_number_is_not_read_again() {
        let at = ShardPosition::After(Sequence { number: "1".to_owned(), sub: Some(0) });
        let seen: Vec<_> =
            Batches::new(vec![record(1, 3), record(2, 3)], &at).map(|(batch, _)| positions(&batch)).collect();
        assert_eq!(seen, [["2"]]);
    }

    /// Stream records: plain ones, and aggregates of so many user records.
    fn stream(shape: &[Option<usize>]) -> Vec<Record> {
        let one = |(index, users): (usize, &Option<usize>)| match users {
            None => record(100 + index, 3),
            Some(users) => {
                let users: Vec<_> = (0..*users).map(|n| user(&format!("{index}-{n}"))).collect();
                Record { data: kpl::aggregate(&users), ..record(100 + index, 0) }
            }
        };
        shape.iter().enumerate().map(one).collect()
    }

    proptest! {
        #[test]
        fn all_records_leave_in_order_in_bounded_batches_and_each_position_goes_on_after_them(
            shape in proptest::collection::vec(proptest::option::weighted(0.6, 1usize..1_500), 1..6),
            pick: prop::sample::Index,
        ) {
            let all = stream(&shape);
            let mut seen = Vec::new();
            let mut marks = Vec::new();
            for (batch, after) in Batches::new(all.clone(), &ShardPosition::TrimHorizon) {
                prop_assert!(!batch.is_empty() && batch.len() <= BATCH_RECORDS && batch.bytes() <= BATCH_BYTES);
                prop_assert_eq!(batch.after().as_str(), after.to_string());
                let ShardPosition::After(last) = &after else { panic!("{after}") };
                prop_assert_eq!(last.to_string(), batch.position(batch.len() - 1));
                seen.extend((0..batch.len()).map(|index| (batch.position(index), batch.record(index).to_vec())));
                marks.push((seen.len(), after));
            }
            let expected: usize = shape.iter().map(|users| users.unwrap_or(1)).sum();
            prop_assert_eq!(seen.len(), expected);

            let (count, after) = pick.get(&marks).clone();
            let ShardPosition::After(Sequence { number, sub }) = &after else { panic!("{after}") };
            // As the service is asked: at the record of an aggregate, after any other.
            let first = all.iter().position(|record| record.sequence == *number).unwrap() + usize::from(sub.is_none());
            let rest = Batches::new(all[first..].to_vec(), &after);
            let rest: Vec<_> = rest.flat_map(|(batch, _)| positions(&batch)).collect();
            prop_assert_eq!(rest, seen[count..].iter().map(|(at, _)| at.clone()).collect::<Vec<_>>());
        }
    }
}
