//! Records as users wrote them: those that the Kinesis Producer Library packed together are unpacked. Pure.

use jiff::Timestamp;

use super::Begin;
use crate::kpl;
use crate::stream::cursor::Raw;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The shard it lies in.
    pub shard: String,
    /// Its sequence number; that of the aggregate where it was in one.
    pub sequence: String,
    /// Its place in the aggregate, from 0; `None` for a record on its own.
    pub sub_sequence: Option<u64>,
    /// The partition key that it was written with, where it had one.
    pub partition_key: Option<String>,
    /// The hash key that it was written with. Known of records in aggregates only: the service does not give it back.
    pub explicit_hash_key: Option<String>,
    /// When it arrived, as the service says.
    pub arrived: Option<Timestamp>,
    /// What it holds.
    pub data: Vec<u8>,
}

impl Record {
    /// Whether a reader that begins at `start` is to see it. The service finds the first record that arrived at a time or
    /// later; arrival times are not monotonic, so an earlier one may come behind it.
    pub(super) fn is_of(&self, start: Begin) -> bool {
        match (start, self.arrived) {
            (Begin::At(time), Some(arrived)) => arrived >= time,
            _ => true,
        }
    }
}

/// The records in what a shard gave as one.
pub(super) fn open(shard: &str, raw: Raw) -> Vec<Record> {
    let Raw { sequence, partition_key, arrived, data } = raw;
    let Ok(aggregate) = kpl::open(&data) else {
        let shard = shard.to_owned();
        let (sub_sequence, explicit_hash_key) = (None, None);
        return vec![Record { shard, sequence, sub_sequence, partition_key, explicit_hash_key, arrived, data }];
    };
    let record = |(place, inner): (u64, kpl::UserRecord)| Record {
        shard: shard.to_owned(),
        sequence: sequence.clone(),
        sub_sequence: Some(place),
        partition_key: Some(inner.partition_key),
        explicit_hash_key: inner.explicit_hash_key,
        arrived,
        data: inner.data,
    };
    (0..).zip(aggregate.records).map(record).collect()
}

#[cfg(test)]
pub(in crate::stream) mod tests {
    use super::*;
    use crate::kpl::UserRecord;

    /// An aggregate of two records, `one` with key `a` and `two` with key `b` and hash key 7.
    pub(in crate::stream) fn aggregate() -> Vec<u8> {
        let record = |key: &str, hash: Option<&str>, data: &[u8]| UserRecord {
            partition_key: key.to_owned(),
            explicit_hash_key: hash.map(ToOwned::to_owned),
            data: data.to_vec(),
            tags: Default::default(),
        };
        kpl::aggregate(&[record("a", None, b"one"), record("b", Some("7"), b"two")])
    }

    fn raw(data: &[u8]) -> Raw {
        let arrived = Some("2026-11-01T12:00:00Z".parse().unwrap());
        Raw { sequence: "5".to_owned(), partition_key: Some("k".to_owned()), arrived, data: data.to_vec() }
    }

    #[test]
    fn aggregates_are_opened_and_their_records_numbered() {
        let records = open("s", raw(&aggregate()));
        let seen: Vec<_> = records
            .iter()
            .map(|r| (r.sub_sequence, r.partition_key.as_deref(), r.explicit_hash_key.as_deref(), r.data.as_slice()))
            .collect();
        assert_eq!(seen, [(Some(0), Some("a"), None, &b"one"[..]), (Some(1), Some("b"), Some("7"), b"two")]);
        assert!(records.iter().all(|record| record.sequence == "5" && record.shard == "s"));
    }

    #[test]
    fn a_damaged_aggregate_is_a_record_as_any_other() {
        let mut damaged = aggregate();
        damaged[6] ^= 1;
        let records = open("s", raw(&damaged));
        assert_eq!((records.len(), records[0].sub_sequence, &records[0].data), (1, None, &damaged));
    }

    #[test]
    fn what_arrived_before_the_start_is_not_of_it() {
        let record = open("s", raw(b"x")).remove(0);
        let at = |time: &str| record.is_of(Begin::At(time.parse().unwrap()));
        assert!(at("2026-11-01T12:00:00Z") && !at("2026-11-01T12:00:00.001Z"));
        assert!(record.is_of(Begin::Latest) && record.is_of(Begin::TrimHorizon));
    }
}
