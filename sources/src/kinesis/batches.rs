//! Cuts the records of one GetRecords answer into batches of a size that the engine likes. Pure.

use shardflow::source::RawBatch;

use super::client::Record;
use super::position::ShardPosition;

/// The most records in a batch.
const BATCH_RECORDS: usize = 1_000;

/// A batch is full when it holds so many bytes; one record alone may be larger.
const BATCH_BYTES: usize = 1 << 20;

/// By how much a record may seem to have arrived before the time it was asked for, in milliseconds: arrival times are
/// approximate.
const ARRIVAL_SLACK: i64 = 1_000;

/// The batches of `records`, with the position after each. `from` is where the records were asked for.
pub(super) fn batches(records: Vec<Record>, from: &ShardPosition) -> impl Iterator<Item = (RawBatch, ShardPosition)> {
    let too_early = too_early(&records, from);
    let mut records = records.into_iter().skip(too_early).peekable();
    std::iter::from_fn(move || {
        let mut after = ShardPosition::After(records.peek()?.sequence.clone());
        let mut batch = RawBatch::with_positions(after.to_position());
        while let Some(record) = records.next_if(|record| fits(&batch, record)) {
            batch.push(&record.data, &record.sequence);
            after = ShardPosition::After(record.sequence);
        }
        batch.set_after(after.to_position());
        Some((batch, after))
    })
}

fn fits(batch: &RawBatch, record: &Record) -> bool {
    batch.is_empty() || (batch.len() < BATCH_RECORDS && batch.bytes().saturating_add(record.data.len()) <= BATCH_BYTES)
}

/// How many of the first records are older than the start time that was asked for.
///
/// Amazon gives none. Stand-ins give the whole shard where nothing is as young as the time: without this, starting at
/// "latest" there would read everything.
fn too_early(records: &[Record], from: &ShardPosition) -> usize {
    let ShardPosition::Time(millis) = from else { return 0 };
    let earliest = i64::try_from(*millis).unwrap_or(i64::MAX).saturating_sub(ARRIVAL_SLACK);
    records.iter().take_while(|record| record.arrived.is_some_and(|arrived| arrived < earliest)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(sequence: usize, bytes: usize, arrived: Option<i64>) -> Record {
        Record { sequence: sequence.to_string(), data: vec![b'x'; bytes], arrived }
    }

    fn sequences(batch: &RawBatch) -> Vec<String> {
        (0..batch.len()).map(|index| batch.position(index)).collect()
    }

    #[test]
    fn a_record_larger_than_a_batch_goes_alone() {
        let records = vec![record(1, 10, None), record(2, BATCH_BYTES + 1, None), record(3, 10, None)];
        let all: Vec<_> = batches(records, &ShardPosition::TrimHorizon).map(|(batch, _)| sequences(&batch)).collect();
        assert_eq!(all, [["1"], ["2"], ["3"]]);
    }

    #[test]
    fn leading_records_from_before_the_start_time_are_dropped_and_later_ones_kept() {
        let records = vec![record(1, 1, Some(5_000)), record(2, 1, Some(9_500)), record(3, 1, Some(5_000))];
        let all: Vec<_> = batches(records.clone(), &ShardPosition::Time(10_000)).collect();
        assert_eq!(sequences(&all[0].0), ["2", "3"]);
        let all: Vec<_> = batches(records, &ShardPosition::TrimHorizon).collect();
        assert_eq!(all[0].0.len(), 3);
        assert_eq!(batches(vec![record(1, 1, Some(1))], &ShardPosition::Time(10_000)).count(), 0);
    }

    proptest! {
        #[test]
        fn all_records_leave_in_order_in_bounded_batches(sizes in proptest::collection::vec(0usize..3_000, 0..3_000)) {
            let records: Vec<_> = sizes.iter().enumerate().map(|(i, bytes)| record(i, *bytes, None)).collect();
            let mut out = Vec::new();
            for (batch, after) in batches(records, &ShardPosition::TrimHorizon) {
                prop_assert!(!batch.is_empty() && batch.len() <= BATCH_RECORDS && batch.bytes() <= BATCH_BYTES);
                prop_assert_eq!(batch.after().as_str(), after.to_string());
                let last = batch.position(batch.len() - 1);
                prop_assert_eq!(after.to_string(), format!("after:{last}"));
                out.extend((0..batch.len()).map(|index| (batch.position(index), batch.record(index).len())));
            }
            let expected: Vec<_> = sizes.iter().enumerate().map(|(i, bytes)| (i.to_string(), *bytes)).collect();
            prop_assert_eq!(out, expected);
        }
    }
}
