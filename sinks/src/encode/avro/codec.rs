//! How a block is compressed.

use std::io::Write;

use flate2::write::DeflateEncoder;
use shardflow::{Error, Result};

/// How the blocks of an Avro file are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AvroCodec {
    /// Not at all.
    Null,
    /// Deflate, level 0 to 9. Every reader knows it.
    Deflate(u32),
    /// Zstandard, level 1 to 22.
    Zstd(i32),
    /// Snappy.
    Snappy,
}

impl AvroCodec {
    /// Its name in the file's header.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Deflate(_) => "deflate",
            Self::Zstd(_) => "zstandard",
            Self::Snappy => "snappy",
        }
    }

    /// # Errors
    /// A level that there is not.
    pub(super) fn check(self) -> Result<()> {
        match self {
            Self::Deflate(level) if level > 9 => {
                Err(Error::config(format!("could not use deflate level \"{level}\": levels go from 0 to 9")))
            }
            Self::Zstd(level) if !(1..=22).contains(&level) => {
                Err(Error::config(format!("could not use zstd level \"{level}\": levels go from 1 to 22")))
            }
            _ => Ok(()),
        }
    }

    /// A block as it stands in the file.
    pub(super) fn pack(self, block: &[u8]) -> Result<Vec<u8>> {
        let failed = || Error::internal(format!("could not compress an Avro block with \"{}\"", self.name()));
        match self {
            Self::Null => Ok(block.to_vec()),
            Self::Deflate(level) => {
                let mut encoder = DeflateEncoder::new(Vec::new(), flate2::Compression::new(level));
                let packed = encoder.write_all(block).and_then(|()| encoder.finish());
                packed.map_err(|cause| failed().caused_by(cause))
            }
            Self::Zstd(level) => zstd::bulk::compress(block, level).map_err(|cause| failed().caused_by(cause)),
            Self::Snappy => {
                let packed = snap::raw::Encoder::new().compress_vec(block);
                let mut packed = packed.map_err(|cause| failed().caused_by(cause))?;
                // The checksum of the block before compression, big endian.
                packed.extend_from_slice(&crc32fast::hash(block).to_be_bytes());
                Ok(packed)
            }
        }
    }
}
