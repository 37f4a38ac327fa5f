//! What names a record to the outside, so that whoever gets it twice can tell.

use std::fmt;

use bincode::Options;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

/// A record's id, which a replay repeats: 128 bits, printed as 32 hexadecimal digits.
///
/// It is made of what the record *is*: of a result its step, key and window, of a record that is passed through its source,
/// split and position. Never of an epoch, or of a place in one: a replay cuts epochs elsewhere.
///
/// # Examples
/// ```
/// use shardflow::RecordId;
/// let id = RecordId::of(&("charges", "acme", 1_700_000_000_000_u64));
/// assert_eq!(id, RecordId::of(&("charges".to_owned(), "acme".to_owned(), 1_700_000_000_000_u64)));
/// assert_eq!(id.to_string().len(), 32);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordId(u128);

impl RecordId {
    /// The id of what these parts name: XXH3 (128 bits, seed 0) over bincode 1.3 with fixed-width, little-endian integers.
    /// It never changes for the same parts. Parts that cannot be serialized count as far as they could be.
    #[must_use]
    pub fn of(parts: &(impl Serialize + ?Sized)) -> Self {
        let mut bytes = Vec::new();
        let _ = bincode::DefaultOptions::new().with_fixint_encoding().serialize_into(&mut bytes, parts);
        Self(xxh3_128(&bytes))
    }

    /// The id as a number.
    #[must_use]
    pub fn number(self) -> u128 {
        self.0
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_never_changes() {
        // As Python's xxhash has it for the same bytes.
        assert_eq!(RecordId::of(&("charges", "acme", 7_u64)).to_string(), "8d758d751a3d9e2c370aa49284a45e41");
    }

    #[test]
    fn parts_do_not_run_into_one_another() {
        assert_ne!(RecordId::of(&("ab", "c")), RecordId::of(&("a", "bc")));
        assert_ne!(RecordId::of(&("a", 1_u64)), RecordId::of(&("a", 2_u64)));
    }
}
