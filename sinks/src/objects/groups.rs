//! The objects that are written at a time: one for each partition, window and shard that records of a spool file belong to.

use std::collections::HashMap;
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
    /// What its records have in common, as text.
    name: String,
    partition: String,
    window: Option<EventTime>,
    shard: Option<String>,
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
    fn is_of(&self, group: Named<'_>) -> bool {
        self.window == group.window && self.partition == group.partition && self.shard.as_deref() == group.shard
    }

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
    writing: Vec<Writing<E>>,
    /// The place of each object among those that are written, by its name.
    places: HashMap<String, usize>,
    /// The place of the one that was found or begun last. Most records go where the one before them went.
    last: usize,
    /// How many objects of a partition were begun.
    parts: HashMap<String, u32>,
    /// The name that was looked for last.
    name: String,
    /// Bytes that encoders hold together.
    pub(super) held: usize,
}

impl<E> Default for Groups<E> {
    fn default() -> Self {
        let (places, parts) = (HashMap::new(), HashMap::new());
        Self { writing: Vec::new(), places, last: 0, parts, name: String::new(), held: 0 }
    }
}

impl<E> Groups<E> {
    /// Whether there is an object for such records.
    pub(super) fn find(&mut self, group: Named<'_>) -> bool {
        if self.writing.get(self.last).is_some_and(|last| last.is_of(group)) {
            return true;
        }
        self.name.clear();
        self.name.push_str(group.partition);
        // Neither a partition nor a number has a line break, and the shard comes last. Writing to a string does not fail.
        let window = group.window.map_or(0, EventTime::as_millis);
        let _ = write!(self.name, "\n{window}\n{}", group.shard.unwrap_or_default());
        let place = self.places.get(&self.name);
        self.last = place.copied().unwrap_or(self.last);
        place.is_some()
    }

    /// The object that was found, or begun.
    pub(super) fn found(&mut self) -> Option<&mut Writing<E>> {
        self.writing.get_mut(self.last)
    }

    /// Takes out the object that was not written to for longest, where there are too many.
    pub(super) fn make_room<T>(&mut self) -> Option<Writing<E>>
    where
        E: FileEncoder<T>,
    {
        if self.writing.len() < MOST_OPEN {
            return None;
        }
        let (place, _) = self.writing.iter().enumerate().min_by_key(|(_, writing)| writing.touched)?;
        let oldest = self.writing.swap_remove(place);
        self.places.remove(&oldest.name);
        if let Some(moved) = self.writing.get(place) {
            self.places.insert(moved.name.clone(), place);
        }
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
        self.last = self.writing.len();
        self.places.insert(self.name.clone(), self.last);
        self.writing.push(Writing {
            name: self.name.clone(),
            partition,
            window: group.window,
            shard: group.shard.map(ToOwned::to_owned),
            part,
            open: Open::new(),
            encoder,
            touched: 0,
            range: group.shard.map(Range::of),
        });
    }

    /// Has the object that holds most give it to the pack. `false`: there is nothing to gain.
    pub(super) fn relieve<T>(&mut self, pack: &mut PackWriter) -> Result<bool>
    where
        E: FileEncoder<T>,
    {
        let Some(largest) = self.writing.iter_mut().max_by_key(|writing| writing.encoder.buffered()) else {
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
    pub(super) fn into_all(mut self) -> impl Iterator<Item = Writing<E>> {
        self.writing.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        self.writing.into_iter()
    }
}
