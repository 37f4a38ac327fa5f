//! Turns a sealed spool file into a pack: reads its committed records in order, distributes them over partitions, and has
//! each partition written by the format.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fail::fail_point;
use serde_json::json;
use shardflow::sink::Refused;
use shardflow::{Error, Record, Result};

use super::folder::Folder;
use super::format::{FileEncoder, FileFormat};
use super::keys::{Keys, partition};
use super::names::{Extent, FileId, Named};
use super::pack::{Index, Open, PackWriter, Packed};
use super::settings::Rejected;
use super::spool::{Spool, Spooled};
use crate::format::{Format, Ndjson};

/// Bytes that an encoder may have ready before they are taken.
const READY: usize = 256 << 10;

/// Objects that are written at a time. When one more is begun, the one that was not written to for longest is ended; its
/// partition goes on in another object.
const MOST_OPEN: usize = 256;

/// Which partition a record belongs to.
pub(super) type Partition<T> = Arc<dyn Fn(&T) -> String + Send + Sync>;

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
    pub(super) partition: Option<Partition<T>>,
    pub(super) rejected: Rejected,
    pub(super) shape: u32,
    pub(super) job: String,
    pub(super) step: String,
}

/// An object that is written.
struct Writing<E> {
    open: Open,
    encoder: E,
    /// When it was last written to, in records.
    touched: u64,
}

/// A set under way.
struct Set<'a, T, F: FileFormat<T>> {
    packer: &'a Packer<T, F>,
    id: FileId,
    extent: Extent,
    pack: PackWriter,
    writing: BTreeMap<String, Writing<F::Encoder>>,
    /// How many objects of a partition were begun, where one was ended early.
    parts: HashMap<String, u32>,
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
            writing: BTreeMap::new(),
            parts: HashMap::new(),
            done: Vec::new(),
            refused: None,
            records: 0,
        };
        while spool.next_block()? {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::sink("could not pack a spool file: the job ends"));
            }
            for record in spool.records::<T>() {
                match record? {
                    Spooled::Record(record) => set.write(&record)?,
                    Spooled::Refused(refused) => {
                        set.records = set.records.saturating_add(1);
                        set.refuse(&refused)?;
                    }
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
        self.records = self.records.saturating_add(1);
        let wanted = self.packer.partition.as_ref().map_or(Ok(String::new()), |of| partition(&of(record)));
        let written = match wanted {
            Ok(partition) => self.write_to(partition, record)?,
            Err(reason) => Err(reason),
        };
        let Err(error) = written else { return Ok(()) };
        let record = serde_json::to_string(record).unwrap_or_default();
        self.refuse(&Refused { error, record })
    }

    /// Writes a record to its partition. The inner error says why the format refuses it.
    fn write_to(&mut self, partition: String, record: &T) -> Result<Result<(), String>> {
        if !self.writing.contains_key(&partition) {
            self.begin(partition.clone())?;
        }
        let records = self.records;
        let Some(writing) = self.writing.get_mut(&partition) else {
            return Err(Error::internal("could not find the object that was begun"));
        };
        writing.touched = records;
        if let Err(reason) = writing.encoder.write(record) {
            return Ok(Err(reason));
        }
        writing.open.count();
        if writing.encoder.buffered() >= READY {
            let ready = writing.encoder.take();
            self.pack.append(&mut writing.open, &ready)?;
        }
        Ok(Ok(()))
    }

    fn begin(&mut self, partition: String) -> Result<()> {
        if self.writing.len() >= MOST_OPEN {
            let oldest = self.writing.iter().min_by_key(|(_, writing)| writing.touched);
            if let Some(oldest) = oldest.map(|(partition, _)| partition.clone()) {
                self.end(&oldest)?;
            }
        }
        let part = self.parts.get(&partition).copied().unwrap_or(0);
        let ending = self.packer.format.ending();
        let key = self.packer.keys.object(&partition, self.id, self.extent, part, &ending);
        let encoder = self.packer.format.encoder()?;
        let writing = Writing { open: Open::new(key.as_ref().to_owned()), encoder, touched: self.records };
        self.writing.insert(partition, writing);
        Ok(())
    }

    fn end(&mut self, partition: &str) -> Result<()> {
        let Some(mut writing) = self.writing.remove(partition) else { return Ok(()) };
        let part = self.parts.entry(partition.to_owned()).or_default();
        // An object that every record of its partition was refused for is none.
        if writing.open.records() == 0 {
            return Ok(());
        }
        *part = part.saturating_add(1);
        let rest = writing.encoder.finish()?;
        self.pack.append(&mut writing.open, &rest)?;
        self.done.push(writing.open.done());
        Ok(())
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
        let key = || self.packer.keys.rejected(self.id, self.extent).as_ref().to_owned();
        let (open, lines) = self.refused.get_or_insert_with(|| (Open::new(key()), Vec::new()));
        open.count();
        Ndjson.write(refused, lines).map_err(|cause| Error::internal("could not write a refusal").caused_by(cause))?;
        if lines.len() >= READY {
            self.pack.append(open, lines)?;
            lines.clear();
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        let open: Vec<String> = self.writing.keys().cloned().collect();
        open.iter().try_for_each(|partition| self.end(partition))?;
        if let Some((mut open, lines)) = self.refused.take() {
            self.pack.append(&mut open, &lines)?;
            self.done.push(open.done());
        }
        let mut manifest = Open::new(self.packer.keys.manifest(self.id, self.extent).as_ref().to_owned());
        let text = self.manifest();
        self.pack.append(&mut manifest, text.as_bytes())?;
        let index = Index {
            id: self.id,
            extent: self.extent,
            place: self.packer.place.clone(),
            records: self.records,
            objects: self.done,
            manifest: manifest.done(),
        };
        self.pack.finish(&index)
    }

    /// What readers are told of the set.
    fn manifest(&self) -> String {
        let object = |object: &Packed| {
            let checksum = object.checksum();
            json!({"name": object.key, "bytes": object.bytes, "records": object.records, "md5": checksum})
        };
        let mut text = json!({
            "job": self.packer.job,
            "step": self.packer.step,
            "incarnation": self.id.incarnation,
            "worker": self.id.worker,
            "serial": self.id.serial,
            "first_epoch": self.extent.first.number(),
            "last_epoch": self.extent.last.number(),
            "records": self.records,
            "objects": self.done.iter().map(object).collect::<Vec<_>>(),
        })
        .to_string();
        text.push('\n');
        text
    }
}
