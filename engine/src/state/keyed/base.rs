//! The door to what the snapshot's base holds of a map.

use crate::error::Result;
use crate::state::codec;
use crate::vocabulary::{Key, KeyGroup};

/// Takes the value of a key that was asked for: its number among them, its encoded key, its encoded value.
pub type Found<'a> = dyn FnMut(usize, &[u8], &[u8]) -> Result<()> + 'a;

/// Reads entries of one map from the base.
///
/// What lies there of a key that is not in memory cannot change meanwhile: a fold writes only what changelogs name, and
/// their keys are in memory until they are folded.
pub trait Base {
    /// Calls `found` for each key that the base has.
    ///
    /// # Errors
    /// The base cannot be read, or what `found` says.
    fn read(&self, wanted: &Wanted, found: &mut Found<'_>) -> Result<()>;
}

/// Encoded keys that are asked for, one after the other in one buffer.
#[derive(Debug, Default)]
pub struct Wanted {
    bytes: Vec<u8>,
    ends: Vec<(KeyGroup, usize)>,
}

impl Wanted {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub(super) fn push<K: Key>(&mut self, group: KeyGroup, key: &K) -> Result<()> {
        codec::encode_into(key, &mut self.bytes)?;
        self.ends.push((group, self.bytes.len()));
        Ok(())
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Group and encoded key of each.
    pub fn iter(&self) -> impl Iterator<Item = (KeyGroup, &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |&(group, end)| {
            let key = self.bytes.get(start..end).unwrap_or_default();
            start = end;
            (group, key)
        })
    }
}
