//! The pack: the objects that one spool file becomes, byte for byte, before the first of them is uploaded.
//!
//! The names and the bytes of a set are fixed durably here, so that shipping it again after a crash gives the same ones even
//! if the program, its format or its partitions have changed in between.
//!
//! Layout: the objects' bytes, in chunks that may alternate between objects, and may have other bytes between them where the pack
//! was a spool file of lines; the index, sealed by a checksum; its length
//! (`u64`, little endian) and the CRC-32 of that (`u32`).

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use shardflow::{Error, Result};

use super::keys::is_rejected;
use super::names::{Extent, FileId};
use crate::folder::Folder;
use crate::frame;

const MAGIC: [u8; 4] = *b"SFpk";
const VERSION: u16 = 1;

/// Bytes behind the index.
const TRAILER: usize = 12;

/// Bytes that are read at a time where they are only looked at.
const LOOK: u64 = 1 << 20;

/// What a pack holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Index {
    pub(super) id: FileId,
    pub(super) extent: Extent,
    /// Where its objects belong: `s3://bucket`. A set is never split between two places.
    pub(super) place: String,
    /// Records of the spool file, refused ones included.
    pub(super) records: u64,
    pub(super) objects: Vec<Packed>,
    /// What tells readers of the others; it is uploaded last.
    pub(super) manifest: Packed,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Packed {
    /// Its whole name.
    pub(super) key: String,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) sha256: Sum,
    /// Where its bytes are in the pack: offset and length.
    chunks: Vec<(u64, u64)>,
}

impl Index {
    /// Whether an object of this pack holds records that could not be written.
    pub(super) fn is_rejected(&self, object: &Packed) -> bool {
        is_rejected(&object.key, &self.manifest.key)
    }
}

impl Packed {
    /// Its checksum as text.
    pub(super) fn checksum(&self) -> String {
        hex(&self.sha256)
    }
}

/// A SHA-256, which processors compute several times as fast as an MD5.
pub(super) type Sum = [u8; 32];

/// Lowercase hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An object that is being packed.
pub(super) struct Open {
    packed: Packed,
    sha256: Sha256,
}

impl Open {
    pub(super) fn new() -> Self {
        let packed = Packed { key: String::new(), records: 0, bytes: 0, sha256: [0; 32], chunks: Vec::new() };
        Self { packed, sha256: Sha256::new() }
    }

    pub(super) fn count(&mut self) {
        self.packed.records = self.packed.records.saturating_add(1);
    }

    pub(super) fn records(&self) -> u64 {
        self.packed.records
    }

    /// Takes records' bytes that are in the pack's file already, from `at` on.
    pub(super) fn adopt(&mut self, at: u64, bytes: &[u8], records: u32) {
        self.packed.records = self.packed.records.saturating_add(u64::from(records));
        self.take(at, bytes);
    }

    fn take(&mut self, at: u64, bytes: &[u8]) {
        let (packed, length) = (&mut self.packed, bytes.len() as u64);
        match packed.chunks.last_mut().filter(|(start, long)| start.saturating_add(*long) == at) {
            Some((_, long)) => *long = long.saturating_add(length),
            None => packed.chunks.push((at, length)),
        }
        self.sha256.update(bytes);
        packed.bytes = packed.bytes.saturating_add(length);
    }

    /// Ends it; an archive's name tells its last record, and so is known only now.
    pub(super) fn done(mut self, key: String) -> Packed {
        self.packed.key = key;
        self.packed.sha256 = self.sha256.finalize().into();
        self.packed
    }
}

/// Writes a pack.
pub(super) struct PackWriter {
    folder: Folder,
    name: String,
    file: File,
    written: u64,
}

impl PackWriter {
    /// Begins one, in place of what an earlier attempt left.
    pub(super) fn create(folder: &Folder, name: String) -> Result<Self> {
        folder.remove(&name)?;
        let file = folder.create_file(&name)?;
        Ok(Self { folder: folder.clone(), name, file, written: 0 })
    }

    /// Goes on with a file of which the first `length` bytes are objects' already. What is behind them is cut off.
    pub(super) fn extend(folder: &Folder, name: String, length: u64) -> Result<Self> {
        let file = folder.extend_file(&name, length)?;
        Ok(Self { folder: folder.clone(), name, file, written: length })
    }

    /// Appends bytes of an object.
    pub(super) fn append(&mut self, open: &mut Open, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.folder.write(&self.file, &self.name, bytes)?;
        open.take(self.written, bytes);
        self.written = self.written.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// Ends it, durably but for its name.
    pub(super) fn finish(mut self, index: &Index) -> Result<()> {
        let payload = bincode::serialize(index)
            .map_err(|cause| Error::internal("could not encode the index of a pack").caused_by(cause))?;
        let mut bytes = frame::seal(MAGIC, VERSION, &payload);
        let length = (bytes.len() as u64).to_le_bytes();
        bytes.extend_from_slice(&length);
        bytes.extend_from_slice(&crc32fast::hash(&length).to_le_bytes());
        self.file.write_all(&bytes).map_err(|cause| self.folder.failed("write", &self.name, cause))?;
        self.folder.sync_file(&self.file, &self.name)
    }
}

/// A whole pack.
#[derive(Debug, Clone)]
pub(super) struct Pack {
    folder: Folder,
    name: String,
    pub(super) index: Index,
}

impl Pack {
    /// Opens one.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub(super) fn open(folder: &Folder, name: String) -> Result<Self> {
        let mut file = folder.open_file(&name)?;
        let index = read_index(&mut file).map_err(|cause| folder.failed("read", &name, cause))?;
        let subject = format!("\"{}\"", folder.path_of(&name).display());
        let damaged = || Error::state(format!("could not read the pack {subject}: it is damaged"));
        let index = index.ok_or_else(damaged)?;
        let payload = frame::open(&format!("the index of the pack {subject}"), MAGIC, VERSION, &index)?;
        let index = bincode::deserialize(payload).map_err(|cause| damaged().caused_by(cause))?;
        Ok(Self { folder: folder.clone(), name, index })
    }

    /// Reads an object's bytes from `start` on, at most `length` of them.
    pub(super) fn read(&self, object: &Packed, start: u64, length: u64) -> Result<Vec<u8>> {
        let read = || {
            let mut file = File::open(self.folder.path_of(&self.name))?;
            let most = length.min(object.bytes.saturating_sub(start));
            let mut bytes = Vec::with_capacity(usize::try_from(most).unwrap_or_default());
            let (mut skip, mut left) = (start, length);
            for &(at, long) in &object.chunks {
                let skipped = skip.min(long);
                skip = skip.saturating_sub(skipped);
                let wanted = long.saturating_sub(skipped).min(left);
                if wanted == 0 {
                    continue;
                }
                left = left.saturating_sub(wanted);
                file.seek(SeekFrom::Start(at.saturating_add(skipped)))?;
                if (&mut file).take(wanted).read_to_end(&mut bytes)? as u64 != wanted {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
            Ok(bytes)
        };
        read().map_err(|cause| self.folder.failed("read", &self.name, cause))
    }

    /// Checks every byte: what a crash left is not taken on trust.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub(super) fn verify(&self) -> Result<()> {
        for object in self.index.objects.iter().chain([&self.index.manifest]) {
            let (mut sha256, mut at) = (Sha256::new(), 0);
            while at < object.bytes {
                sha256.update(self.read(object, at, LOOK)?);
                at = at.saturating_add(LOOK);
            }
            if sha256.finalize().as_slice() != object.sha256 {
                let path = self.folder.path_of(&self.name);
                return Err(Error::state(format!("could not read the pack \"{}\": it is damaged", path.display())));
            }
        }
        Ok(())
    }
}

/// The sealed index; `None` where the trailer makes no sense.
fn read_index(file: &mut File) -> std::io::Result<Option<Vec<u8>>> {
    let size = file.metadata()?.len();
    let Some(end) = size.checked_sub(TRAILER as u64) else { return Ok(None) };
    file.seek(SeekFrom::Start(end))?;
    let (mut length, mut sum) = ([0; 8], [0; 4]);
    file.read_exact(&mut length)?;
    file.read_exact(&mut sum)?;
    let start = end.checked_sub(u64::from_le_bytes(length));
    let Some(start) = start.filter(|_| crc32fast::hash(&length).to_le_bytes() == sum) else { return Ok(None) };
    file.seek(SeekFrom::Start(start))?;
    let mut index = Vec::new();
    file.take(end.saturating_sub(start)).read_to_end(&mut index)?;
    Ok(Some(index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shardflow::Epoch;

    const NAME: &str = "a.pack";

    fn written(folder: &Folder, chunks: &[(bool, Vec<u8>)]) -> [Vec<u8>; 2] {
        let mut writer = PackWriter::create(folder, NAME.to_owned()).unwrap();
        let mut open = [Open::new(), Open::new()];
        let mut whole = [Vec::new(), Vec::new()];
        for (second, bytes) in chunks {
            writer.append(&mut open[usize::from(*second)], bytes).unwrap();
            whole[usize::from(*second)].extend_from_slice(bytes);
        }
        let mut manifest = Open::new();
        writer.append(&mut manifest, b"{}").unwrap();
        let index = Index {
            id: FileId { incarnation: 1, worker: 2, serial: 3 },
            extent: Extent { first: Epoch::new(4), last: Epoch::new(5), length: 6 },
            place: "s3://bucket".to_owned(),
            records: 7,
            objects: open.map(|open| open.done("a".to_owned())).to_vec(),
            manifest: manifest.done("m".to_owned()),
        };
        writer.finish(&index).unwrap();
        whole
    }

    proptest! {
        #[test]
        fn objects_read_back_from_any_place(
            chunks in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..20)), 0..12),
            start in 0_u64..60, length in 0_u64..60,
        ) {
            let dir = tempfile::tempdir()?;
            let folder = Folder::at(dir.path().to_owned());
            let whole = written(&folder, &chunks);
            let pack = Pack::open(&folder, NAME.to_owned()).unwrap();
            pack.verify().unwrap();
            for (object, whole) in pack.index.objects.iter().zip(&whole) {
                prop_assert_eq!(object.bytes, whole.len() as u64);
                prop_assert_eq!(&pack.read(object, 0, u64::MAX).unwrap(), whole);
                let end = whole.len().min((start + length) as usize);
                let expected = whole.get(start as usize..end).unwrap_or_default();
                prop_assert_eq!(&pack.read(object, start, length).unwrap(), expected);
            }
        }
    }

    #[test]
    fn a_flipped_bit_or_a_cut_anywhere_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::at(dir.path().to_owned());
        written(&folder, &[(false, b"abc".to_vec()), (true, b"de".to_vec()), (false, b"f".to_vec())]);
        let path = dir.path().join(NAME);
        let bytes = std::fs::read(&path).unwrap();
        let opened = || Pack::open(&folder, NAME.to_owned()).and_then(|pack| pack.verify());
        opened().unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            assert!(opened().is_err(), "byte {at}");
            std::fs::write(&path, &bytes[..at]).unwrap();
            assert!(opened().is_err(), "cut at {at}");
        }
    }
}
