//! A record to put, checked before it can make the service refuse the whole call it would be in. Pure.

use std::fmt;

/// How long a partition key may be, in characters.
const KEY_CHARACTERS: usize = 256;

/// A record to put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutRecord {
    id: u64,
    partition_key: String,
    explicit_hash_key: Option<String>,
    data: Vec<u8>,
}

/// Why a record cannot be put into any stream, or not into this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl PutRecord {
    /// A record. `id` is what the caller calls it, a line number for instance: the account at the end speaks of it.
    /// `most_bytes` is what it may weigh with its partition key: [`Summary::record_bytes`](crate::stream::Summary).
    ///
    /// # Errors
    /// The partition key is empty or longer than 256 characters, the hash key is no decimal number below 2^128, or the record
    /// is too large.
    pub fn new(
        id: u64,
        partition_key: String,
        explicit_hash_key: Option<String>,
        data: Vec<u8>,
        most_bytes: usize,
    ) -> Result<Self, Refused> {
        let characters = partition_key.chars().count();
        if !(1..=KEY_CHARACTERS).contains(&characters) {
            return Err(Refused(format!("its partition key has {characters} characters, not 1 to {KEY_CHARACTERS}")));
        }
        if let Some(hash) = explicit_hash_key.as_deref().filter(|hash| !is_hash_key(hash)) {
            return Err(Refused(format!("its hash key \"{hash}\" is no decimal number below 2^128")));
        }
        let record = Self { id, partition_key, explicit_hash_key, data };
        if record.bytes() > most_bytes {
            let bytes = record.bytes();
            return Err(Refused(format!("it weighs {bytes} bytes with its partition key, more than {most_bytes}")));
        }
        Ok(record)
    }

    /// What the caller calls it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its partition key.
    #[must_use]
    pub fn partition_key(&self) -> &str {
        &self.partition_key
    }

    /// The hash key that decides about its shard instead of the partition key.
    #[must_use]
    pub fn explicit_hash_key(&self) -> Option<&str> {
        self.explicit_hash_key.as_deref()
    }

    /// What it holds.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// What counts towards the service's limits: data and partition key.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.data.len() + self.partition_key.len()
    }
}

/// As the service takes them: digits alone, no sign, no leading zeros.
fn is_hash_key(text: &str) -> bool {
    text.parse::<u128>().is_ok_and(|number| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, hash: Option<&str>, data: &[u8]) -> Result<PutRecord, String> {
        PutRecord::new(1, key.to_owned(), hash.map(ToOwned::to_owned), data.to_vec(), 1000)
            .map_err(|why| why.to_string())
    }

    #[test]
    fn records_within_the_limits_are_taken() {
        assert_eq!(record("k", Some("340282366920938463463374607431768211455"), b"").unwrap().bytes(), 1);
        assert_eq!(record(&"ä".repeat(256), None, &[0; 488]).unwrap().bytes(), 1000);
    }

    #[test]
    fn what_the_service_would_refuse_is_refused_with_the_reason() {
        for (key, hash, data, why) in [
            (String::new(), None, vec![], "0 characters"),
            ("k".repeat(257), None, vec![], "257 characters"),
            ("k".to_owned(), Some("340282366920938463463374607431768211456"), vec![], "no decimal number"),
            ("k".to_owned(), Some("-1"), vec![], "no decimal number"),
            ("k".to_owned(), Some("+1"), vec![], "no decimal number"),
            ("k".to_owned(), Some("007"), vec![], "no decimal number"),
            ("k".to_owned(), None, vec![0; 1000], "1001 bytes"),
        ] {
            let refused = record(&key, hash, &data).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
