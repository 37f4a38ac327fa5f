//! The objects that are written at a time: one for each partition, window and shard that records of a spool file belong to.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use shardflow::{EventTime, Result};

use super::archive::Range;
use super::names::{Extent, FileId};
use super::pack::{Open, PackWriter, Packed};
use super::packer::Packer;
use crate::encode::{FileEncoder, FileFormat};

/// Objects that are written at a time. When one more is begun, the one that was not written to for longest is ended; its
/// records go on in another object.
const MOST_OPEN: usize = 128;

/// What the records of an object have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) partition: &'a str,
    pub(super) window: Option<EventTime>,
    pub(super) shard: Option<&'a str>,
}

/// An object that is written.
pub(super) struct Writing<E> {
    partition: String,
    /// Which of its partition's objects it is.
    part: u32,
    pub(super) open: Open,
    pub(super) encoder: E,
    /// When it was last written to, in records.
    pub(super) touched: u64,
    /// Which records are in it, in an archive.
    pub(super) range: Option<Range>,
}

impl<E> Writing<E> {
    /// Ends it; `None`: all of its records were refused, so it is none.
    pub(super) fn end<T, F: FileFormat<T, Encoder = E>>(
        mut self,
        packer: &Packer<T, F>,
        id: FileId,
        extent: Extent,
        pack: &mut PackWriter,
    ) -> Result<Option<Packed>>
    where
        E: FileEncoder<T>,
    {
        if self.open.records() == 0 {
            return Ok(None);
        }
        let rest = self.encoder.finish()?;
        pack.append(&mut self.open, &rest)?;
        let (keys, ending) = (&packer.sets.keys, packer.format.ending());
        let key = match &self.range {
            Some(range) => keys.archived(&self.partition, range, id, self.part, &ending),
            None => keys.object(&self.partition, id, extent, self.part, &ending),
        };
        Ok(Some(self.open.done(key)))
    }
}

/// The objects that are written at a time.
pub(super) struct Groups<E> {
    /// By what their records have in common, as text.
    writing: BTreeMap<String, Writing<E>>,
    /// How many objects of a partition were begun.
    parts: HashMap<String, u32>,
    /// What was looked for last.
    name: String,
    /// Bytes that encoders hold together.
    pub(super) held: usize,
}

impl<E> Default for Groups<E> {
    fn default() -> Self {
        Self { writing: BTreeMap::new(), parts: HashMap::new(), name: String::new(), held: 0 }
    }
}

impl<E> Groups<E> {
    /// Whether there is an object for such records.
    pub(super) fn find(&mut self, group: Named<'_>) -> bool {
        self.name.clear();
        self.name.push_str(group.partition);
        // Neither a partition nor a number has a line break, and the shard comes last. Writing to a string does not fail.
        let window = group.window.map_or(0, EventTime::as_millis);
        let _ = write!(self.name, "\n{window}\n{}", group.shard.unwrap_or_default());
        self.writing.contains_key(&self.name)
    }

    /// The object that was looked for, or begun.
    pub(super) fn found(&mut self) -> Option<&mut Writing<E>> {
        self.writing.get_mut(&self.name)
    }

    /// Takes out the object that was not written to for longest, where there are too many.
    pub(super) fn make_room<T>(&mut self) -> Option<Writing<E>>
    where
        E: FileEncoder<T>,
    {
        if self.writing.len() < MOST_OPEN {
            return None;
        }
        let oldest = self.writing.iter().min_by_key(|(_, writing)| writing.touched)?.0.clone();
        let oldest = self.writing.remove(&oldest)?;
        self.held = self.held.saturating_sub(oldest.encoder.buffered());
        Some(oldest)
    }

    /// Begins the object that was looked for.
    pub(super) fn begin<T>(&mut self, group: Named<'_>, encoder: E)
    where
        E: FileEncoder<T>,
    {
        let partition = group.partition.to_owned();
        let next = self.parts.entry(partition.clone()).or_default();
        let part = *next;
        *next = next.saturating_add(1);
        self.held = self.held.saturating_add(encoder.buffered());
        let range = group.shard.map(Range::of);
        let writing = Writing { partition, part, open: Open::new(), encoder, touched: 0, range };
        self.writing.insert(self.name.clone(), writing);
    }

    /// Has the object that holds most give it to the pack. `false`: there is nothing to gain.
    pub(super) fn relieve<T>(&mut self, pack: &mut PackWriter) -> Result<bool>
    where
        E: FileEncoder<T>,
    {
        let Some(largest) = self.writing.values_mut().max_by_key(|writing| writing.encoder.buffered()) else {
            return Ok(false);
        };
        let before = largest.encoder.buffered();
        largest.encoder.flush();
        let ready = largest.encoder.take();
        pack.append(&mut largest.open, &ready)?;
        let after = largest.encoder.buffered();
        self.held = self.held.saturating_sub(before).saturating_add(after);
        Ok(after < before)
    }

    /// All of them, in the order of what their records have in common.
    pub(super) fn into_all(self) -> impl Iterator<Item = Writing<E>> {
        self.writing.into_values()
    }
}
