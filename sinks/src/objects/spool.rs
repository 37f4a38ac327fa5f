//! The spool file: committed records in the order they came, until they are packed into objects.
//!
//! A header (what it is, its version, and the shape of the records, sealed by a checksum), then blocks. A block is its
//! payload's length (`u32`, little endian), the CRC-32 of that and the payload, and the payload: records, each as its kind
//! (one byte), its length (`u32`) and its bytes. A writer ends a block with each epoch, so a committed length never lies
//! inside one.

use std::fs::File;
use std::io::{BufReader, Read, Take};

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shardflow::sink::Refused;
use shardflow::{Error, Result};

use crate::folder::Folder;
use crate::frame;

const MAGIC: [u8; 4] = *b"SFsp";
const VERSION: u16 = 1;

/// Bytes of the header: magic, version, shape, checksum.
const HEADER: usize = 14;

/// Bytes before a block's payload.
const BLOCK: usize = 8;

/// Bytes before a record.
const RECORD: usize = 5;

/// The largest record that is spooled: 256 MiB.
const LARGEST: usize = 256 << 20;

/// A record as it was to be written.
const TAKEN: u8 = 0;

/// A record that could not be written: a [`Refused`].
const REFUSED: u8 = 1;

/// Collects records, and gives them as blocks.
#[derive(Debug)]
pub(super) struct Collected {
    /// What goes into the file next: the header where the file is new, and a block.
    bytes: Vec<u8>,
    /// Where the block begins.
    block: usize,
}

impl Collected {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; BLOCK], block: 0 }
    }

    /// Bytes of the block, 0 where it has no records.
    pub(super) fn len(&self) -> usize {
        let bytes = self.bytes.len().saturating_sub(self.block);
        if bytes > BLOCK { bytes } else { 0 }
    }

    /// Adds a record. Gives the bytes that it takes.
    ///
    /// # Errors
    /// Why it cannot be serialized. Nothing of it is left behind.
    pub(super) fn push(&mut self, record: &impl Serialize) -> Result<usize, String> {
        self.add(TAKEN, record)
    }

    /// Adds a record that could not be written.
    pub(super) fn push_refused(&mut self, refused: &Refused) -> Result<usize, String> {
        self.add(REFUSED, refused)
    }

    fn add(&mut self, kind: u8, record: &impl Serialize) -> Result<usize, String> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[kind, 0, 0, 0, 0]);
        let added = self.encode(start, record);
        if added.is_err() {
            self.bytes.truncate(start);
        }
        added
    }

    fn encode(&mut self, start: usize, record: &impl Serialize) -> Result<usize, String> {
        bincode::serialize_into(&mut self.bytes, record).map_err(|error| error.to_string())?;
        let length = self.bytes.len().saturating_sub(start).saturating_sub(RECORD);
        let too_long = || format!("its {length} bytes are more than the {LARGEST} that fit");
        let bytes = u32::try_from(length).ok().filter(|_| length <= LARGEST).ok_or_else(too_long)?;
        let field = self.bytes.get_mut(start.saturating_add(1)..start.saturating_add(RECORD));
        field.ok_or("its place is gone")?.copy_from_slice(&bytes.to_le_bytes());
        Ok(length.saturating_add(RECORD))
    }

    /// Ends the block. What it gives is to be appended to the file; `None` where there is no record.
    pub(super) fn finish(&mut self, is_new: bool, shape: u32) -> Option<Vec<u8>> {
        if self.len() == 0 {
            return None;
        }
        let mut bytes = std::mem::replace(&mut self.bytes, vec![0; BLOCK]);
        // A block is ended long before its length no longer fits: it holds a buffer and one record more.
        let length = u32::try_from(bytes.len().saturating_sub(BLOCK)).unwrap_or(u32::MAX).to_le_bytes();
        let mut sum = crc32fast::Hasher::new();
        sum.update(&length);
        sum.update(bytes.get(BLOCK..).unwrap_or_default());
        let head = length.into_iter().chain(sum.finalize().to_le_bytes());
        bytes.iter_mut().zip(head).for_each(|(place, byte)| *place = byte);
        if is_new {
            bytes.splice(0..0, frame::seal(MAGIC, VERSION, &shape.to_le_bytes()));
        }
        Some(bytes)
    }
}

/// One record of a spool file.
#[derive(Debug)]
pub(super) enum Spooled<T> {
    /// To be written.
    Record(T),
    /// To be shown as refused.
    Refused(Refused),
}

/// Reads the committed part of a spool file.
pub(super) struct Spool {
    reader: Take<BufReader<File>>,
    folder: Folder,
    name: String,
    /// The payload of the block that was read last.
    block: Vec<u8>,
}

impl Spool {
    /// Opens `name`, of which `length` bytes are committed.
    ///
    /// # Errors
    /// It cannot be read, or is of records of another shape.
    pub(super) fn open(folder: &Folder, name: String, length: u64, shape: u32) -> Result<Self> {
        let reader = BufReader::with_capacity(256 << 10, folder.open_file(&name)?).take(length);
        let mut spool = Self { reader, folder: folder.clone(), name, block: Vec::new() };
        let mut header = [0; HEADER];
        spool.fill(&mut header)?;
        let payload = frame::open("the header of a spool file", MAGIC, VERSION, &header);
        let found = payload.map_err(|error| spool.damaged("its header").caused_by(error))?;
        if found != shape.to_le_bytes() {
            return Err(Error::state(format!(
                "could not read \"{}\": it holds committed records of another type than this program's (their fields \
                 differ); run the program that wrote it once more, which ships them at its start",
                spool.path()
            )));
        }
        Ok(spool)
    }

    fn path(&self) -> String {
        self.folder.path_of(&self.name).display().to_string()
    }

    fn damaged(&self, what: &str) -> Error {
        Error::state(format!("could not read committed records in \"{}\": {what} is damaged", self.path()))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.reader.read_exact(bytes).map_err(|cause| self.folder.failed("read", &self.name, cause))
    }

    /// Reads the next block. `false` at the end of what is committed.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub(super) fn next_block(&mut self) -> Result<bool> {
        if self.reader.limit() == 0 {
            return Ok(false);
        }
        let (mut length, mut sum) = ([0; 4], [0; 4]);
        self.fill(&mut length)?;
        self.fill(&mut sum)?;
        let bytes = u32::from_le_bytes(length);
        if u64::from(bytes) > self.reader.limit() {
            return Err(self.damaged("a block's length"));
        }
        let mut block = std::mem::take(&mut self.block);
        block.resize(bytes as usize, 0);
        self.fill(&mut block)?;
        let mut found = crc32fast::Hasher::new();
        found.update(&length);
        found.update(&block);
        if found.finalize().to_le_bytes() != sum {
            return Err(self.damaged("a block"));
        }
        self.block = block;
        Ok(true)
    }

    /// The records of the block that was read last.
    pub(super) fn records<T: DeserializeOwned>(&self) -> impl Iterator<Item = Result<Spooled<T>>> {
        let mut rest = self.block.as_slice();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let cut = split(rest).ok_or_else(|| self.damaged("a record's length"));
            let (kind, bytes, left) = match cut {
                Ok(cut) => cut,
                Err(error) => {
                    rest = &[];
                    return Some(Err(error));
                }
            };
            rest = left;
            Some(self.decode(kind, bytes))
        })
    }

    fn decode<T: DeserializeOwned>(&self, kind: u8, bytes: &[u8]) -> Result<Spooled<T>> {
        // As `bincode::serialize` writes, but nothing may be left over: that would be another type.
        let options = bincode::DefaultOptions::new().with_fixint_encoding();
        let read = match kind {
            TAKEN => options.deserialize(bytes).map(Spooled::Record),
            REFUSED => options.deserialize(bytes).map(Spooled::Refused),
            _ => return Err(self.damaged("a record's kind")),
        };
        read.map_err(|cause| {
            Error::state(format!(
                "could not decode a committed record in \"{}\": was its type changed? then run the program that wrote it \
                 once more, which ships it at its start",
                self.path()
            ))
            .caused_by(cause)
        })
    }
}

/// The first record of a payload, and what follows it.
fn split(payload: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (kind, rest) = payload.split_first()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (bytes, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((*kind, bytes, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NAME: &str = "spool";

    fn written(blocks: &[Vec<String>]) -> Vec<u8> {
        let (mut collected, mut bytes) = (Collected::new(), Vec::new());
        for records in blocks {
            for record in records {
                collected.push(record).unwrap();
            }
            let is_new = bytes.is_empty();
            bytes.extend(collected.finish(is_new, 7).unwrap_or_default());
        }
        bytes
    }

    fn read(bytes: &[u8], length: usize, shape: u32) -> Result<Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(NAME), bytes).unwrap();
        let folder = Folder::at(dir.path().to_owned());
        let mut spool = Spool::open(&folder, NAME.to_owned(), length as u64, shape)?;
        let mut all = Vec::new();
        while spool.next_block()? {
            for record in spool.records::<String>() {
                match record? {
                    Spooled::Record(text) => all.push(text),
                    Spooled::Refused(refused) => panic!("{refused:?}"),
                }
            }
        }
        Ok(all)
    }

    proptest! {
        #[test]
        fn records_come_back_in_their_order(blocks in prop::collection::vec(prop::collection::vec(".{0,9}", 1..5), 1..5)) {
            let bytes = written(&blocks);
            prop_assert_eq!(read(&bytes, bytes.len(), 7).unwrap(), blocks.concat());
        }
    }

    #[test]
    fn what_is_not_committed_is_not_read() {
        let one = written(&[vec!["a".to_owned()]]);
        let both = written(&[vec!["a".to_owned()], vec!["b".to_owned()]]);
        assert_eq!(read(&both, one.len(), 7).unwrap(), ["a"]);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_an_error() {
        let bytes = written(&[vec!["first".to_owned(), "second".to_owned()], vec!["third".to_owned()]]);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x20;
            assert!(read(&damaged, bytes.len(), 7).is_err(), "byte {at}");
            assert!(read(&bytes[..at], bytes.len(), 7).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn records_of_another_shape_are_refused_by_name() {
        let bytes = written(&[vec!["a".to_owned()]]);
        let error = read(&bytes, bytes.len(), 8).unwrap_err();
        assert_eq!(error.kind(), shardflow::ErrorKind::State);
        assert!(error.to_string().contains("of another type than this program's"), "{error}");
    }

    /// Such files lie beside users' states: they stay readable, and are still what we write.
    #[test]
    fn version_1_stays_readable() {
        let blocks = [vec!["first".to_owned(), "second".to_owned()], vec!["third".to_owned()]];
        let stored = include_bytes!("../../tests/fixtures/object-spool-v1.bin");
        assert_eq!(written(&blocks), stored);
        assert_eq!(read(stored, stored.len(), 7).unwrap(), blocks.concat());
    }

    #[test]
    fn a_record_that_cannot_be_serialized_leaves_nothing_behind() {
        struct Broken;
        impl Serialize for Broken {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::{Error, SerializeTuple};
                serializer.serialize_tuple(2)?.serialize_element(&1)?;
                Err(S::Error::custom("it has no form"))
            }
        }
        let mut collected = Collected::new();
        assert_eq!(collected.push(&Broken).unwrap_err(), "it has no form");
        assert_eq!(collected.len(), 0);
        assert!(collected.finish(true, 7).is_none());
    }
}
