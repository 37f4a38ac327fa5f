//! A spool file of records, in bincode: they are distributed over objects, and encoded, when the file is packed.
//!
//! The header's payload is the shape of the records. A block's payload is records, each as its kind (one byte), its length
//! (`u32`, little endian) and its bytes.

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shardflow::sink::Refused;
use shardflow::{Error, Result};

use super::{BLOCK, Blocks, Collect, Header, KEPT, Write, check_length, payload, seal_block};
use crate::frame;

const MAGIC: [u8; 4] = *b"SFsp";
const VERSION: u16 = 1;

/// Bytes of the header: magic, version, shape, checksum.
pub(super) const HEADER: usize = 14;

/// Bytes before a record.
const RECORD: usize = 5;

/// A record as it was to be written.
const TAKEN: u8 = 0;

/// A record that could not be written: a [`Refused`].
const REFUSED: u8 = 1;

/// Collects records in bincode.
#[derive(Debug)]
pub(in super::super) struct Records {
    shape: u32,
    /// The block so far.
    bytes: Vec<u8>,
}

impl Records {
    /// For records of this shape.
    pub(in super::super) fn new(shape: u32) -> Self {
        Self { shape, bytes: vec![0; BLOCK] }
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
        let bytes = check_length(length)?;
        let field = self.bytes.get_mut(start.saturating_add(1)..start.saturating_add(RECORD));
        field.ok_or("its place is gone")?.copy_from_slice(&bytes.to_le_bytes());
        Ok(length.saturating_add(RECORD))
    }
}

impl<T: Serialize> Collect<T> for Records {
    fn push(&mut self, record: &T) -> Result<usize, String> {
        self.add(TAKEN, record)
    }

    fn push_refused(&mut self, refused: &Refused) -> Result<usize, String> {
        self.add(REFUSED, refused)
    }

    fn len(&self) -> usize {
        if self.bytes.len() > BLOCK { self.bytes.len() } else { 0 }
    }

    fn finish(&mut self, is_new: bool, write: &mut Write<'_>) -> Result<()> {
        if self.bytes.len() <= BLOCK {
            return Ok(());
        }
        if is_new {
            write(&frame::seal(MAGIC, VERSION, &self.shape.to_le_bytes()))?;
        }
        seal_block(&mut self.bytes);
        write(&self.bytes)?;
        self.bytes.truncate(BLOCK);
        self.bytes.shrink_to(KEPT);
        Ok(())
    }
}

/// Reads a header.
pub(super) fn header(bytes: &[u8]) -> Result<Header> {
    payload(MAGIC, VERSION, bytes).map(|shape| Header::Records { shape: u32::from_le_bytes(shape) })
}

/// One record of a spool file.
#[derive(Debug)]
pub(in super::super) enum Spooled<T> {
    /// To be written.
    Record(T),
    /// To be shown as refused.
    Refused(Refused),
}

/// Reads records.
pub(in super::super) struct Spool(Blocks);

impl Spool {
    /// Of a file that has records of the shape `found`, where `expected` can be read.
    ///
    /// # Errors
    /// Records of another shape.
    pub(in super::super) fn new(blocks: Blocks, found: u32, expected: u32) -> Result<Self> {
        if found != expected {
            return Err(Error::state(format!(
                "could not read \"{}\": it holds committed records of another type than this program's (their fields \
                 differ); run the program that wrote it once more, which ships them at its start",
                blocks.path()
            )));
        }
        Ok(Self(blocks))
    }

    /// Reads the next block. `false` at the end of what is committed.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub(in super::super) fn next_block(&mut self) -> Result<bool> {
        self.0.next()
    }

    /// The records of the block that was read last.
    pub(in super::super) fn records<T: DeserializeOwned>(&self) -> impl Iterator<Item = Result<Spooled<T>>> {
        let mut rest = self.0.block.as_slice();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let cut = split(rest).ok_or_else(|| self.0.damaged("a record's length"));
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
            _ => return Err(self.0.damaged("a record's kind")),
        };
        read.map_err(|cause| {
            Error::state(format!(
                "could not decode a committed record in \"{}\": was its type changed? then run the program that wrote it \
                 once more, which ships it at its start",
                self.0.path()
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
    use super::super::append_to;
    use super::*;
    use crate::folder::Folder;
    use proptest::prelude::*;

    const NAME: &str = "spool";

    fn written(blocks: &[Vec<String>]) -> Vec<u8> {
        let (mut collected, mut bytes) = (Records::new(7), Vec::new());
        for records in blocks {
            for record in records {
                collected.push(record).unwrap();
            }
            let is_new = bytes.is_empty();
            Collect::<String>::finish(&mut collected, is_new, &mut append_to(&mut bytes)).unwrap();
        }
        bytes
    }

    fn read(bytes: &[u8], length: usize, shape: u32) -> Result<Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(NAME), bytes).unwrap();
        let folder = Folder::at(dir.path().to_owned());
        let (header, blocks) = super::super::open(&folder, NAME.to_owned(), length as u64)?;
        let Header::Records { shape: found } = header else { panic!("{header:?}") };
        let mut spool = Spool::new(blocks, found, shape)?;
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
        let stored = include_bytes!("../../../tests/fixtures/object-spool-v1.bin");
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
        let collected: &mut dyn Collect<Broken> = &mut Records::new(7);
        assert_eq!(collected.push(&Broken).unwrap_err(), "it has no form");
        assert_eq!(collected.len(), 0);
        collected.finish(true, &mut |_| panic!("there is nothing to write")).unwrap();
    }
}
