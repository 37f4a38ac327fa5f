//! Compression of a whole file of text, as a stream: what is compressed is final and can be taken.

use std::fmt;
use std::io::{self, Write};
use std::mem;

use flate2::GzBuilder;
use flate2::write::GzEncoder;
use shardflow::{Error, Result};
use snap::write::FrameEncoder;
use zstd::stream::write::Encoder as ZstdEncoder;

/// How a file of text is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compression {
    /// As it is.
    #[default]
    None,
    /// Gzip, level 0 to 9. Ending `gz`. About 0.3 MB of memory an open file.
    Gzip(u32),
    /// Zstandard with a checksum, level 1 to 22. Ending `zst`. About 1.5 MB of memory an open file at level 3.
    Zstd(i32),
    /// Snappy in its framing format, with checksums. Ending `sz`. About 0.2 MB of memory an open file.
    Snappy,
}

impl Compression {
    /// The ending after the format's own.
    pub(super) fn ending(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip(_) => Some("gz"),
            Self::Zstd(_) => Some("zst"),
            Self::Snappy => Some("sz"),
        }
    }

    /// The stream of a new file; `None` for files that are not compressed.
    ///
    /// # Errors
    /// A level that there is not.
    pub(super) fn stream(self) -> Result<Option<Stream>> {
        let stream = match self {
            Self::None => return Ok(None),
            Self::Gzip(level @ 0..=9) => {
                Stream::Gzip(GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::new(level)))
            }
            Self::Gzip(level) => {
                return Err(Error::config(format!("could not use gzip level \"{level}\": levels go from 0 to 9")));
            }
            Self::Zstd(level @ 1..=22) => {
                let failed = |cause: io::Error| Error::internal("could not start a zstd stream").caused_by(cause);
                let mut encoder = ZstdEncoder::new(Vec::new(), level).map_err(failed)?;
                encoder.include_checksum(true).map_err(failed)?;
                Stream::Zstd(encoder)
            }
            Self::Zstd(level) => {
                return Err(Error::config(format!("could not use zstd level \"{level}\": levels go from 1 to 22")));
            }
            Self::Snappy => Stream::Snappy(Box::new(FrameEncoder::new(Vec::new()))),
        };
        Ok(Some(stream))
    }
}

/// A compressed file that is being written.
pub(super) enum Stream {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
    Snappy(Box<FrameEncoder<Vec<u8>>>),
}

impl Stream {
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
            Self::Snappy(encoder) => encoder.write_all(bytes),
        }
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        mem::take(match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
            Self::Snappy(encoder) => encoder.get_mut(),
        })
    }

    pub(super) fn ready(&self) -> usize {
        match self {
            Self::Gzip(encoder) => encoder.get_ref().len(),
            Self::Zstd(encoder) => encoder.get_ref().len(),
            Self::Snappy(encoder) => encoder.get_ref().len(),
        }
    }

    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Snappy(encoder) => encoder.into_inner().map_err(snap::write::IntoInnerError::into_error),
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("ready", &self.ready()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    const ALL: [Compression; 5] =
        [Compression::Gzip(0), Compression::Gzip(6), Compression::Zstd(1), Compression::Zstd(3), Compression::Snappy];

    fn unpacked(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match compression {
            Compression::None => out.extend_from_slice(bytes),
            Compression::Gzip(_) => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap()),
            Compression::Zstd(_) => out = zstd::stream::decode_all(bytes).unwrap(),
            Compression::Snappy => drop(snap::read::FrameDecoder::new(bytes).read_to_end(&mut out).unwrap()),
        }
        out
    }

    proptest! {
        #[test]
        fn what_is_taken_piece_by_piece_unpacks_to_what_was_written(
            pieces in proptest::collection::vec((proptest::collection::vec(0u8..4, 0..5000), any::<bool>()), 0..20),
        ) {
            let whole: Vec<u8> = pieces.iter().flat_map(|(piece, _)| piece.clone()).collect();
            for compression in ALL {
                let mut runs = Vec::new();
                for takes in [true, false] {
                    let (mut stream, mut file) = (compression.stream().unwrap().unwrap(), Vec::new());
                    for (piece, take) in &pieces {
                        stream.write(piece).unwrap();
                        if *take && takes {
                            file.extend(stream.take());
                            prop_assert_eq!(stream.ready(), 0);
                        }
                    }
                    file.extend(stream.finish().unwrap());
                    prop_assert_eq!(&unpacked(compression, &file), &whole);
                    runs.push(file);
                }
                prop_assert!(runs[0] == runs[1], "{:?}: taking must not change the file", compression);
            }
        }
    }

    #[test]
    fn levels_that_there_are_not_are_refused_by_name() {
        for (compression, level) in
            [(Compression::Gzip(10), "10"), (Compression::Zstd(0), "0"), (Compression::Zstd(23), "23")]
        {
            let error = compression.stream().unwrap_err();
            assert_eq!(error.kind(), shardflow::ErrorKind::Config);
            assert!(error.to_string().contains(&format!("level \"{level}\"")), "{error}");
        }
    }
}
