//! Files of rows: what NDJSON and CSV have in common.

use std::mem;

use shardflow::{Error, Result};

use super::compression::Stream;
use super::{Compression, FileEncoder};

/// Rows are compressed this many bytes at a time: a call for each would cost more than the rows.
const PENDING: usize = 64 << 10;

/// How a record becomes a row of text.
pub trait Rows<T>: Send + 'static {
    /// Appends the row, with its line break, and before the first one whatever stands above it.
    ///
    /// # Errors
    /// The record has no such row: one line, why. What was appended until then is removed by the caller; nothing else may
    /// have changed.
    fn row(&mut self, record: &T, out: &mut Vec<u8>) -> Result<(), String>;
}

/// A file of rows, compressed or not.
#[derive(Debug)]
pub struct TextEncoder<R> {
    rows: R,
    /// Rows that are not compressed yet; without compression, those that are ready.
    pending: Vec<u8>,
    stream: Option<Stream>,
    /// Why the file cannot be completed.
    failure: Option<Error>,
}

impl<R> TextEncoder<R> {
    pub(super) fn new(rows: R, compression: Compression) -> Result<Self> {
        Ok(Self { rows, pending: Vec::new(), stream: compression.stream()?, failure: None })
    }

    fn compress(&mut self) {
        if let Some(stream) = &mut self.stream
            && let Err(cause) = stream.write(&self.pending)
        {
            self.failure.get_or_insert_with(|| Error::internal("could not compress rows").caused_by(cause));
        }
        self.pending.clear();
    }
}

impl<T, R: Rows<T>> FileEncoder<T> for TextEncoder<R> {
    fn write(&mut self, record: &T) -> Result<(), String> {
        let start = self.pending.len();
        if let Err(why) = self.rows.row(record, &mut self.pending) {
            self.pending.truncate(start);
            return Err(why);
        }
        if self.stream.is_some() && self.pending.len() >= PENDING {
            self.compress();
        }
        Ok(())
    }

    fn take(&mut self) -> Vec<u8> {
        match &mut self.stream {
            Some(stream) => stream.take(),
            None => mem::take(&mut self.pending),
        }
    }

    fn ready(&self) -> usize {
        self.stream.as_ref().map_or(self.pending.len(), Stream::ready)
    }

    fn buffered(&self) -> usize {
        self.pending.len().saturating_add(self.stream.as_ref().map_or(0, Stream::ready))
    }

    fn flush(&mut self) {
        if self.stream.is_some() {
            self.compress();
        }
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        if self.stream.is_some() {
            self.compress();
        }
        match (self.failure, self.stream) {
            (Some(failure), _) => Err(failure),
            (None, None) => Ok(self.pending),
            (None, Some(stream)) => {
                stream.finish().map_err(|cause| Error::internal("could not end a compressed file").caused_by(cause))
            }
        }
    }
}

/// The ending of a format with that of its compression.
pub(super) fn ending(format: &str, compression: Compression) -> String {
    match compression.ending() {
        Some(compressed) => format!("{format}.{compressed}"),
        None => format.to_owned(),
    }
}
