//! What is inside a file: [`Ndjson`](crate::Ndjson), [`csv`], and with the features `avro` and `parquet` Avro and Parquet, each
//! built in memory and without any I/O.
//!
//! *Enters*: records. *Leaves*: the bytes of one file, in pieces that are final as soon as they are handed out, so that a file
//! need not fit into memory. *Survives a crash*: nothing; whoever stores the pieces decides what counts.
//!
//! # A record that does not fit
//! A missing field, a number that JSON does not know, a list in a CSV column: [`FileEncoder::write`] says why, and the file
//! holds nothing of the record. All other failures are [`FileEncoder::finish`]'s: they are not the record's fault.
//!
//! # The same records give the same bytes
//! No format writes the time, a random number or the order of a hash map into its file: a replay that cuts its files alike
//! writes them alike.

#[cfg(feature = "avro")]
mod avro;
mod compression;
mod csv;
mod fields;
mod ndjson;
#[cfg(feature = "parquet")]
mod parquet;
mod scalar;
mod text;
mod unfit;
mod watch;

#[cfg(feature = "parquet")]
pub use arrow_schema;

#[cfg(feature = "avro")]
pub use avro::{Avro, AvroCodec, AvroEncoder};
pub use compression::Compression;
pub use csv::{Csv, CsvRows, csv};
pub use ndjson::{NdjsonFile, NdjsonRows};
#[cfg(feature = "parquet")]
pub use parquet::{Parquet, ParquetCompression, ParquetEncoder};
pub use text::TextEncoder;

pub(crate) use fields::{TakeField, each_field};
pub(crate) use scalar::{Scalar, scalar};
pub(crate) use unfit::Unfit;

/// A kind of file, such as Parquet with zstd.
pub trait FileFormat<T>: Clone + Send + Sync + 'static {
    /// What writes one file.
    type Encoder: FileEncoder<T>;

    /// What the names of its files end in, without the first dot: `parquet`, `ndjson.gz`.
    fn ending(&self) -> String;

    /// A new, empty file.
    ///
    /// # Errors
    /// A schema that cannot be, or a setting that does not go with it.
    fn encoder(&self) -> shardflow::Result<Self::Encoder>;

    /// What appends a record's bytes, where a file of this format is those bytes and nothing else: no head, no end, no
    /// compression. An object store's sink without partitions then needs no encoder: each worker writes records once, as
    /// they are in the object. `None`, as here: it is no such format.
    fn plain(&self) -> Option<Append<T>> {
        None
    }
}

/// Appends a record. An error says in one line why it cannot be written; what was appended until then is removed by the caller.
pub type Append<T> = fn(&T, &mut Vec<u8>) -> Result<(), String>;

/// One file that is being written.
pub trait FileEncoder<T>: Send + 'static {
    /// Adds a record.
    ///
    /// # Errors
    /// This record cannot be written in this format: one line, why. The file is none the worse.
    fn write(&mut self, record: &T) -> Result<(), String>;

    /// Bytes that are final, moved out; may be empty.
    fn take(&mut self) -> Vec<u8>;

    /// How many bytes [`FileEncoder::take`] would give.
    fn ready(&self) -> usize;

    /// Bytes held inside and not taken yet, those that are ready included; estimated.
    fn buffered(&self) -> usize;

    /// Makes as much as possible ready, at the price of a larger file: memory is short. It ends a row group or a block.
    fn flush(&mut self);

    /// The rest of the file.
    ///
    /// # Errors
    /// The file cannot be completed: what was taken of it is worthless.
    fn finish(self) -> shardflow::Result<Vec<u8>>;
}
