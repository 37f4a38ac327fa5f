//! Parquet, by row groups that leave memory as soon as they are complete.
//!
//! Records go through serde into an Arrow batch, the batch into the row group, the row group into the file. What is held
//! is one batch and one row group, bounded by rows and bytes, and a footer that grows by some hundred bytes a column and row
//! group. A record that does not fit is cut out of its batch again ([`batch`]).

mod batch;
mod encoder;
mod schema;
mod shorten;

use std::fmt;

use arrow_schema::{DataType, SchemaRef};
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::file::properties::{DEFAULT_CREATED_BY, EnabledStatistics, WriterProperties};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shardflow::{Error, Result};

pub use encoder::ParquetEncoder;

use super::FileFormat;
use schema::Traced;

/// How the pages of a Parquet file are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParquetCompression {
    /// Not at all.
    None,
    /// Snappy: fast, and known to every reader.
    Snappy,
    /// Zstandard, level 1 to 22.
    Zstd(i32),
}

/// Parquet files.
///
/// # Examples
/// ```
/// use shardflow_sinks::encode::arrow_schema::{DataType, TimeUnit};
/// use shardflow_sinks::encode::{FileEncoder, FileFormat, Parquet};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Charge { account: String, cents: u64, at: u64 }
///
/// let format = Parquet::of::<Charge>().column("at", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())));
/// let mut file = FileFormat::<Charge>::encoder(&format)?;
/// file.write(&Charge { account: "a".to_owned(), cents: 50, at: 1_767_225_600_000 })?;
/// let bytes = FileEncoder::<Charge>::finish(file)?;
/// assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Parquet {
    traced: Option<Traced>,
    schema: Result<SchemaRef, String>,
    compression: ParquetCompression,
    row_group_rows: usize,
    row_group_bytes: usize,
}

impl Parquet {
    /// With the schema that serde tells of the type: numbers and strings as they are, `Option` as a column with nulls, lists,
    /// structs and maps nested, enums without values as strings. A type of which it cannot be told is an error of
    /// [`FileFormat::encoder`]: give the schema then.
    #[must_use]
    pub fn of<T: DeserializeOwned>() -> Self {
        let traced = Traced::new::<T>();
        let schema = traced.schema();
        Self { traced: Some(traced), ..Self::new(schema) }
    }

    /// With this schema. Fields of a record that it has not are left out; a column that the record has not must allow nulls.
    #[must_use]
    pub fn with_schema(schema: SchemaRef) -> Self {
        Self::new(Ok(schema))
    }

    fn new(schema: Result<SchemaRef, String>) -> Self {
        Self {
            traced: None,
            schema,
            compression: ParquetCompression::Zstd(3),
            row_group_rows: 1 << 20,
            row_group_bytes: 64 << 20,
        }
    }

    /// Writes a column of [`Parquet::of`] as another type: an event time in milliseconds, say, as
    /// `DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))`.
    #[must_use]
    pub fn column(mut self, name: &str, data_type: DataType) -> Self {
        self.schema = match &mut self.traced {
            Some(traced) => {
                traced.columns.push((name.to_owned(), data_type));
                traced.schema()
            }
            None => Err(format!("column \"{name}\" was to be changed, but the schema was given: change it there")),
        };
        self
    }

    /// How pages are compressed. Default: Zstandard, level 3.
    #[must_use]
    pub fn compression(mut self, compression: ParquetCompression) -> Self {
        self.compression = compression;
        self
    }

    /// Ends a row group once it has this many rows. At least 1; default 1,048,576.
    #[must_use]
    pub fn row_group_rows(mut self, rows: usize) -> Self {
        self.row_group_rows = rows;
        self
    }

    /// Ends a row group once it takes this many bytes of memory. At least 1; default 64 MiB. A batch of up to 1 MiB, or one
    /// record, comes on top.
    #[must_use]
    pub fn row_group_bytes(mut self, bytes: usize) -> Self {
        self.row_group_bytes = bytes;
        self
    }

    fn properties(&self) -> Result<WriterProperties> {
        let codec = match self.compression {
            ParquetCompression::None => Codec::UNCOMPRESSED,
            ParquetCompression::Snappy => Codec::SNAPPY,
            ParquetCompression::Zstd(level) => Codec::ZSTD(ZstdLevel::try_new(level).map_err(|cause| {
                Error::config(format!("could not use zstd level \"{level}\": levels go from 1 to 22")).caused_by(cause)
            })?),
        };
        Ok(WriterProperties::builder()
            .set_compression(codec)
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_max_row_group_row_count(Some(self.row_group_rows))
            // Measured here, in memory and not as an estimate of what will be written.
            .set_max_row_group_bytes(None)
            .set_created_by(created_by())
            .build())
    }
}

/// `shardflow version 0.1.0 (build parquet-rs 60.1.0)`: the form that readers look into for versions with known errors.
fn created_by() -> String {
    format!("shardflow version {} (build {})", env!("CARGO_PKG_VERSION"), DEFAULT_CREATED_BY.replace(" version ", " "))
}

impl<T: Serialize> FileFormat<T> for Parquet {
    type Encoder = ParquetEncoder;

    fn ending(&self) -> String {
        "parquet".to_owned()
    }

    fn encoder(&self) -> Result<ParquetEncoder> {
        for (name, value) in [("row_group_rows", self.row_group_rows), ("row_group_bytes", self.row_group_bytes)] {
            if value == 0 {
                return Err(Error::config(format!("{name} must be at least 1")));
            }
        }
        let refuse = |why: String| Error::config(format!("could not use the Parquet schema: {why}"));
        let schema = self.schema.clone().map_err(refuse)?;
        schema::check(&schema).map_err(refuse)?;
        ParquetEncoder::new(schema, self.properties()?, self.row_group_bytes).map_err(refuse)
    }
}

impl fmt::Debug for Parquet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parquet")
            .field("schema", &self.schema)
            .field("compression", &self.compression)
            .field("row_group_rows", &self.row_group_rows)
            .field("row_group_bytes", &self.row_group_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
