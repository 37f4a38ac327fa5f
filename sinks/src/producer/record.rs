//! A record to put, and what of it can be known to be wrong before it is sent. Pure.

use std::fmt;

use shardflow_aws::hash::hash_of;
use shardflow_aws::kpl::UserRecord;

/// How long a partition key may be, in characters.
const KEY_CHARACTERS: usize = 256;

/// A record to put into a stream.
///
/// # Examples
/// ```
/// use shardflow_sinks::producer::Record;
/// let record = Record::new("acme", b"7".to_vec()).explicit_hash_key("0");
/// assert_eq!((record.partition_key(), record.data(), record.bytes()), ("acme", &b"7"[..], 5));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Record(UserRecord);

impl Record {
    /// A record. Those of one partition key go to one shard, and with [`ordered`](super::ProducerSettings::ordered) keep their
    /// order.
    #[must_use]
    pub fn new(partition_key: impl Into<String>, data: impl Into<Vec<u8>>) -> Self {
        Self(UserRecord { partition_key: partition_key.into(), data: data.into(), ..UserRecord::default() })
    }

    /// The place among the hash keys that decides about its shard, instead of the partition key's hash: a decimal number below
    /// 2^128, without sign and leading zeros.
    #[must_use]
    pub fn explicit_hash_key(mut self, hash_key: impl Into<String>) -> Self {
        self.0.explicit_hash_key = Some(hash_key.into());
        self
    }

    /// The key that it is spread by.
    #[must_use]
    pub fn partition_key(&self) -> &str {
        &self.0.partition_key
    }

    /// The explicit hash key, where it was given one.
    #[must_use]
    pub fn hash_key(&self) -> Option<&str> {
        self.0.explicit_hash_key.as_deref()
    }

    /// What it holds.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.0.data
    }

    /// What counts towards the service's limits: data and partition key.
    #[must_use]
    pub fn bytes(&self) -> usize {
        bytes(&self.0)
    }

    /// Whether the service would take it.
    ///
    /// # Errors
    /// Why the service would refuse it: the partition key is empty or longer than 256 characters, the explicit hash key is no
    /// decimal number below 2^128, or it weighs more than `most_bytes`.
    pub(super) fn check(&self, most_bytes: usize) -> Result<(), String> {
        let characters = self.0.partition_key.chars().count();
        if !(1..=KEY_CHARACTERS).contains(&characters) {
            return Err(format!("its partition key has {characters} characters, not 1 to {KEY_CHARACTERS}"));
        }
        if let Some(text) = self.hash_key().filter(|text| hash_key(text).is_none()) {
            return Err(format!("its hash key \"{text}\" is no decimal number below 2^128"));
        }
        let bytes = self.bytes();
        if bytes > most_bytes {
            return Err(format!("it weighs {bytes} bytes with its partition key, more than {most_bytes}"));
        }
        Ok(())
    }

    /// Where it lies among the stream's hash keys.
    pub(super) fn hash(&self) -> u128 {
        self.hash_key().and_then(hash_key).unwrap_or_else(|| hash_of(&self.0.partition_key))
    }

    pub(super) fn into_inner(self) -> UserRecord {
        self.0
    }

    pub(super) fn of(record: UserRecord) -> Self {
        Self(record)
    }
}

impl fmt::Debug for Record {
    /// Without the data, which is nobody's business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("partition_key", &self.0.partition_key)
            .field("explicit_hash_key", &self.0.explicit_hash_key)
            .field("data_bytes", &self.0.data.len())
            .finish()
    }
}

/// What counts towards the service's limits.
pub(super) fn bytes(record: &UserRecord) -> usize {
    record.data.len().saturating_add(record.partition_key.len())
}

/// As the service takes them: digits alone, no sign, no leading zeros.
fn hash_key(text: &str) -> Option<u128> {
    text.parse::<u128>().ok().filter(|number| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: &str = "340282366920938463463374607431768211455";

    #[test]
    fn records_within_the_limits_lie_where_their_key_or_their_hash_key_says() {
        for (record, hash) in [
            (Record::new("a", ""), 0x0cc1_75b9_c0f1_b6a8_31c3_99e2_6977_2661),
            (Record::new("a", "").explicit_hash_key(LAST), u128::MAX),
            (Record::new("a", "").explicit_hash_key("0"), 0),
        ] {
            assert_eq!((record.check(1), record.hash()), (Ok(()), hash));
        }
        assert!(Record::new("ä".repeat(256), vec![0; 488]).check(1_000).is_ok());
        assert!(Record::new("k", vec![0; (1 << 20) - 1]).check(1 << 20).is_ok());
    }

    #[test]
    fn what_the_service_would_refuse_is_refused_with_the_reason() {
        let key = |key: &str| Record::new(key, "x");
        let hash = |hash: &str| Record::new("k", "x").explicit_hash_key(hash);
        for (record, why) in [
            (key(""), "0 characters"),
            (key(&"k".repeat(257)), "257 characters"),
            (hash("340282366920938463463374607431768211456"), "no decimal number"),
            (hash("-1"), "no decimal number"),
            (hash("+1"), "no decimal number"),
            (hash("007"), "no decimal number"),
            (hash(""), "no decimal number"),
            (Record::new("k", vec![0; 1_000]), "1001 bytes"),
        ] {
            let refused = record.check(1_000).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn what_a_record_holds_does_not_get_into_logs() {
        assert!(!format!("{:?}", Record::new("k", "secret")).contains("secret"));
    }
}
