//! Ids that count once: a set of fingerprints, for the limits that dedupe.
//!
//! An id is taken by its fingerprint of 128 bits under its key, and kept for ever: the workload covers an hour, and the
//! job's horizon is 24.

use std::hash::{BuildHasher, Hasher};
use std::sync::{Mutex, PoisonError};

use hashbrown::HashSet;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128_with_seed};

/// Parts of the set that threads share: so many that two seldom want the same.
const SHARDS: usize = 64;

/// The fingerprint of an id under its key.
pub(super) fn fingerprint(account: &str, meter: &str, id: &str) -> u128 {
    let key = xxh3_64_with_seed(meter.as_bytes(), xxh3_64(account.as_bytes()));
    xxh3_128_with_seed(id.as_bytes(), key)
}

/// A set of fingerprints.
pub(super) type Fingerprints = HashSet<u128, AsItIs>;

/// Takes a fingerprint's lower half for its hash: it is one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AsItIs(u64);

impl BuildHasher for AsItIs {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }

    fn write_u128(&mut self, fingerprint: u128) {
        self.0 = fingerprint as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A set that threads share.
#[derive(Debug)]
pub(super) struct Shared(Vec<Mutex<Fingerprints>>);

impl Shared {
    pub(super) fn new() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }

    /// Whether the fingerprint is met for the first time.
    pub(super) fn insert(&self, fingerprint: u128) -> bool {
        // The upper bits: the lower ones place it in its shard's table.
        let shard = self.0.get((fingerprint >> 64) as usize % SHARDS);
        shard.is_some_and(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).insert(fingerprint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_new_once_for_each_key() {
        let seen = Shared::new();
        assert!(seen.insert(fingerprint("a", "m", "1")));
        assert!(!seen.insert(fingerprint("a", "m", "1")));
        assert!(seen.insert(fingerprint("a", "n", "1")));
        assert!(seen.insert(fingerprint("b", "m", "1")));
        assert!(seen.insert(fingerprint("a", "m", "2")));
    }
}
