//! Which chunks of accepted ids the snapshot holds, so that they can be deleted when their event times have expired.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::vocabulary::{Epoch, KeyGroup};

/// Names a chunk together with its key group: ids accepted in one epoch by one worker, of one span of event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChunkKey {
    /// In units of the horizon that the writer had.
    pub(super) bucket: u64,
    pub(super) epoch: Epoch,
    pub(super) worker: u32,
}

impl ChunkKey {
    pub(super) fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[0..8].copy_from_slice(&self.bucket.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.epoch.number().to_be_bytes());
        bytes[16..20].copy_from_slice(&self.worker.to_be_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let wrong =
            || Error::state(format!("could not read a chunk of seen ids: its key has {} bytes, not 20", bytes.len()));
        let (bucket, rest) = bytes.split_first_chunk::<8>().ok_or_else(wrong)?;
        let (epoch, rest) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
        let worker: [u8; 4] = rest.try_into().map_err(|_| wrong())?;
        let epoch = Epoch::new(u64::from_be_bytes(*epoch));
        Ok(Self { bucket: u64::from_be_bytes(*bucket), epoch, worker: u32::from_be_bytes(worker) })
    }
}

/// One bit a key group: a job that runs for a day has half a million epochs, each with a chunk in most groups.
#[derive(Debug, Default)]
struct Groups(Vec<u64>);

impl Groups {
    fn insert(&mut self, group: KeyGroup) {
        let (word, bit) = (usize::from(group.number()) / 64, group.number() % 64);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << bit;
        }
    }

    fn iter(&self) -> impl Iterator<Item = KeyGroup> {
        self.0.iter().zip(0_u16..).flat_map(|(&word, at)| {
            (0..64_u16).filter(move |bit| word >> bit & 1 == 1).map(move |bit| KeyGroup::new(at.wrapping_mul(64) + bit))
        })
    }
}

/// Chunks by the bucket in which their last id lies, in units of *this* start's horizon. A chunk's key was made by the start
/// that wrote it, which may have had another.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    stored: BTreeMap<(u64, ChunkKey), Groups>,
}

impl Chunks {
    pub(super) fn insert(&mut self, last: u64, key: ChunkKey, group: KeyGroup) {
        self.stored.entry((last, key)).or_default().insert(group);
    }

    /// Takes chunks whose last id lies in a bucket before `bucket`, oldest first, and stops after about `limit` of them.
    pub(super) fn take_before(&mut self, bucket: u64, limit: usize, mut visit: impl FnMut(ChunkKey, KeyGroup)) {
        let mut taken = 0_usize;
        while let Some(first) = self.stored.first_entry() {
            if first.key().0 >= bucket || taken >= limit {
                break;
            }
            let ((_, key), groups) = first.remove_entry();
            for group in groups.iter() {
                taken = taken.saturating_add(1);
                visit(key, group);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_chunk_key_survives_its_bytes_and_sorts_like_them(a: (u64, u64, u32), b: (u64, u64, u32)) {
            let [a, b] = [a, b].map(|(bucket, epoch, worker)| ChunkKey { bucket, epoch: Epoch::new(epoch), worker });
            prop_assert_eq!(ChunkKey::from_bytes(&a.to_bytes()).unwrap(), a);
            prop_assert_eq!(a.cmp(&b), a.to_bytes().cmp(&b.to_bytes()));
        }

        #[test]
        fn groups_are_a_set(groups in proptest::collection::btree_set(any::<u16>(), 0..20)) {
            let mut set = Groups::default();
            groups.iter().for_each(|&group| set.insert(KeyGroup::new(group)));
            prop_assert_eq!(set.iter().map(KeyGroup::number).collect::<Vec<_>>(), groups.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        assert!(ChunkKey::from_bytes(&[0; 19]).unwrap_err().to_string().contains("19 bytes"));
        assert!(ChunkKey::from_bytes(&[0; 21]).is_err());
    }
}
