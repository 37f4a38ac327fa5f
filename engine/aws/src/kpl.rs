//! Records that the Kinesis Producer Library aggregates: many user records in one stream record.
//!
//! What enters: a stream record's data. What leaves: the user records in it, in their order, or word that it is an
//! ordinary record; and the other way round. Pure. The Kinesis source opens aggregates by itself. The format is the KPL's
//! own (its `aggregation-format.md`): four magic bytes, a protobuf message, and the MD5 of that message.
//!
//! Whatever is not exactly that is an ordinary record, and is delivered as one: a producer may write any bytes. Where the
//! magic bytes are there and the rest does not fit, that is told, so that it can be counted.
//!
//! Sub-records are never dropped for lying outside of the hash range of the shard they are read from. After a reshard an
//! aggregate may hold such, and nobody else would deliver them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use md5::{Digest, Md5};
use prost::Message;

/// What an aggregate begins with.
pub const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];

/// The longest partition key, in characters.
const PARTITION_KEY: usize = 256;

/// The longest explicit hash key: 2^128 in decimal digits.
const HASH_KEY: usize = 39;

/// Bytes of the MD5 at its end.
const DIGEST: usize = 16;

/// The protobuf message, field by field as the KPL numbers them.
#[derive(Clone, PartialEq, Message)]
struct AggregatedRecord {
    #[prost(string, repeated, tag = "1")]
    pub partition_key_table: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub explicit_hash_key_table: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub records: Vec<WireRecord>,
}

/// One user record of the message. `partition_key_index` and `data` are required there; optional here, so that a message
/// without them is found out.
#[derive(Clone, PartialEq, Message)]
struct WireRecord {
    #[prost(uint64, optional, tag = "1")]
    pub partition_key_index: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub explicit_hash_key_index: Option<u64>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub data: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "4")]
    pub tags: Vec<Tag>,
}

/// A label of a user record.
#[derive(Clone, PartialEq, Eq, Message)]
struct Tag {
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

/// What one stream record held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregate {
    /// The user records. A record's place, from 0, is its sub-sequence number.
    pub records: Vec<UserRecord>,
}

/// A record as its producer put it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserRecord {
    /// The key that it is spread by.
    pub partition_key: String,
    /// A decimal number, where the producer chose one instead of the partition key's hash.
    pub explicit_hash_key: Option<String>,
    /// What it says.
    pub data: Vec<u8>,
    /// Labels, by key. The KPL writes none.
    pub tags: BTreeMap<String, Option<String>>,
}

/// Why a record is to be taken as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAggregate {
    /// It does not begin as an aggregate does.
    Plain,
    /// It begins as one, and is none.
    Malformed(Malformed),
}

/// What is wrong with a record that begins as an aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Shorter than the magic bytes and the digest.
    Short,
    /// The digest is of something else.
    Digest,
    /// The message is no such message.
    Message,
    /// A user record names a key that is not in the tables, or lacks its key or data; or a key is longer than the service
    /// allows.
    Record,
    /// There is no user record in it.
    Empty,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "it is too short",
            Self::Digest => "its digest does not fit",
            Self::Message => "its message cannot be read",
            Self::Record => "one of its records has no key or no data, or its keys are too long",
            Self::Empty => "it has no records",
        })
    }
}

/// The user records of an aggregate.
///
/// # Errors
/// Why it is none.
pub fn open(data: &[u8]) -> Result<Aggregate, NotAggregate> {
    let Some(rest) = data.strip_prefix(&MAGIC) else { return Err(NotAggregate::Plain) };
    read(rest).map_err(NotAggregate::Malformed)
}

fn read(rest: &[u8]) -> Result<Aggregate, Malformed> {
    let length = rest.len().checked_sub(DIGEST).ok_or(Malformed::Short)?;
    let (message, digest) = rest.split_at(length);
    if Md5::digest(message).as_slice() != digest {
        return Err(Malformed::Digest);
    }
    let AggregatedRecord { partition_key_table, explicit_hash_key_table, records } =
        AggregatedRecord::decode(message).map_err(|_| Malformed::Message)?;
    if records.is_empty() {
        return Err(Malformed::Empty);
    }
    // The service's own limits. Without them a megabyte of records that all name one long key would unpack to gigabytes.
    let is_too_long = |table: &[String], most: usize| table.iter().any(|key| key.chars().count() > most);
    if is_too_long(&partition_key_table, PARTITION_KEY) || is_too_long(&explicit_hash_key_table, HASH_KEY) {
        return Err(Malformed::Record);
    }
    let key = |table: &[String], index: u64| usize::try_from(index).ok().and_then(|index| table.get(index).cloned());
    let user_record = |record: WireRecord| {
        let partition_key = key(&partition_key_table, record.partition_key_index?)?;
        let explicit_hash_key = match record.explicit_hash_key_index {
            Some(index) => Some(key(&explicit_hash_key_table, index)?),
            None => None,
        };
        let mut tags = BTreeMap::new();
        for Tag { key, value } in record.tags {
            tags.insert(key?, value);
        }
        Some(UserRecord { partition_key, explicit_hash_key, data: record.data?, tags })
    };
    let records = records.into_iter().map(user_record).collect::<Option<Vec<_>>>();
    records.map(|records| Aggregate { records }).ok_or(Malformed::Record)
}

/// Writes user records as one aggregate, as the KPL does.
///
/// The stream record that carries it needs a partition key, or an explicit hash key, of the shard that they belong to.
///
/// # Examples
/// ```
/// use shardflow_aws::kpl::{UserRecord, aggregate, open};
///
/// let record = UserRecord { partition_key: "acme".to_owned(), data: b"7".to_vec(), ..UserRecord::default() };
/// let data = aggregate(&[record.clone()]);
/// assert_eq!(open(&data).unwrap().records, [record]);
/// ```
#[must_use]
pub fn aggregate<'a>(records: impl IntoIterator<Item = &'a UserRecord>) -> Vec<u8> {
    fn index<'a>(known: &mut HashMap<&'a str, u64>, table: &mut Vec<String>, key: &'a str) -> u64 {
        *known.entry(key).or_insert_with(|| {
            table.push(key.to_owned());
            table.len() as u64 - 1
        })
    }
    let (mut keys, mut hashes) = (HashMap::new(), HashMap::new());
    let mut message = AggregatedRecord::default();
    for record in records {
        let tag = |(key, value): (&String, &Option<String>)| Tag { key: Some(key.clone()), value: value.clone() };
        let wire = WireRecord {
            partition_key_index: Some(index(&mut keys, &mut message.partition_key_table, &record.partition_key)),
            explicit_hash_key_index: record
                .explicit_hash_key
                .as_ref()
                .map(|key| index(&mut hashes, &mut message.explicit_hash_key_table, key)),
            data: Some(record.data.clone()),
            tags: record.tags.iter().map(tag).collect(),
        };
        message.records.push(wire);
    }
    seal(&message)
}

fn seal(message: &AggregatedRecord) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    let digest = Md5::digest(&bytes);
    [MAGIC.as_slice(), &bytes, digest.as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_record() -> impl Strategy<Value = UserRecord> {
        let tags = proptest::collection::btree_map("[a-z]{1,3}", proptest::option::of("[a-z]{0,3}"), 0..3);
        let data = proptest::collection::vec(any::<u8>(), 0..64);
        ("[a-d]{1,2}", proptest::option::of("[1-9][0-9]{0,38}"), data, tags).prop_map(
            |(partition_key, explicit_hash_key, data, tags)| UserRecord {
                partition_key,
                explicit_hash_key,
                data,
                tags,
            },
        )
    }

    proptest! {
        #[test]
        fn what_was_aggregated_comes_out_as_it_went_in(records in proptest::collection::vec(any_record(), 1..40)) {
            prop_assert_eq!(open(&aggregate(&records)), Ok(Aggregate { records }));
        }

        #[test]
        fn a_damaged_aggregate_is_an_ordinary_record(
            records in proptest::collection::vec(any_record(), 1..8),
            at: prop::sample::Index,
            flip in 1u8..,
        ) {
            let mut bytes = aggregate(&records);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let expected = if at < MAGIC.len() { NotAggregate::Plain } else { NotAggregate::Malformed(Malformed::Digest) };
            prop_assert_eq!(open(&bytes), Err(expected));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(open(&bytes) == Err(NotAggregate::Plain) || bytes.starts_with(&MAGIC));
            // With a digest that fits, so that the message itself is read.
            let sealed = [MAGIC.as_slice(), &bytes, Md5::digest(&bytes).as_slice()].concat();
            prop_assert_ne!(open(&sealed), Err(NotAggregate::Plain));
        }
    }

    #[test]
    fn what_begins_as_an_aggregate_and_is_none_says_what_is_wrong() {
        let malformed = |bytes: &[u8]| match open(bytes) {
            Err(NotAggregate::Malformed(what)) => what,
            other => panic!("{other:?}"),
        };
        assert_eq!(open(b"{}"), Err(NotAggregate::Plain));
        assert_eq!(open(&MAGIC[..3]), Err(NotAggregate::Plain));
        assert_eq!(malformed(&MAGIC), Malformed::Short);
        assert_eq!(malformed(&seal(&AggregatedRecord::default())), Malformed::Empty);
        let with = |record: WireRecord| {
            seal(&AggregatedRecord {
                partition_key_table: vec!["key".to_owned()],
                explicit_hash_key_table: Vec::new(),
                records: vec![record],
            })
        };
        let good = WireRecord { partition_key_index: Some(0), data: Some(Vec::new()), ..WireRecord::default() };
        assert_eq!(open(&with(good.clone())).map(|aggregate| aggregate.records.len()), Ok(1));
        for bad in [
            WireRecord { partition_key_index: None, ..good.clone() },
            WireRecord { partition_key_index: Some(1), ..good.clone() },
            WireRecord { partition_key_index: Some(u64::MAX), ..good.clone() },
            WireRecord { explicit_hash_key_index: Some(0), ..good.clone() },
            WireRecord { data: None, ..good.clone() },
            WireRecord { tags: vec![Tag { key: None, value: None }], ..good },
        ] {
            assert_eq!(malformed(&with(bad)), Malformed::Record);
        }
        let long = |bytes: usize| UserRecord { partition_key: "k".repeat(bytes), ..UserRecord::default() };
        assert!(open(&aggregate(&[long(PARTITION_KEY)])).is_ok());
        assert_eq!(malformed(&aggregate(&[long(PARTITION_KEY + 1)])), Malformed::Record);
        let mut cut = vec![0x1A, 0x05];
        cut = [MAGIC.as_slice(), &cut, Md5::digest(&cut).as_slice()].concat();
        assert_eq!(malformed(&cut), Malformed::Message);
    }
}
