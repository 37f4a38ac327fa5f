//! Where things lie in the database. Numbers are big endian, so that keys sort by them.
//!
//! | key | value |
//! |---|---|
//! | `a` name | a record of its own: identity, incarnation, steps, folded, filed |
//! | `b` | how far the last file of a fold goes |
//! | `b` step u32, group u16, table u8, key | base: the value of a key |
//! | `d` epoch u64 | the record of an epoch |
//! | `d` epoch u64, index u32 | one of its changelogs |
//!
//! Epochs only grow, so the files that RocksDB writes under `d` do not overlap: it moves them down without rewriting
//! them, and a fold drops whole ones.

use crate::state::Table;
use crate::vocabulary::{Epoch, KeyGroup};

pub(super) const IDENTITY: &[u8] = b"aidentity";
pub(super) const INCARNATION: &[u8] = b"aincarnation";
pub(super) const STEPS: &[u8] = b"asteps";
pub(super) const FOLDED: &[u8] = b"afolded";
/// How far the last file that a fold gave to the database goes; [`FILE_MARK`] must go as far.
pub(super) const FILED: &[u8] = b"afiled";
/// The first key of each such file: how far it goes. It sorts before all of the base.
pub(super) const FILE_MARK: &[u8] = b"b";

/// The bounds of the whole base.
pub(super) const BASE: (&[u8], &[u8]) = (b"b", b"c");
/// The bounds of all epochs.
pub(super) const EPOCHS: (&[u8], &[u8]) = (b"d", b"e");

pub(super) fn epoch(epoch: Epoch) -> Vec<u8> {
    let mut key = vec![b'd'];
    key.extend_from_slice(&epoch.number().to_be_bytes());
    key
}

pub(super) fn changelog(at: Epoch, index: u32) -> Vec<u8> {
    let mut key = epoch(at);
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// Where a step's entries of this group begin. `group` may be one beyond the last that there can be.
pub(super) fn base_prefix(step: u32, group: u32) -> Vec<u8> {
    let mut key = vec![b'b'];
    match u16::try_from(group) {
        Ok(group) => {
            key.extend_from_slice(&step.to_be_bytes());
            key.extend_from_slice(&group.to_be_bytes());
        }
        // The entries of the next step begin there.
        Err(_) => key.extend_from_slice(&step.saturating_add(1).to_be_bytes()),
    }
    key
}

pub(super) fn base(step: u32, group: KeyGroup, table: Table, key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.push(b'b');
    out.extend_from_slice(&step.to_be_bytes());
    out.extend_from_slice(&group.number().to_be_bytes());
    out.push(table.0);
    out.extend_from_slice(key);
}

/// Group, table and key of a base entry; `None` where the bytes are none.
pub(super) fn parse_base(key: &[u8]) -> Option<(KeyGroup, Table, &[u8])> {
    let (&[_, _, _, _, _, high, low, table], key) = key.split_first_chunk()?;
    Some((KeyGroup::new(u16::from_be_bytes([high, low])), Table(table), key))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn base_keys_sort_by_step_group_table_and_key(a: (u32, u16, u8, Vec<u8>), b: (u32, u16, u8, Vec<u8>)) {
            let bytes = |(step, group, table, key): &(u32, u16, u8, Vec<u8>)| {
                let mut out = Vec::new();
                base(*step, KeyGroup::new(*group), Table(*table), key, &mut out);
                out
            };
            prop_assert_eq!(bytes(&a).cmp(&bytes(&b)), a.cmp(&b));
            let bytes = bytes(&a);
            prop_assert_eq!(parse_base(&bytes), Some((KeyGroup::new(a.1), Table(a.2), &a.3[..])));
            prop_assert!(base_prefix(a.0, u32::from(a.1)) <= bytes && bytes < base_prefix(a.0, u32::from(a.1) + 1));
        }

        #[test]
        fn an_epochs_changelogs_lie_between_its_record_and_the_next(number in 0..u64::MAX, index: u32) {
            let log = changelog(Epoch::new(number), index);
            prop_assert!(epoch(Epoch::new(number)) < log && log < epoch(Epoch::new(number + 1)));
        }
    }
}
