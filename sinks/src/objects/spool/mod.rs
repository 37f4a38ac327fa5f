//! The spool file: committed records in the order they came, until they are packed into objects.
//!
//! A header (what it is, its version, and a payload, sealed by a checksum), then blocks. A block is its payload's length
//! (`u32`, little endian), the CRC-32 of that and the payload, and the payload. A writer ends a block with each epoch, so a
//! committed length never lies inside one.
//!
//! There are two kinds: of [`records`], which are read, distributed and encoded when the file is packed; and of [`lines`], which
//! are encoded already, and whose file becomes the pack itself.

pub(super) mod lines;
pub(super) mod records;

use std::fs::File;
use std::io::{BufReader, Read, Take};

use shardflow::sink::Refused;
use shardflow::{Error, Result};

use crate::folder::Folder;
use crate::frame;

/// Bytes before a block's payload.
const BLOCK: usize = 8;

/// The largest record that is spooled: 256 MiB.
const LARGEST: usize = 256 << 20;

/// Collects records, and gives them as blocks.
pub(super) trait Collect<T>: Send {
    /// Adds a record. Gives the bytes that it takes.
    ///
    /// # Errors
    /// Why it cannot be written. Nothing of it is left behind.
    fn push(&mut self, record: &T) -> Result<usize, String>;

    /// Adds a record that could not be written.
    ///
    /// # Errors
    /// It is too large.
    fn push_refused(&mut self, refused: &Refused) -> Result<usize, String>;

    /// Bytes that are collected, 0 where there are no records.
    fn len(&self) -> usize;

    /// Ends the block, and has it written behind the header where the file is new; nothing where there is no record.
    ///
    /// # Errors
    /// Those of `write`.
    fn finish(&mut self, is_new: bool, write: &mut Write<'_>) -> Result<()>;
}

/// Appends bytes to a file.
pub(super) type Write<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// Bytes of a buffer that are kept for the next block. A buffer that is made anew for each costs more than what goes into it.
const KEPT: usize = 1 << 20;

/// Why a record of so many bytes is too large, if it is.
fn check_length(length: usize) -> Result<u32, String> {
    let too_long = || format!("its {length} bytes are more than the {LARGEST} that fit");
    u32::try_from(length).ok().filter(|_| length <= LARGEST).ok_or_else(too_long)
}

/// Fills in what stands before the payload of a block: it is all of `block` but its first [`BLOCK`] bytes.
fn seal_block(block: &mut [u8]) {
    // A block is ended long before its length no longer fits: it holds a buffer and one record more.
    let length = u32::try_from(block.len().saturating_sub(BLOCK)).unwrap_or(u32::MAX).to_le_bytes();
    let sum = checksum(length, block.get(BLOCK..).unwrap_or_default());
    block.iter_mut().zip(length.into_iter().chain(sum)).for_each(|(place, byte)| *place = byte);
}

fn checksum(length: [u8; 4], payload: &[u8]) -> [u8; 4] {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&length);
    sum.update(payload);
    sum.finalize().to_le_bytes()
}

/// What kind of spool file it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Header {
    /// Of records of this shape.
    Records { shape: u32 },
    /// Of lines: what their object's name ends in.
    Lines { ending: String },
}

/// Opens the spool file `name`, of which `length` bytes are committed.
///
/// # Errors
/// It cannot be read, or its header is damaged.
pub(super) fn open(folder: &Folder, name: String, length: u64) -> Result<(Header, Blocks)> {
    let reader = BufReader::with_capacity(256 << 10, folder.open_file(&name)?).take(length);
    let mut blocks = Blocks { reader, folder: folder.clone(), name, length, start: 0, block: Vec::new() };
    let mut bytes = vec![0; records::HEADER];
    blocks.fill(&mut bytes)?;
    let header = if bytes.starts_with(&lines::MAGIC) {
        bytes.resize(lines::HEADER, 0);
        blocks.fill(bytes.get_mut(records::HEADER..).unwrap_or_default())?;
        lines::header(&bytes)
    } else {
        records::header(&bytes)
    };
    let header = header.map_err(|error| blocks.damaged("its header").caused_by(error))?;
    Ok((header, blocks))
}

const SUBJECT: &str = "the header of a spool file";

/// The payload of a header.
fn payload<const N: usize>(magic: [u8; 4], version: u16, header: &[u8]) -> Result<[u8; N]> {
    let payload = frame::open(SUBJECT, magic, version, header)?;
    payload.try_into().map_err(|_| Error::state(format!("could not read {SUBJECT}: it has another length")))
}

/// Reads the blocks of the committed part of a spool file.
pub(super) struct Blocks {
    reader: Take<BufReader<File>>,
    folder: Folder,
    name: String,
    /// Bytes that are committed.
    length: u64,
    /// Where the payload of the last block begins in the file.
    start: u64,
    /// The payload of the block that was read last.
    block: Vec<u8>,
}

impl Blocks {
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
    pub(super) fn next(&mut self) -> Result<bool> {
        if self.reader.limit() == 0 {
            return Ok(false);
        }
        let (mut length, mut sum) = ([0; 4], [0; 4]);
        self.fill(&mut length)?;
        self.fill(&mut sum)?;
        self.start = self.length.saturating_sub(self.reader.limit());
        let bytes = u32::from_le_bytes(length);
        if u64::from(bytes) > self.reader.limit() {
            return Err(self.damaged("a block's length"));
        }
        let mut block = std::mem::take(&mut self.block);
        block.resize(bytes as usize, 0);
        self.fill(&mut block)?;
        if checksum(length, &block) != sum {
            return Err(self.damaged("a block"));
        }
        self.block = block;
        Ok(true)
    }
}

/// Writes to memory.
#[cfg(test)]
fn append_to(bytes: &mut Vec<u8>) -> impl FnMut(&[u8]) -> Result<()> {
    |more| {
        bytes.extend_from_slice(more);
        Ok(())
    }
}
