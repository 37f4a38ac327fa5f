//! What the snapshot still holds of entries that have left the maps of windows and panes.

use super::changelog::{ChangelogWriter, Table};
use super::codec;
use crate::error::{Error, Result};
use crate::vocabulary::{Key, KeyGroup};

/// Keys of stored entries that are gone. They are encoded at once, because they leave with the result.
#[derive(Debug, Default)]
pub(super) struct Deleted {
    bytes: Vec<u8>,
    ends: Vec<(KeyGroup, usize)>,
    // A key that was written once could not be encoded again; the next drain reports it.
    fault: Option<Error>,
}

impl Deleted {
    /// The entry of `key` in the window or pane that is stored as `span` is gone.
    pub(super) fn push<K: Key>(&mut self, group: KeyGroup, span: &[u8; 16], key: &K) {
        self.bytes.extend_from_slice(span);
        if let Err(fault) = codec::encode_into(key, &mut self.bytes) {
            self.fault = Some(fault);
        }
        self.ends.push((group, self.bytes.len()));
    }

    /// Appends the deletes, and forgets them.
    pub(super) fn drain(&mut self, table: Table, changes: &mut ChangelogWriter) -> Result<()> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let mut start = 0;
        for (group, end) in self.ends.drain(..) {
            changes.delete(group, table, self.bytes.get(start..end).unwrap_or_default());
            start = end;
        }
        self.bytes.clear();
        Ok(())
    }
}
