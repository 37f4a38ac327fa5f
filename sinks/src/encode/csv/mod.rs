//! Comma-separated values, as RFC 4180 has them, for records of plain fields.
//!
//! Fields go to their columns by name, so that a field that serde leaves out never shifts those behind it. `None` is an empty
//! column and an empty string is `""`: readers that tell the two apart get back what was written. The one exception is a file
//! of a single column, where `None` is `""` as well, since readers skip empty lines.

mod row;

use serde::Serialize;
use shardflow::{Error, Result};

pub use row::CsvRows;

use super::text::{TextEncoder, ending};
use super::{Compression, FileFormat};

/// Writes each record as a row of comma-separated values, below a header.
///
/// # Examples
/// ```
/// use shardflow_sinks::encode::{FileEncoder, FileFormat, csv};
///
/// #[derive(serde::Serialize)]
/// struct Charge { account: &'static str, cents: u64, note: Option<&'static str> }
///
/// let mut file = FileFormat::<Charge>::encoder(&csv())?;
/// file.write(&Charge { account: "a,b", cents: 50, note: None })?;
/// let bytes = FileEncoder::<Charge>::finish(file)?;
/// assert_eq!(bytes, b"account,cents,note\n\"a,b\",50,\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn csv() -> Csv {
    Csv { delimiter: b',', header: true, columns: None, compression: Compression::None }
}

/// Files of comma-separated values. Made by [`csv`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csv {
    delimiter: u8,
    header: bool,
    columns: Option<Vec<String>>,
    compression: Compression,
}

impl Csv {
    /// What stands between values, an ASCII character. Default: a comma. With a tab, the files end in `tsv`.
    #[must_use]
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self
    }

    /// Whether a file begins with the names of its columns. Default: it does.
    #[must_use]
    pub fn header(mut self, header: bool) -> Self {
        self.header = header;
        self
    }

    /// The columns, in this order. Default: the fields of a file's first record. A record that has others, or not all of them,
    /// is refused.
    #[must_use]
    pub fn columns(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.columns = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Compresses the files. Default: not.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Compresses with gzip, level 6.
    #[must_use]
    pub fn gzip(self) -> Self {
        self.compression(Compression::Gzip(6))
    }

    /// Compresses with Zstandard, level 3.
    #[must_use]
    pub fn zstd(self) -> Self {
        self.compression(Compression::Zstd(3))
    }
}

impl<T: Serialize> FileFormat<T> for Csv {
    type Encoder = TextEncoder<CsvRows>;

    fn ending(&self) -> String {
        ending(if self.delimiter == b'\t' { "tsv" } else { "csv" }, self.compression)
    }

    fn encoder(&self) -> Result<Self::Encoder> {
        if !self.delimiter.is_ascii() || matches!(self.delimiter, b'"' | b'\r' | b'\n' | 0) {
            let delimiter = char::from(self.delimiter);
            return Err(Error::config(format!(
                "could not write CSV with delimiter {delimiter:?}: it must be ASCII, no quote \
                                              and no line break"
            )));
        }
        if let Some(columns) = &self.columns {
            if columns.is_empty() {
                return Err(Error::config("could not write CSV without columns: an empty list was given"));
            }
            if let Some(name) = row::repeated(columns) {
                return Err(Error::config(format!("could not write CSV with the column \"{name}\" twice")));
            }
        }
        TextEncoder::new(CsvRows::new(self.delimiter, self.header, self.columns.clone()), self.compression)
    }
}
