//! What changed in one epoch, as a few large values: puts and deletes in order, the later one of a key wins.
//!
//! *In:* `drain_changes` of the maps. *Out:* of each step and worker a sealed frame for each megabyte, which go into the
//! epoch's durable batch. One large value costs the store a twentieth of what the same bytes cost as single puts.
//!
//! An entry is `group u16 LE, table u8, key length, key, value length + 1 (0: deleted), value`, lengths as LEB128.

use std::fmt;

use serde::Serialize;

use super::codec;
use super::frame::{self, Kind};
use crate::error::{Error, Result};
use crate::vocabulary::KeyGroup;

/// From so many bytes on the next change begins a part of its own.
const PART_BYTES: usize = 1 << 20;

/// Tells the tables of one step apart. A step that has a single map uses `Table(0)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Table(pub u8);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Collects the changes of one step, worker and epoch.
///
/// # Examples
/// ```
/// use shardflow::state::{ChangelogReader, ChangelogWriter, Table};
/// use shardflow::vocabulary::KeyGroup;
/// let mut writer = ChangelogWriter::new();
/// writer.put(KeyGroup::new(3), Table(0), b"key", b"value");
/// let sealed = writer.finish().expect("there is a change");
/// let change = ChangelogReader::open(&sealed).unwrap().next().expect("one change").unwrap();
/// assert_eq!((change.key, change.value), (&b"key"[..], Some(&b"value"[..])));
/// ```
#[derive(Debug)]
pub struct ChangelogWriter {
    // Begins with room for the frame's header, so that sealing copies nothing.
    buffer: Vec<u8>,
    // Sealed frames that came before it.
    full: Vec<Vec<u8>>,
    entries: usize,
    // Scratch space of the maps that drain into this writer.
    pub(super) scratch: (Vec<u8>, Vec<u8>),
}

impl Default for ChangelogWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl ChangelogWriter {
    /// An empty changelog.
    #[must_use]
    pub fn new() -> Self {
        Self { buffer: vec![0; frame::HEADER], full: Vec::new(), entries: 0, scratch: Default::default() }
    }

    /// `key` now has this value.
    pub fn put(&mut self, group: KeyGroup, table: Table, key: &[u8], value: &[u8]) {
        self.entry(group, table, key);
        put_varint(&mut self.buffer, (value.len() as u64).saturating_add(1));
        self.buffer.extend_from_slice(value);
    }

    /// `key` now has this value, encoded as all state is ([`codec`]).
    ///
    /// # Errors
    /// The value cannot be encoded. Nothing was added.
    pub fn put_encoded<T: Serialize + ?Sized>(
        &mut self,
        group: KeyGroup,
        table: Table,
        key: &[u8],
        value: &T,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        codec::encode_into(value, &mut bytes)?;
        self.put(group, table, key, &bytes);
        Ok(())
    }

    /// `key` is gone.
    pub fn delete(&mut self, group: KeyGroup, table: Table, key: &[u8]) {
        self.entry(group, table, key);
        put_varint(&mut self.buffer, 0);
    }

    fn entry(&mut self, group: KeyGroup, table: Table, key: &[u8]) {
        if self.buffer.len() >= PART_BYTES {
            // Long enough for most: no part is copied to grow.
            let mut next = Vec::with_capacity(PART_BYTES + PART_BYTES / 8);
            next.resize(frame::HEADER, 0);
            self.full.push(frame::seal_in_place(Kind::Changelog, std::mem::replace(&mut self.buffer, next)));
        }
        self.entries = self.entries.saturating_add(1);
        self.buffer.extend_from_slice(&group.number().to_le_bytes());
        self.buffer.push(table.0);
        put_varint(&mut self.buffer, key.len() as u64);
        self.buffer.extend_from_slice(key);
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Puts and deletes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Their size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let frames = self.full.iter().chain([&self.buffer]);
        frames.fold(0, |sum, frame| sum.saturating_add(frame.len().saturating_sub(frame::HEADER)))
    }

    /// All of them as one sealed frame; `None` where nothing changed.
    #[must_use]
    pub fn finish(self) -> Option<Vec<u8>> {
        let mut parts = self.finish_in_parts();
        if parts.len() <= 1 {
            return parts.pop();
        }
        let payloads = parts.iter().filter_map(|part| part.get(frame::HEADER..));
        Some(frame::seal(Kind::Changelog, &payloads.collect::<Vec<_>>().concat()))
    }

    /// Sealed frames of about a megabyte each, in order; none where nothing changed. What handles a large epoch part by part
    /// needs less memory than as a whole.
    #[must_use]
    pub fn finish_in_parts(self) -> Vec<Vec<u8>> {
        let Self { buffer, mut full, .. } = self;
        if buffer.len() > frame::HEADER {
            full.push(frame::seal_in_place(Kind::Changelog, buffer));
        }
        full
    }
}

/// One put or delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change<'a> {
    /// The key's group.
    pub group: KeyGroup,
    /// The table of the step.
    pub table: Table,
    /// The encoded key.
    pub key: &'a [u8],
    /// The encoded value; `None` where the key was deleted.
    pub value: Option<&'a [u8]>,
}

/// Reads the changes of a sealed changelog in the order in which they were made. Ends after the first error.
#[derive(Debug, Clone)]
pub struct ChangelogReader<'a> {
    rest: &'a [u8],
}

impl<'a> ChangelogReader<'a> {
    /// Checks the frame.
    ///
    /// # Errors
    /// It is no whole changelog, see [`frame::unseal`].
    pub fn open(sealed: &'a [u8]) -> Result<Self> {
        Ok(Self { rest: frame::unseal(Kind::Changelog, sealed)? })
    }

    /// The changes of a sealed changelog, one after the other.
    pub(crate) fn payload(sealed: &'a [u8]) -> Result<&'a [u8]> {
        frame::unseal(Kind::Changelog, sealed)
    }

    /// Where in `payload`, all of it, the next change begins.
    pub(crate) fn offset(&self, payload: &[u8]) -> usize {
        payload.len().saturating_sub(self.rest.len())
    }

    /// The change that `bytes` begin with, and what follows it.
    pub(crate) fn first(bytes: &'a [u8]) -> Option<(Change<'a>, &'a [u8])> {
        let (&[low, high, table], rest) = bytes.split_first_chunk()?;
        let (key, rest) = take(rest, Some)?;
        let group = KeyGroup::new(u16::from_le_bytes([low, high]));
        let (value, rest) = match rest.split_first()? {
            (0, rest) => (None, rest),
            _ => take(rest, |length| length.checked_sub(1)).map(|(value, rest)| (Some(value), rest))?,
        };
        Some((Change { group, table: Table(table), key, value }, rest))
    }
}

impl<'a> Iterator for ChangelogReader<'a> {
    type Item = Result<Change<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let change = Self::first(self.rest).map(|(change, rest)| {
            self.rest = rest;
            change
        });
        if change.is_none() {
            self.rest = &[];
        }
        Some(change.ok_or_else(|| Error::state("could not read the changelog: an entry is cut short")))
    }
}

/// Bytes preceded by their length, which `adjust` corrects.
fn take(bytes: &[u8], adjust: impl FnOnce(u64) -> Option<u64>) -> Option<(&[u8], &[u8])> {
    let (length, rest) = take_varint(bytes)?;
    rest.split_at_checked(usize::try_from(adjust(length)?).ok()?)
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number as u8) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    for (place, &byte) in bytes.iter().enumerate().take(9) {
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return bytes.get(place + 1..).map(|rest| (number, rest));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Owned = (u16, u8, Vec<u8>, Option<Vec<u8>>);

    fn write(changes: &[Owned]) -> Option<Vec<u8>> {
        let mut writer = ChangelogWriter::new();
        for (group, table, key, value) in changes {
            match value {
                Some(value) => writer.put(KeyGroup::new(*group), Table(*table), key, value),
                None => writer.delete(KeyGroup::new(*group), Table(*table), key),
            }
        }
        assert_eq!((writer.len(), writer.is_empty()), (changes.len(), changes.is_empty()));
        writer.finish()
    }

    #[test]
    fn an_epoch_without_changes_writes_nothing() {
        assert_eq!(ChangelogWriter::new().finish(), None);
    }

    #[test]
    fn many_changes_are_the_same_in_parts_and_as_one() {
        let changes: Vec<Owned> =
            (0..3_000_u16).map(|n| (n, 1, n.to_le_bytes().to_vec(), Some(vec![n as u8; 1_000]))).collect();
        let mut writer = ChangelogWriter::new();
        for (group, table, key, value) in &changes {
            writer.put(KeyGroup::new(*group), Table(*table), key, value.as_deref().unwrap_or_default());
        }
        let bytes = writer.bytes();
        let parts = writer.finish_in_parts();
        assert_eq!(parts.len(), 3);
        assert_eq!(parts.iter().map(|part| part.len() - frame::HEADER).sum::<usize>(), bytes);
        let read = |sealed: &[u8]| -> Vec<Owned> {
            let changes = ChangelogReader::open(sealed).unwrap().map(|change| change.unwrap());
            changes.map(|c| (c.group.number(), c.table.0, c.key.to_vec(), c.value.map(<[u8]>::to_vec))).collect()
        };
        assert_eq!(parts.iter().flat_map(|part| read(part)).collect::<Vec<_>>(), changes);
        assert_eq!(read(&write(&changes).unwrap()), changes);
    }

    #[test]
    fn an_entry_that_ends_early_is_an_error_and_the_end() {
        let sealed = frame::seal(Kind::Changelog, &[1, 0, 0, 5, b'k']);
        let mut reader = ChangelogReader::open(&sealed).unwrap();
        assert!(reader.next().unwrap().is_err());
        assert!(reader.next().is_none());
    }

    proptest! {
        #[test]
        fn changes_are_read_back_in_order(changes: Vec<Owned>) {
            let sealed = write(&changes);
            prop_assert_eq!(sealed.is_some(), !changes.is_empty());
            let sealed = sealed.unwrap_or_else(|| frame::seal(Kind::Changelog, &[]));
            let read: Vec<Owned> = ChangelogReader::open(&sealed)
                .unwrap()
                .map(|change| change.unwrap())
                .map(|c| (c.group.number(), c.table.0, c.key.to_vec(), c.value.map(<[u8]>::to_vec)))
                .collect();
            prop_assert_eq!(read, changes);
        }

        #[test]
        fn no_payload_makes_the_reader_panic(payload: Vec<u8>) {
            let sealed = frame::seal(Kind::Changelog, &payload);
            prop_assert!(ChangelogReader::open(&sealed).unwrap().count() <= payload.len());
        }

        #[test]
        fn numbers_of_every_length_survive(number in 0..=u64::MAX >> 1) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            prop_assert_eq!(take_varint(&bytes), Some((number, &[][..])));
        }
    }
}
