//! How many records go into one stream record, and what it then looks like. Pure.
//!
//! The size of an aggregate is known without making it: each record adds what its fields take, and its keys where they are new.

use std::borrow::Cow;
use std::collections::HashMap;

use shardflow_aws::kpl::{MAGIC, UserRecord, aggregate};

use super::record::bytes;

/// What an aggregate has around its message: the magic bytes and the MD5.
const AROUND: usize = 4 + 16;

/// How many records may go into one stream record, as the Kinesis Producer Library packs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aggregation {
    /// The most bytes of an aggregate; 50 KiB by default. A record that is larger by itself goes alone. Aggregates are made a
    /// little smaller where a whole number of them then fills what a shard takes in a second.
    pub bytes: usize,
    /// The most records in one; no limit by default.
    pub records: usize,
}

impl Default for Aggregation {
    fn default() -> Self {
        Self { bytes: 50 << 10, records: usize::MAX }
    }
}

/// A stream record, as the service takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wire<'a> {
    pub(super) partition_key: &'a str,
    pub(super) explicit_hash_key: Option<Cow<'a, str>>,
    pub(super) data: Cow<'a, [u8]>,
}

#[cfg(test)]
impl Wire<'_> {
    /// A record of its own that holds the same.
    pub(super) fn to_record(&self) -> UserRecord {
        UserRecord {
            partition_key: self.partition_key.to_owned(),
            explicit_hash_key: self.explicit_hash_key.as_deref().map(ToOwned::to_owned),
            data: self.data.to_vec(),
            ..UserRecord::default()
        }
    }
}

/// How records become one stream record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// The one record, as it is.
    Plain,
    /// An aggregate, which lies at this hash key: that of its first record.
    Aggregate(u128),
}

/// How many of these records, which have one shard, go into one stream record, at least 1 of them; what it weighs, data and
/// partition key; and whether it is an aggregate. A stream record may weigh `record_bytes`.
pub(super) fn fit<'a>(
    records: impl Iterator<Item = &'a UserRecord>,
    most: Aggregation,
    record_bytes: usize,
) -> (usize, usize, bool) {
    let (mut size, mut fitting, mut weight, mut first) = (Size::default(), 0_usize, 0, None);
    for record in records {
        if fitting > 0 && fitting >= most.records {
            break;
        }
        let bytes_with = size.add(record);
        if fitting > 0 && bytes_with > most.bytes {
            break;
        }
        fitting = fitting.saturating_add(1);
        let key = first.get_or_insert(record).partition_key.len();
        weight = bytes_with.saturating_add(key);
        if fitting == 1 && bytes_with > most.bytes {
            break;
        }
    }
    match first {
        // A record alone is no aggregate, unless a reader would take it for one: its data would come out as something else.
        Some(record) if fitting == 1 => {
            let looks_like_one = record.data.starts_with(&MAGIC) && weight <= record_bytes;
            if looks_like_one { (1, weight, true) } else { (1, bytes(record), false) }
        }
        _ => (fitting, weight, fitting > 1),
    }
}

/// The stream record of these records; there is at least one.
pub(super) fn wire<'a>(records: impl Iterator<Item = &'a UserRecord> + Clone, packing: Packing) -> Wire<'a> {
    let first = records.clone().next();
    let partition_key = first.map(|record| record.partition_key.as_str()).unwrap_or_default();
    match packing {
        Packing::Plain => Wire {
            partition_key,
            explicit_hash_key: first.and_then(|record| record.explicit_hash_key.as_deref()).map(Cow::Borrowed),
            data: first.map(|record| record.data.as_slice()).unwrap_or_default().into(),
        },
        Packing::Aggregate(hash) => {
            Wire { partition_key, explicit_hash_key: Some(hash.to_string().into()), data: aggregate(records).into() }
        }
    }
}

/// The size of an aggregate that grows.
#[derive(Debug, Default)]
struct Size<'a> {
    keys: HashMap<&'a str, u64>,
    hashes: HashMap<&'a str, u64>,
    message: usize,
}

impl<'a> Size<'a> {
    /// The bytes of the aggregate with this record in it.
    fn add(&mut self, record: &'a UserRecord) -> usize {
        let mut fields = index(&mut self.keys, &record.partition_key, &mut self.message);
        if let Some(hash) = &record.explicit_hash_key {
            fields += index(&mut self.hashes, hash, &mut self.message);
        }
        fields += field(record.data.len());
        self.message = self.message.saturating_add(field(fields));
        self.message.saturating_add(AROUND)
    }
}

/// The bytes of a key's number in a record. A key that is new adds itself to its table.
fn index<'a>(known: &mut HashMap<&'a str, u64>, key: &'a str, message: &mut usize) -> usize {
    let next = known.len() as u64;
    let number = *known.entry(key).or_insert_with(|| {
        *message = message.saturating_add(field(key.len()));
        next
    });
    varint(number).saturating_add(1)
}

/// The bytes of a field of protobuf that has this length.
fn field(length: usize) -> usize {
    length.saturating_add(varint(length as u64)).saturating_add(1)
}

/// The bytes of a number in protobuf: seven bits each.
fn varint(number: u64) -> usize {
    let bits = u64::BITS.saturating_sub(number.leading_zeros()).max(1);
    bits.div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shardflow_aws::kpl::open;

    use super::*;

    fn any_record() -> impl Strategy<Value = UserRecord> {
        let data = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            (100usize..400).prop_map(|length| vec![7; length]),
            Just(MAGIC.to_vec()),
            Just(vec![1; 20_000]),
        ];
        let key = prop_oneof!["[a-d]{1,2}", "k{120,140}", "κ{1,3}"];
        let hash = proptest::option::of("[1-9][0-9]{0,37}");
        (key, hash, data).prop_map(|(partition_key, explicit_hash_key, data)| UserRecord {
            partition_key,
            explicit_hash_key,
            data,
            ..UserRecord::default()
        })
    }

    fn bytes_of(records: &[UserRecord]) -> usize {
        aggregate(records).len()
    }

    proptest! {
        #[test]
        fn sizes_are_known_to_the_byte(records in proptest::collection::vec(any_record(), 1..300)) {
            let mut size = Size::default();
            let mut known = 0;
            for record in &records {
                known = size.add(record);
            }
            prop_assert_eq!(known, bytes_of(&records));
        }

        #[test]
        fn aggregates_are_as_full_as_they_may_be_and_open_to_what_went_in(
            records in proptest::collection::vec(any_record(), 1..120), bytes in 0usize..4_000, most in 1usize..50,
        ) {
            let aggregation = Aggregation { bytes, records: most };
            let mut rest = &records[..];
            let mut seen = Vec::new();
            while !rest.is_empty() {
                let (count, weight, is_aggregate) = fit(rest.iter(), aggregation, bytes);
                let (now, later) = rest.split_at(count);
                let made = wire(now.iter(), if is_aggregate { Packing::Aggregate(5) } else { Packing::Plain });
                prop_assert_eq!(made.data.len() + made.partition_key.len(), weight);
                prop_assert!(count <= most && (count == 1 || made.data.len() <= bytes));
                if count < most && !later.is_empty() {
                    prop_assert!(bytes_of(&rest[..=count]) > bytes, "there was room for one more");
                }
                if is_aggregate {
                    prop_assert_eq!(made.explicit_hash_key.as_deref(), Some("5"));
                    seen.extend(open(&made.data).unwrap().records);
                } else {
                    prop_assert_eq!(count, 1);
                    seen.push(made.to_record());
                }
                rest = later;
            }
            prop_assert_eq!(seen, records);
        }
    }

    #[test]
    fn a_record_alone_goes_as_it_is_unless_it_looks_like_an_aggregate() {
        let plain = UserRecord { partition_key: "k".to_owned(), data: vec![1; 10], ..UserRecord::default() };
        assert_eq!(fit([&plain].into_iter(), Aggregation::default(), 1 << 20), (1, 11, false));
        let nested = UserRecord { data: aggregate(std::slice::from_ref(&plain)), ..plain };
        // However large others may be.
        for bytes in [50 << 10, 0] {
            let most = Aggregation { bytes, ..Aggregation::default() };
            let (count, weight, is_aggregate) = fit([&nested].into_iter(), most, 1 << 20);
            assert!(count == 1 && is_aggregate && weight > nested.data.len());
        }
        assert!(
            !fit([&nested].into_iter(), Aggregation::default(), nested.data.len()).2,
            "there is no room to wrap it"
        );
    }
}
