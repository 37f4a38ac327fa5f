//! How records become the bytes of an object.

use std::io::Write;

use serde::Serialize;
use shardflow::{Error, Result};

use crate::format::{Format, Ndjson};

/// A kind of file with its settings.
pub trait FileFormat<T>: Clone + Send + Sync + 'static {
    /// What writes one file.
    type Encoder: FileEncoder<T>;

    /// The ending of a file of this format, without the dot.
    fn ending(&self) -> String;

    /// Begins a file.
    ///
    /// # Errors
    /// Settings that cannot work: the job does not start.
    fn encoder(&self) -> Result<Self::Encoder>;
}

/// Writes one file.
pub trait FileEncoder<T>: Send + 'static {
    /// Adds a record.
    ///
    /// # Errors
    /// The record has no form in this format. Nothing of it is in the file, which goes on.
    fn write(&mut self, record: &T) -> Result<(), String>;

    /// The bytes of the file that are ready and were not taken yet.
    fn take(&mut self) -> Vec<u8>;

    /// Bytes in memory, about: what is ready and what will be.
    fn buffered(&self) -> usize;

    /// Ends the file. Gives what was not taken yet.
    ///
    /// # Errors
    /// The file cannot be ended.
    fn finish(self) -> Result<Vec<u8>>;
}

/// How NDJSON is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    Gzip(u32),
    Zstd(i32),
}

/// A JSON value a line, compressed. Made by [`Ndjson::gzip`] and [`Ndjson::zstd`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressedNdjson(Compression);

impl Ndjson {
    /// Compresses with gzip at its level 6; files end in `.ndjson.gz`. Only for objects.
    #[must_use]
    pub fn gzip(self) -> CompressedNdjson {
        CompressedNdjson(Compression::Gzip(6))
    }

    /// Compresses with Zstandard at its level 3; files end in `.ndjson.zst`. Only for objects.
    #[must_use]
    pub fn zstd(self) -> CompressedNdjson {
        CompressedNdjson(Compression::Zstd(3))
    }
}

/// Writes plain NDJSON.
#[derive(Debug, Default)]
pub struct NdjsonEncoder {
    lines: Vec<u8>,
}

impl<T: Serialize> FileFormat<T> for Ndjson {
    type Encoder = NdjsonEncoder;

    fn ending(&self) -> String {
        "ndjson".to_owned()
    }

    fn encoder(&self) -> Result<NdjsonEncoder> {
        Ok(NdjsonEncoder::default())
    }
}

/// Appends a line, or nothing.
fn line<T: Serialize>(record: &T, lines: &mut Vec<u8>) -> Result<(), String> {
    let start = lines.len();
    Ndjson.write(record, lines).map_err(|error| {
        lines.truncate(start);
        error.to_string()
    })
}

impl<T: Serialize> FileEncoder<T> for NdjsonEncoder {
    fn write(&mut self, record: &T) -> Result<(), String> {
        line(record, &mut self.lines)
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.lines)
    }

    fn buffered(&self) -> usize {
        self.lines.len()
    }

    fn finish(self) -> Result<Vec<u8>> {
        Ok(self.lines)
    }
}

/// Writes compressed NDJSON.
pub struct CompressedEncoder {
    /// The line that is compressed next.
    line: Vec<u8>,
    to: Compressor,
}

impl std::fmt::Debug for CompressedEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompressedEncoder").field("ready", &self.to.ready().len()).finish_non_exhaustive()
    }
}

enum Compressor {
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Compressor {
    fn ready(&self) -> &Vec<u8> {
        match self {
            Self::Gzip(to) => to.get_ref(),
            Self::Zstd(to) => to.get_ref(),
        }
    }

    fn ready_mut(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Gzip(to) => to.get_mut(),
            Self::Zstd(to) => to.get_mut(),
        }
    }
}

impl<T: Serialize> FileFormat<T> for CompressedNdjson {
    type Encoder = CompressedEncoder;

    fn ending(&self) -> String {
        match self.0 {
            Compression::Gzip(_) => "ndjson.gz".to_owned(),
            Compression::Zstd(_) => "ndjson.zst".to_owned(),
        }
    }

    fn encoder(&self) -> Result<CompressedEncoder> {
        let to = match self.0 {
            Compression::Gzip(level) => {
                // Without a time and a file name in it, so that the bytes depend on the records alone.
                let header = flate2::GzBuilder::new();
                Compressor::Gzip(header.write(Vec::new(), flate2::Compression::new(level)))
            }
            Compression::Zstd(level) => {
                let encoder = zstd::stream::write::Encoder::new(Vec::new(), level);
                Compressor::Zstd(
                    encoder.map_err(|cause| Error::config("could not begin a zstd file").caused_by(cause))?,
                )
            }
        };
        Ok(CompressedEncoder { line: Vec::new(), to })
    }
}

impl<T: Serialize> FileEncoder<T> for CompressedEncoder {
    fn write(&mut self, record: &T) -> Result<(), String> {
        self.line.clear();
        line(record, &mut self.line)?;
        let written = match &mut self.to {
            Compressor::Gzip(to) => to.write_all(&self.line),
            Compressor::Zstd(to) => to.write_all(&self.line),
        };
        written.map_err(|error| error.to_string())
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.to.ready_mut())
    }

    fn buffered(&self) -> usize {
        self.to.ready().len()
    }

    fn finish(self) -> Result<Vec<u8>> {
        let finished = match self.to {
            Compressor::Gzip(to) => to.finish(),
            Compressor::Zstd(to) => to.finish(),
        };
        finished.map_err(|cause| Error::sink("could not end a compressed file").caused_by(cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn written<F: FileFormat<String>>(format: &F, records: &[&str], take: bool) -> Vec<u8> {
        let mut encoder = format.encoder().unwrap();
        let mut bytes = Vec::new();
        for record in records {
            encoder.write(&(*record).to_owned()).unwrap();
            if take {
                bytes.extend(encoder.take());
            }
        }
        bytes.extend(encoder.finish().unwrap());
        bytes
    }

    #[test]
    fn what_was_compressed_reads_back_and_is_the_same_each_time() {
        let records = ["a", "b\nc", ""];
        let plain = b"\"a\"\n\"b\\nc\"\n\"\"\n";
        for take in [true, false] {
            assert_eq!(written(&Ndjson, &records, take), plain);
            let gzip = written(&Ndjson.gzip(), &records, take);
            let mut text = Vec::new();
            flate2::read::GzDecoder::new(gzip.as_slice()).read_to_end(&mut text).unwrap();
            assert_eq!(text, plain);
            assert_eq!(gzip, written(&Ndjson.gzip(), &records, !take));
            let zstd = written(&Ndjson.zstd(), &records, take);
            assert_eq!(zstd::decode_all(zstd.as_slice()).unwrap(), plain);
            assert_eq!(zstd, written(&Ndjson.zstd(), &records, !take));
        }
    }
}
