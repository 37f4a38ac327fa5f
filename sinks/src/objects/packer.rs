//! Turns a sealed spool file into a pack: reads its committed records in order, distributes them over objects, and has each
//! written by the format.
//!
//! *In memory*: a block of the spool file; what encoders hold, together no more than [`Packer::most_held`] and one record, since
//! the largest is made to give away what it holds where there is more; and what [`MOST_OPEN`] streams of the compression need.

use std::sync::atomic::{AtomicBool, Ordering};

use fail::fail_point;
use shardflow::sink::Refused;
use shardflow::{Error, Record, Result};

use super::archive::Archive;
use super::groups::{Groups, Named as Group};
use super::keys::Keys;
use super::manifest::{EpochRange, Manifest, ManifestObject};
use super::names::{Extent, FileId, Named};
use super::pack::{Index, Open, PackWriter, Packed};
use super::settings::Rejected;
use super::spool::{Spool, Spooled};
use super::windows::Span;
use crate::encode::{FileEncoder, FileFormat};
use crate::folder::Folder;
use crate::format::{Format, Ndjson};
use crate::partition::{Partitions, TimeOf, values};

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
    pub(super) keys: Keys,
    pub(super) place: String,
    pub(super) format: F,
    pub(super) partitions: Option<Partitions<T>>,
    /// Where the event time of a record is, and how files are divided by it.
    pub(super) windows: Option<(TimeOf<T>, Span)>,
    pub(super) archive: Option<Archive<T>>,
    pub(super) rejected: Rejected,
    /// The most bytes that encoders hold together.
    pub(super) most_held: usize,
    pub(super) shape: u32,
    pub(super) job: String,
    pub(super) step: String,
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
        let name = Named::Packing(id, extent).render();
        let mut spool = Spool::open(&self.folder, Named::Sealed(id, extent).render(), extent.length, self.shape)?;
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
            if stop.load(Ordering::Relaxed) {
                return Err(Error::sink("could not pack a spool file: the job ends"));
            }
            for record in spool.records::<T>() {
                set.records = set.records.saturating_add(1);
                match record? {
                    Spooled::Record(record) => set.write(&record)?,
                    Spooled::Refused(refused) => set.refuse(&refused)?,
                }
            }
        }
        set.finish()?;
        fail_point!("sink-objects::before-pack-is-named", |_| Err(Error::sink("stopped before a pack had its name")));
        self.folder.rename(&name, &Named::Pack(id, extent).render())?;
        self.folder.sync()?;
        fail_point!("sink-objects::after-pack", |_| Err(Error::sink("stopped after packing")));
        self.folder.remove(&Named::Sealed(id, extent).render())
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
        let (keys, id, extent) = (&self.packer.keys, self.id, self.extent);
        if let Some((mut open, lines)) = self.refused.take() {
            self.pack.append(&mut open, &lines)?;
            self.done.push(open.done(keys.rejected(id, extent).as_ref().to_owned()));
        }
        self.done.sort_by(|one, other| one.key.cmp(&other.key));
        let text = self.manifest().to_json()?;
        let mut manifest = Open::new();
        self.pack.append(&mut manifest, &text)?;
        let index = Index {
            id,
            extent,
            place: self.packer.place.clone(),
            records: self.records,
            objects: self.done,
            manifest: manifest.done(keys.manifest(id, extent).as_ref().to_owned()),
        };
        self.pack.finish(&index)
    }

    /// What readers are told of the set.
    fn manifest(&self) -> Manifest {
        let object = |object: &Packed| ManifestObject {
            name: object.key.clone(),
            bytes: object.bytes,
            records: object.records,
            md5: object.checksum(),
            partition: values(self.packer.keys.partition_of(&object.key)).into_iter().collect(),
        };
        let (format, version) = Manifest::format();
        Manifest {
            format,
            version,
            job: self.packer.job.clone(),
            step: self.packer.step.clone(),
            incarnation: self.id.incarnation,
            worker: self.id.worker,
            serial: self.id.serial,
            epochs: EpochRange { first: self.extent.first, last: self.extent.last },
            records: self.records,
            objects: self.done.iter().map(object).collect(),
        }
    }
}
