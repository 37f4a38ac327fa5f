//! Records as a source hands them over.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

use super::Position;
use crate::vocabulary::EventTime;

/// Records as a source delivers them: one shared buffer and where each record lies in it.
#[derive(Debug, Clone)]
pub struct RawBatch {
    buffer: Vec<u8>,
    // End of each record's bytes and the start; a separator between them is not part of either.
    spans: Vec<(u32, u32)>,
    positions: Positions,
    // What the source says of each record; empty where it says nothing of any.
    metas: Vec<RecordMeta>,
    faults: Vec<(u32, String)>,
    after: Position,
}

/// What a source says of a record beside its bytes, as far as it knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordMeta {
    /// The key that its producer gave it to be spread by.
    pub partition_key: Option<String>,
    /// The place in the hash range that its producer gave it instead: a decimal number.
    pub explicit_hash_key: Option<String>,
    /// When it arrived at the source's service, by the service's clock. Not monotonic.
    pub arrived: Option<EventTime>,
    /// Labels that its producer gave it, by key; some have no value.
    pub tags: BTreeMap<String, Option<String>>,
}

#[derive(Debug, Clone)]
enum Positions {
    /// Record i stands at `base` + its start in the buffer.
    Offsets { base: u64 },
    /// One text a record, all in one, and where each ends: an allocation a record would cost more than its bytes.
    Texts { all: String, ends: Vec<u32> },
}

impl RawBatch {
    /// Records that lie in `buffer` at `spans` (start, end), where byte 0 of the buffer stands at `base` in the split.
    /// Buffers are at most 4 GiB.
    #[must_use]
    pub fn from_offsets(buffer: Vec<u8>, spans: Vec<(u32, u32)>, base: u64, after: Position) -> Self {
        Self { buffer, spans, positions: Positions::Offsets { base }, metas: Vec::new(), faults: Vec::new(), after }
    }

    /// An empty batch to which records with positions of their own are pushed.
    #[must_use]
    pub fn with_positions(after: Position) -> Self {
        Self {
            buffer: Vec::new(),
            spans: Vec::new(),
            positions: Positions::Texts { all: String::new(), ends: Vec::new() },
            metas: Vec::new(),
            faults: Vec::new(),
            after,
        }
    }

    /// Adds a record, which stands at `position` as it prints itself. Only for batches made by
    /// [`RawBatch::with_positions`].
    pub fn push(&mut self, bytes: &[u8], position: impl fmt::Display) {
        let start = self.buffer.len() as u32;
        self.buffer.extend_from_slice(bytes);
        self.spans.push((start, self.buffer.len() as u32));
        if let Positions::Texts { all, ends } = &mut self.positions {
            // Writing to a string cannot fail; a position that cannot be printed is an empty one.
            let _ = write!(all, "{position}");
            ends.push(all.len() as u32);
        }
    }

    /// Adds a record with what the source says of it. Only for batches made by [`RawBatch::with_positions`], and for all
    /// records of a batch or none.
    pub fn push_with(&mut self, bytes: &[u8], position: impl fmt::Display, meta: RecordMeta) {
        self.push(bytes, position);
        self.metas.push(meta);
    }

    /// Marks record `index` as one the source itself could not deliver whole; it goes to the rejected output with `error`.
    pub fn mark_fault(&mut self, index: usize, error: impl Into<String>) {
        self.faults.push((index as u32, error.into()));
    }

    /// Moves the resume position, when records were pushed after the batch was begun.
    pub fn set_after(&mut self, after: Position) {
        self.after = after;
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether it has no record. An empty batch still moves the split's position.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Size in memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The bytes of record `index`; empty where there is none.
    #[must_use]
    pub fn record(&self, index: usize) -> &[u8] {
        let Some(&(start, end)) = self.spans.get(index) else { return &[] };
        self.buffer.get(start as usize..end as usize).unwrap_or(&[])
    }

    /// The records, in order.
    pub fn records(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.spans.iter().map(|&(start, end)| self.buffer.get(start as usize..end as usize).unwrap_or(&[]))
    }

    /// What is wrong with record `index`, where the source marked it.
    #[must_use]
    pub fn fault(&self, index: usize) -> Option<&str> {
        self.faults.iter().find(|(at, _)| *at as usize == index).map(|(_, error)| error.as_str())
    }

    /// Whether any record is marked.
    #[must_use]
    pub fn has_faults(&self) -> bool {
        !self.faults.is_empty()
    }

    /// What the source says of record `index`, where it says anything.
    #[must_use]
    pub fn meta(&self, index: usize) -> Option<&RecordMeta> {
        self.metas.get(index)
    }

    /// Where record `index` stands in its split, in the source's own notation.
    #[must_use]
    pub fn position(&self, index: usize) -> String {
        match &self.positions {
            Positions::Offsets { base } => {
                let start = self.spans.get(index).map_or(0, |span| u64::from(span.0));
                base.saturating_add(start).to_string()
            }
            Positions::Texts { all, ends } => {
                let end_of = |index: usize| ends.get(index).map(|end| *end as usize);
                let start = index.checked_sub(1).map_or(Some(0), end_of);
                let text = start.zip(end_of(index)).and_then(|(start, end)| all.get(start..end));
                text.unwrap_or_default().to_owned()
            }
        }
    }

    /// Where to go on after the last record.
    #[must_use]
    pub fn after(&self) -> &Position {
        &self.after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_keeps_its_own_position() {
        let mut batch = RawBatch::with_positions(Position::new("after:30"));
        batch.push(b"one", "9");
        batch.push_with(b"", 10, RecordMeta::default());
        batch.push(b"three", "");
        batch.push(b"four", "30:1");
        let seen: Vec<(String, &[u8])> = (0..5).map(|index| (batch.position(index), batch.record(index))).collect();
        let expected: [(&str, &[u8]); 5] = [("9", b"one"), ("10", b""), ("", b"three"), ("30:1", b"four"), ("", b"")];
        assert_eq!(seen, expected.map(|(position, bytes)| (position.to_owned(), bytes)));
    }
}
