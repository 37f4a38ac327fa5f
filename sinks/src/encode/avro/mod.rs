//! Avro object container files.
//!
//! Records are serialized through serde against the schema, without a value tree in between. Which Rust number goes to which
//! Avro type is fixed: up to `i32`, `u8` and `u16` to `int`; `u32`, `i64` and `u64` to `long` (a `u64` above `i64::MAX` is
//! refused); `f32` to `float`; `f64` to `double`. `Option` is a union with `null`, a newtype is what it holds. `long` may carry
//! a logical type, so that event times in milliseconds are written as `timestamp-millis`.
//!
//! A file's sync marker is the MD5 of its schema and first block: the same records give the same bytes, and no record can be
//! made to hold it.

mod codec;
mod container;
mod schema;

use std::fmt;
use std::mem;

use apache_avro::AvroSchema;
use apache_avro::writer::datum::GenericDatumWriter;
use serde::Serialize;
use shardflow::{Error, Result};

pub use codec::AvroCodec;
use schema::Known;

use super::unfit::Unfit;
use super::watch::{Watch, Watched};
use super::{FileEncoder, FileFormat};

/// Records in a block, at most: records may have no bytes at all.
const BLOCK_RECORDS: i64 = 1 << 16;

/// Avro object container files.
///
/// # Examples
/// ```
/// use shardflow_sinks::encode::{Avro, AvroCodec, FileEncoder, FileFormat};
///
/// #[derive(serde::Serialize)]
/// struct Charge { account: &'static str, cents: u64 }
///
/// let format = Avro::schema(
///     r#"{"type": "record", "name": "Charge", "fields": [
///         {"name": "account", "type": "string"}, {"name": "cents", "type": "long"}]}"#,
/// ).codec(AvroCodec::Zstd(3));
/// let mut file = FileFormat::<Charge>::encoder(&format)?;
/// file.write(&Charge { account: "a", cents: 50 })?;
/// let bytes = FileEncoder::<Charge>::finish(file)?;
/// assert!(bytes.starts_with(b"Obj\x01"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Avro {
    schema: Result<Known, String>,
    codec: AvroCodec,
    block_bytes: usize,
}

impl Avro {
    /// With a schema in JSON; it is written into each file as it is given. A schema that cannot be is an error of
    /// [`FileFormat::encoder`]. A schema stays in memory as long as the program runs.
    #[must_use]
    pub fn schema(json: &str) -> Self {
        Self { schema: Known::parse(json, false), codec: AvroCodec::Deflate(6), block_bytes: 64 << 10 }
    }

    /// With the schema that the type has by `#[derive(AvroSchema)]` of the crate `apache-avro`. It makes a newtype a record of
    /// one field, and a `u64` eight bytes that other readers take for bytes: where they shall be numbers, give the schema.
    #[must_use]
    pub fn of<T: AvroSchema>() -> Self {
        let json = serde_json::to_string(&T::get_schema());
        let schema = json.map_err(|cause| cause.to_string()).and_then(|json| Known::parse(&json, true));
        Self { schema, codec: AvroCodec::Deflate(6), block_bytes: 64 << 10 }
    }

    /// How blocks are compressed. Default: deflate, level 6, which every reader knows.
    #[must_use]
    pub fn codec(mut self, codec: AvroCodec) -> Self {
        self.codec = codec;
        self
    }

    /// Ends a block once it has this many bytes before compression. At least 1; default 64 KiB. A file holds one block in
    /// memory.
    #[must_use]
    pub fn block_bytes(mut self, bytes: usize) -> Self {
        self.block_bytes = bytes;
        self
    }
}

impl<T: Serialize> FileFormat<T> for Avro {
    type Encoder = AvroEncoder;

    fn ending(&self) -> String {
        "avro".to_owned()
    }

    fn encoder(&self) -> Result<AvroEncoder> {
        let refuse = |why: &str| Error::config(format!("could not use the Avro schema: {why}"));
        let known = self.schema.clone().map_err(|why| refuse(&why))?;
        self.codec.check()?;
        if self.block_bytes == 0 {
            return Err(Error::config("block_bytes must be at least 1"));
        }
        let writer = GenericDatumWriter::builder(known.schema).human_readable(false).build();
        let writer = writer.map_err(|cause| refuse(&Unfit::line(cause)))?;
        Ok(AvroEncoder {
            writer,
            known,
            codec: self.codec,
            block_bytes: self.block_bytes,
            block: Vec::new(),
            records: 0,
            marker: None,
            ready: Vec::new(),
            failure: None,
        })
    }
}

/// An Avro file that is being written.
pub struct AvroEncoder {
    writer: GenericDatumWriter<'static>,
    known: Known,
    codec: AvroCodec,
    block_bytes: usize,
    /// The block that is being filled.
    block: Vec<u8>,
    /// The records in it.
    records: i64,
    /// What stands behind each block, once the first is complete.
    marker: Option<container::Marker>,
    ready: Vec<u8>,
    /// Why the file cannot be completed.
    failure: Option<Error>,
}

impl AvroEncoder {
    /// Ends the block.
    fn cut(&mut self) {
        let block = mem::take(&mut self.block);
        let records = mem::take(&mut self.records);
        match self.codec.pack(&block) {
            Ok(packed) => {
                let marker = self.marker(&packed);
                container::block(records, &packed, marker, &mut self.ready);
            }
            Err(failure) => {
                self.failure.get_or_insert(failure);
            }
        }
        self.block = block;
        self.block.clear();
    }

    /// The marker; the header is written with it.
    fn marker(&mut self, first: &[u8]) -> container::Marker {
        if let Some(marker) = self.marker {
            return marker;
        }
        let marker = container::marker(&self.known.json, self.codec.name(), first);
        container::header(&self.known.json, self.codec.name(), marker, &mut self.ready);
        self.marker = Some(marker);
        marker
    }
}

impl<T: Serialize> FileEncoder<T> for AvroEncoder {
    fn write(&mut self, record: &T) -> Result<(), String> {
        let start = self.block.len();
        let watched = Watched { value: record, by: &self.known };
        if let Err(why) = self.writer.write_ser(&mut self.block, &watched) {
            self.block.truncate(start);
            return Err(Unfit::line(why));
        }
        self.records = self.records.saturating_add(1);
        if self.block.len() >= self.block_bytes || self.records >= BLOCK_RECORDS {
            self.cut();
        }
        Ok(())
    }

    fn take(&mut self) -> Vec<u8> {
        mem::take(&mut self.ready)
    }

    fn ready(&self) -> usize {
        self.ready.len()
    }

    fn buffered(&self) -> usize {
        self.block.len().saturating_add(self.ready.len())
    }

    fn flush(&mut self) {
        if self.records > 0 {
            self.cut();
        }
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        if self.records > 0 {
            self.cut();
        }
        self.marker(&[]);
        self.failure.map_or(Ok(self.ready), Err)
    }
}

impl Watch for Known {
    fn longs(&self) -> bool {
        self.longs
    }

    fn plain_newtypes(&self) -> bool {
        !self.is_derived
    }
}

impl fmt::Debug for AvroEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AvroEncoder")
            .field("codec", &self.codec)
            .field("records", &self.records)
            .field("ready", &self.ready.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
