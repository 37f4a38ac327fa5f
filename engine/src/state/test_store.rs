//! What the snapshot holds of a map, for the tests of all maps: every entry that changelogs have put and not deleted.

use std::collections::BTreeMap;

use super::changelog::{ChangelogReader, ChangelogWriter};
use crate::error::Result;
use crate::vocabulary::KeyGroup;

pub(super) type Stored = BTreeMap<(KeyGroup, Vec<u8>), Vec<u8>>;

/// Takes in what `drain` writes, and asserts that nothing is deleted that was never written.
pub(super) fn store(stored: &mut Stored, drain: impl FnOnce(&mut ChangelogWriter) -> Result<()>) {
    let mut changes = ChangelogWriter::new();
    drain(&mut changes).unwrap();
    let Some(sealed) = changes.finish() else { return };
    for change in ChangelogReader::open(&sealed).unwrap() {
        let change = change.unwrap();
        let key = (change.group, change.key.to_vec());
        match change.value {
            Some(value) => _ = stored.insert(key, value.to_vec()),
            None => assert!(stored.remove(&key).is_some(), "a delete of what was never written"),
        }
    }
}
