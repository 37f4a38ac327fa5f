//! The hash that decides a key's group. Stored state depends on it, so it is frozen.

use bincode::Options;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};

/// Hashes a key by its serialized form: XXH3 (64 bits, seed 0) over bincode 1.3 with fixed-width, little-endian integers.
///
/// `std::hash::Hash` is not used, because what a type feeds it may change with the compiler and differs between
/// machines. State outlives both. `scratch` is cleared and filled with the serialized key; passing the same one again
/// saves the allocation.
///
/// A value whose `Serialize` returns an error is hashed by what it wrote until then. In a job no key is: `key_by` refuses it.
///
/// # Examples
/// ```
/// use shardflow::exchange::stable_hash;
/// let mut scratch = Vec::new();
/// let owned = stable_hash(&("acme".to_string(), 7_u64), &mut scratch);
/// assert_eq!(owned, stable_hash(&("acme", 7_u64), &mut scratch));
/// ```
#[inline]
pub fn stable_hash<K: Serialize + ?Sized>(key: &K, scratch: &mut Vec<u8>) -> u64 {
    // The result is dropped on purpose: see above.
    let _ = write(key, scratch);
    xxh3_64(scratch)
}

/// The same, for a key that comes in.
///
/// # Errors
/// The key cannot be serialized.
#[inline]
pub(crate) fn try_stable_hash<K: Serialize + ?Sized>(key: &K, scratch: &mut Vec<u8>) -> Result<u64> {
    match write(key, scratch) {
        Ok(()) => Ok(xxh3_64(scratch)),
        Err(error) => {
            let name = std::any::type_name::<K>();
            Err(Error::config(format!("could not key a record by a `{name}`")).caused_by(error))
        }
    }
}

#[inline]
fn write<K: Serialize + ?Sized>(key: &K, scratch: &mut Vec<u8>) -> bincode::Result<()> {
    scratch.clear();
    bincode::DefaultOptions::new().with_fixint_encoding().serialize_into(&mut *scratch, key)
}

#[cfg(test)]
mod tests {
    use serde::ser::Error;
    use serde::{Serialize, Serializer};

    use super::*;

    fn hash<K: Serialize + ?Sized>(key: &K) -> u64 {
        stable_hash(key, &mut Vec::new())
    }

    #[derive(Serialize)]
    struct Meter {
        account: String,
        region: Option<u8>,
        kind: Kind,
    }

    #[derive(Serialize)]
    enum Kind {
        Calls,
        Bytes { per: u32 },
    }

    // If one of these fails, every state folder in the world has become unreadable. Do not change the values.
    #[test]
    fn hashes_never_change() {
        assert_eq!(hash(&()), 0x2d06_8005_38d3_94c2);
        assert_eq!(hash(&0_u64), 0xc77b_3abb_6f87_acd9);
        assert_eq!(hash("acme"), 0xc416_9352_5fee_3b46);
        assert_eq!(hash(&("acme", "api-calls")), 0xa053_f3bd_7db6_9dc8);
        assert_eq!(hash(&Meter { account: "acme".into(), region: None, kind: Kind::Calls }), 0x77fd_c8e5_10c4_484e);
        assert_eq!(
            hash(&Meter { account: "é".into(), region: Some(7), kind: Kind::Bytes { per: 1024 } }),
            0x4873_e672_d04d_84fb
        );
    }

    #[test]
    fn what_is_left_in_the_scratch_buffer_has_no_effect() {
        let mut scratch = vec![1, 2, 3];
        assert_eq!(stable_hash("acme", &mut scratch), hash("acme"));
        assert_eq!(scratch, b"\x04\0\0\0\0\0\0\0acme");
    }

    #[test]
    fn a_key_that_fails_to_serialize_still_has_one_hash() {
        struct Broken;
        impl Serialize for Broken {
            fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(S::Error::custom("broken"))
            }
        }
        assert_eq!(hash(&(7_u32, Broken)), hash(&(7_u32, Broken)));
        let error = try_stable_hash(&(7_u32, Broken), &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("Broken") && error.ends_with("broken"), "{error}");
        assert_eq!(try_stable_hash("acme", &mut Vec::new()).unwrap(), hash("acme"));
    }
}
