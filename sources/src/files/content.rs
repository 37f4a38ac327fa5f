//! A file's content as a stream of bytes, decompressed by its ending.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

/// How much compressed input is read at a time, in bytes.
const COMPRESSED_CHUNK: usize = 128 << 10;

/// Whether the content of the file at `path` is compressed, by its ending.
pub(super) fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gz") || ending.eq_ignore_ascii_case("zst"))
}

/// Counts the files that are open, so that a folder of thousands cannot use up the process's descriptors.
#[derive(Debug)]
pub(super) struct OpenFiles {
    open: AtomicUsize,
    limit: usize,
}

impl OpenFiles {
    /// Up to `limit` files stay open between reads.
    pub(super) fn new(limit: usize) -> Self {
        Self { open: AtomicUsize::new(0), limit }
    }

    fn is_over(&self) -> bool {
        self.open.load(Ordering::Relaxed) > self.limit
    }
}

/// Counts one file as open for as long as it lives.
struct Counted(Arc<OpenFiles>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An open file and how to read it.
pub(super) struct Content {
    format: Format,
    counted: Counted,
}

enum Format {
    Plain(File),
    // Boxed: the decoders' own structures are far larger than a file.
    Gzip(Box<MultiGzDecoder<BufReader<File>>>),
    Zstd(Box<ZstdDecoder<'static, BufReader<File>>>),
}

impl Content {
    /// Opens the file. Returns it with how many bytes of its content must still be discarded to stand at `offset`.
    ///
    /// # Errors
    /// It cannot be opened, or it is plain and shorter than `offset` ([`io::ErrorKind::UnexpectedEof`]).
    pub(super) fn open(path: &Path, offset: u64, open_files: &Arc<OpenFiles>) -> io::Result<(Self, u64)> {
        let mut file = File::open(path)?;
        open_files.open.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(Arc::clone(open_files));
        let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
        let (format, discard) = match ending.as_ref().and_then(|ending| ending.to_str()) {
            Some("gz") => {
                let input = BufReader::with_capacity(COMPRESSED_CHUNK, file);
                (Format::Gzip(Box::new(MultiGzDecoder::new(input))), offset)
            }
            Some("zst") => {
                // An empty input would pass for no frames at all, yet nothing that writes zstd writes an empty file.
                if file.metadata()?.len() == 0 {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is empty"));
                }
                let input = BufReader::with_capacity(COMPRESSED_CHUNK, file);
                (Format::Zstd(Box::new(ZstdDecoder::with_buffer(input)?)), offset)
            }
            _ => {
                if file.metadata()?.len() < offset {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                file.seek(SeekFrom::Start(offset))?;
                (Format::Plain(file), 0)
            }
        };
        Ok((Self { format, counted }, discard))
    }

    /// Appends up to `limit` bytes to `buffer`. Fewer than `limit` means that the content has ended.
    pub(super) fn read_into(&mut self, buffer: &mut Vec<u8>, limit: usize) -> io::Result<usize> {
        buffer.reserve(limit);
        let limit = limit as u64;
        match &mut self.format {
            // Each by itself: only then does the file read into the buffer's spare room without zeroing it first.
            Format::Plain(file) => file.take(limit).read_to_end(buffer),
            Format::Gzip(decoder) => decoder.take(limit).read_to_end(buffer),
            Format::Zstd(decoder) => decoder.take(limit).read_to_end(buffer),
        }
    }

    /// Throws away up to `limit` bytes. Fewer than `limit` means that the content has ended.
    pub(super) fn discard(&mut self, limit: u64) -> io::Result<u64> {
        match &mut self.format {
            Format::Plain(file) => io::copy(&mut file.take(limit), &mut io::sink()),
            Format::Gzip(decoder) => io::copy(&mut decoder.take(limit), &mut io::sink()),
            Format::Zstd(decoder) => io::copy(&mut decoder.take(limit), &mut io::sink()),
        }
    }

    /// Whether the file has become shorter than `offset`, up to which it was read. Never for compressed files, whose
    /// formats notice it themselves.
    pub(super) fn was_cut(&self, offset: u64) -> io::Result<bool> {
        match &self.format {
            Format::Plain(file) => Ok(file.metadata()?.len() < offset),
            Format::Gzip(_) | Format::Zstd(_) => Ok(false),
        }
    }

    /// Whether to close it between two reads: too many files are open, and opening it again costs little.
    pub(super) fn should_close(&self) -> bool {
        matches!(self.format, Format::Plain(_)) && self.counted.0.is_over()
    }
}
