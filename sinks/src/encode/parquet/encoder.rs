//! One Parquet file that is being written.

use std::fmt;
use std::mem;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde::Serialize;
use shardflow::{Error, Result};

use super::batch::Batch;
use crate::encode::FileEncoder;
use crate::encode::unfit::Unfit;

/// A batch is handed to the row group once it has this many rows, or this many bytes.
const BATCH_ROWS: usize = 1024;
const BATCH_BYTES: usize = 1 << 20;

/// A Parquet file that is being written.
pub struct ParquetEncoder {
    batch: Batch,
    writer: ArrowWriter<Vec<u8>>,
    row_group_bytes: usize,
    /// Bytes that the open row group takes, as of the last batch.
    held: usize,
    /// Why the file cannot be completed.
    failure: Option<String>,
}

impl ParquetEncoder {
    /// # Errors
    /// The schema cannot be written: why.
    pub(super) fn new(
        schema: SchemaRef,
        properties: WriterProperties,
        row_group_bytes: usize,
    ) -> std::result::Result<Self, String> {
        let batch = Batch::new(SchemaRef::clone(&schema))?;
        let writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).map_err(Unfit::line)?;
        Ok(Self { batch, writer, row_group_bytes, held: 0, failure: None })
    }

    /// Puts rows into the row group, and ends it if that makes it full.
    fn add(&mut self, rows: std::result::Result<Option<RecordBatch>, String>) {
        let added = rows.and_then(|rows| {
            let Some(rows) = rows else { return Ok(()) };
            self.writer.write(&rows).map_err(Unfit::line)?;
            self.held = self.writer.memory_size();
            if self.held >= self.row_group_bytes {
                self.writer.flush().map_err(Unfit::line)?;
                self.held = 0;
            }
            Ok(())
        });
        if let Err(why) = added {
            self.failure.get_or_insert(why);
        }
    }
}

impl<T: Serialize> FileEncoder<T> for ParquetEncoder {
    fn write(&mut self, record: &T) -> std::result::Result<(), String> {
        if self.failure.is_some() {
            // It is not this record's fault; the end of the file tells.
            return Ok(());
        }
        if let Err(refused) = self.batch.push(record) {
            self.add(refused.rescued);
            return Err(refused.why);
        }
        if self.batch.rows() >= BATCH_ROWS || self.batch.weight() >= BATCH_BYTES {
            let rows = self.batch.cut();
            self.add(rows);
        }
        Ok(())
    }

    fn take(&mut self) -> Vec<u8> {
        // The writer counts its bytes itself: it does not look at what it has written.
        if let Err(cause) = self.writer.sync() {
            self.failure.get_or_insert(Unfit::line(cause));
        }
        mem::take(self.writer.inner_mut())
    }

    fn ready(&self) -> usize {
        self.writer.inner().len()
    }

    fn buffered(&self) -> usize {
        self.batch.weight().saturating_add(self.held).saturating_add(self.writer.inner().len())
    }

    fn flush(&mut self) {
        let rows = self.batch.cut();
        self.add(rows);
        if let Err(cause) = self.writer.flush() {
            self.failure.get_or_insert(Unfit::line(cause));
        }
        self.held = 0;
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        let rows = self.batch.cut();
        self.add(rows);
        let failed = || Error::sink("could not complete a Parquet file");
        match self.failure {
            Some(why) => Err(failed().caused_by(why)),
            None => self.writer.into_inner().map_err(|cause| failed().caused_by(cause)),
        }
    }
}

impl fmt::Debug for ParquetEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParquetEncoder")
            .field("rows", &self.batch.rows())
            .field("held", &self.held)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}
