//! Turns a sealed spool file into a pack. Of records: reads them in order, distributes them over objects, and has each written
//! by the format. Of lines: they are an object's bytes already, so an index behind them makes the file a pack.
//!
//! *In memory*: a block of the spool file; what encoders hold, together no more than [`Packer::most_held`] and one record, since
//! the largest is made to give away what it holds where there is more; and what [`MOST_OPEN`] streams of the compression need.

use std::sync::atomic::{AtomicBool, Ordering};

use fail::fail_point;
use shardflow::sink::Refused;
use shardflow::{Error, Record, Result};

use super::archive::Archive;
use super::groups::{Groups, Named as Group};
use super::names::{Extent, FileId, Named};
use super::pack::{Open, PackWriter, Packed};
use super::sets::Sets;
use super::settings::Rejected;
use super::spool::records::{Spool, Spooled};
use super::spool::{self, Blocks, Header, lines};
use super::windows::Span;
use crate::encode::{FileEncoder, FileFormat};
use crate::folder::Folder;
use crate::format::{Format, Ndjson};
use crate::partition::{Partitions, TimeOf};

/// Bytes that an encoder may have ready before they are taken.
pub(super) const READY: usize = 256 << 10;

/// Makes a pack of a spool file.
pub(super) trait Packing: Send + Sync + 'static {
    /// Ends early, with an error, once `stop` is set.
    ///
    /// # Errors
    /// The spool file cannot be read or decoded, the pack not written, or a record has no form and no place.
    fn pack(&self, id: FileId, extent: Extent, stop: &AtomicBool) -> Result<()>;
}

pub(super) struct Packer<T, F> {
    pub(super) folder: Folder,
    pub(super) sets: Sets,
    pub(super) format: F,
    pub(super) partitions: Option<Partitions<T>>,
    /// Where the event time of a record is, and how files are divided by it.
    pub(super) windows: Option<(TimeOf<T>, Span)>,
    pub(super) archive: Option<Archive<T>>,
    pub(super) rejected: Rejected,
    /// The most bytes that encoders hold together.
    pub(super) most_held: usize,
    pub(super) shape: u32,
}

/// A set under way.
struct Set<'a, T, F: FileFormat<T>> {
    packer: &'a Packer<T, F>,
    id: FileId,
    extent: Extent,
    pack: PackWriter,
    /// Its own: it remembers the last record's time.
    partitions: Option<Partitions<T>>,
    groups: Groups<F::Encoder>,
    done: Vec<Packed>,
    refused: Option<(Open, Vec<u8>)>,
    records: u64,
}

impl<T: Record, F: FileFormat<T>> Packing for Packer<T, F> {
    fn pack(&self, id: FileId, extent: Extent, stop: &AtomicBool) -> Result<()> {
        fail_point!("sink-objects::before-pack", |_| Err(Error::sink("stopped before packing")));
        let (header, blocks) = spool::open(&self.folder, Named::Sealed(id, extent).render(), extent.length)?;
        match header {
            Header::Records { shape } => self.pack_records(Spool::new(blocks, shape, self.shape)?, id, extent, stop),
            Header::Lines { ending } => self.pack_lines(blocks, &ending, id, extent, stop),
        }
    }
}

impl<T: Record, F: FileFormat<T>> Packer<T, F> {
    fn pack_records(&self, mut spool: Spool, id: FileId, extent: Extent, stop: &AtomicBool) -> Result<()> {
        let name = Named::Packing(id, extent).render();
        let mut set = Set {
            packer: self,
            id,
            extent,
            pack: PackWriter::create(&self.folder, name.clone())?,
            partitions: self.partitions.clone(),
            groups: Groups::default(),
            done: Vec::new(),
            refused: None,
            records: 0,
        };
        while spool.next_block()? {
            go_on(stop)?;
            for record in spool.records::<T>() {
                set.records = set.records.saturating_add(1);
                match record? {
                    Spooled::Record(record) => set.write(&record)?,
                    Spooled::Refused(refused) => set.refuse(&refused)?,
                }
            }
        }
        set.finish()?;
        self.name_pack(&name, id, extent)?;
        self.folder.remove(&Named::Sealed(id, extent).render())
    }

    /// The lines stay where they are. What an attempt that died has put behind them is cut off first.
    fn pack_lines(
        &self,
        mut blocks: Blocks,
        ending: &str,
        id: FileId,
        extent: Extent,
        stop: &AtomicBool,
    ) -> Result<()> {
        let name = Named::Sealed(id, extent).render();
        let pack = PackWriter::extend(&self.folder, name.clone(), extent.length)?;
        let (mut taken, mut refused) = (Open::new(), Open::new());
        while let Some(held) = lines::next(&mut blocks)? {
            go_on(stop)?;
            let open = match held.kind {
                lines::Kind::Taken => &mut taken,
                lines::Kind::Refused => &mut refused,
            };
            open.adopt(held.start, held.lines, held.records);
        }
        let keys = &self.sets.keys;
        let names = [keys.object("", id, extent, 0, ending), keys.rejected(id, extent).as_ref().to_owned()];
        let objects = [taken, refused].into_iter().zip(names).filter(|(open, _)| open.records() > 0);
        let objects: Vec<_> = objects.map(|(open, name)| open.done(name)).collect();
        let records = objects.iter().map(|object| object.records).fold(0, u64::saturating_add);
        self.sets.complete(pack, id, extent, records, objects)?;
        self.name_pack(&name, id, extent)
    }

    /// Gives a whole pack its name, from which on it is shipped as it is.
    fn name_pack(&self, name: &str, id: FileId, extent: Extent) -> Result<()> {
        fail_point!("sink-objects::before-pack-is-named", |_| Err(Error::sink("stopped before a pack had its name")));
        self.folder.rename(name, &Named::Pack(id, extent).render())?;
        self.folder.sync()?;
        fail_point!("sink-objects::after-pack", |_| Err(Error::sink("stopped after packing")));
        Ok(())
    }
}

fn go_on(stop: &AtomicBool) -> Result<()> {
    match stop.load(Ordering::Relaxed) {
        true => Err(Error::sink("could not pack a spool file: the job ends")),
        false => Ok(()),
    }
}

impl<T: Record, F: FileFormat<T>> Set<'_, T, F> {
    fn write(&mut self, record: &T) -> Result<()> {
        let Err(error) = self.write_to_its_group(record)? else { return Ok(()) };
        let record = serde_json::to_string(record).unwrap_or_default();
        self.refuse(&Refused { error, record })
    }

    /// Writes a record to its object. The inner error says why it is refused.
    fn write_to_its_group(&mut self, record: &T) -> Result<Result<(), String>> {
        let packer = self.packer;
        let origin = packer.archive.as_ref().map(|archive| (archive.origin)(record));
        let window = packer.windows.as_ref().map(|(time, span)| span.start(time(record)));
        let sequence = match origin.map(|origin| super::archive::digits(origin.sequence)).transpose() {
            Ok(sequence) => sequence,
            Err(reason) => return Ok(Err(reason)),
        };
        let partition = match self.partitions.as_mut().map(|partitions| partitions.path(record)).transpose() {
            Ok(partition) => partition.unwrap_or_default(),
            Err(reason) => return Ok(Err(reason)),
        };
        let group = Group { partition, window, shard: origin.map(|origin| origin.shard) };
        if !self.groups.find(group) {
            if let Some(oldest) = self.groups.make_room::<T>() {
                self.done.extend(oldest.end(packer, self.id, self.extent, &mut self.pack)?);
            }
            self.groups.begin::<T>(group, packer.format.encoder()?);
        }
        let Some(writing) = self.groups.found() else {
            return Err(Error::internal("could not find the object that was begun"));
        };
        writing.touched = self.records;
        let before = writing.encoder.buffered();
        let written = writing.encoder.write(record);
        if written.is_ok() {
            writing.open.count();
            if let (Some(range), Some(sequence)) = (&mut writing.range, sequence) {
                range.take(sequence);
            }
        }
        if writing.encoder.ready() >= READY {
            let ready = writing.encoder.take();
            self.pack.append(&mut writing.open, &ready)?;
        }
        let after = writing.encoder.buffered();
        self.groups.held = self.groups.held.saturating_add(after).saturating_sub(before);
        while self.groups.held > packer.most_held && self.groups.relieve::<T>(&mut self.pack)? {}
        Ok(written)
    }

    fn refuse(&mut self, refused: &Refused) -> Result<()> {
        if self.packer.rejected == Rejected::Stop {
            let Refused { error, record } = refused;
            let record: String = record.chars().take(200).collect();
            return Err(Error::sink(format!(
                "could not write a committed record: {error}; give the sink a place for such records (keep_rejected); it is \
                 {record:?}"
            )));
        }
        let (open, lines) = self.refused.get_or_insert_with(|| (Open::new(), Vec::new()));
        open.count();
        Ndjson.write(refused, lines).map_err(|cause| Error::internal("could not write a refusal").caused_by(cause))?;
        if lines.len() >= READY {
            self.pack.append(open, lines)?;
            lines.clear();
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        for writing in std::mem::take(&mut self.groups).into_all() {
            self.done.extend(writing.end(self.packer, self.id, self.extent, &mut self.pack)?);
        }
        if let Some((mut open, lines)) = self.refused.take() {
            self.pack.append(&mut open, &lines)?;
            self.done.push(open.done(self.packer.sets.keys.rejected(self.id, self.extent).as_ref().to_owned()));
        }
        self.packer.sets.complete(self.pack, self.id, self.extent, self.records, self.done)
    }
}
