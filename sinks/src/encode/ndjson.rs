//! A JSON value a line.

use serde::Serialize;
use serde_json::ser::Serializer;
use shardflow::Result;

use super::text::{Rows, TextEncoder, ending};
use super::unfit::Unfit;
use super::watch::{Watch, Watched};
use super::{Append, Compression, FileFormat};
use crate::format::{Ndjson, OneLine};

/// Files of JSON, a value a line, compressed. Made by [`Ndjson::gzip`], [`Ndjson::zstd`] and [`Ndjson::compression`].
///
/// A number that JSON does not know (NaN, infinity) is refused: `null` in its place would be another record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NdjsonFile {
    compression: Compression,
}

impl Ndjson {
    /// Compresses files for an object store.
    ///
    /// # Examples
    /// ```
    /// use shardflow_sinks::Ndjson;
    /// use shardflow_sinks::encode::{Compression, FileEncoder, FileFormat};
    ///
    /// #[derive(serde::Serialize)]
    /// struct Charge { account: &'static str, euros: f64 }
    ///
    /// let mut file = FileFormat::<Charge>::encoder(&Ndjson.compression(Compression::None))?;
    /// file.write(&Charge { account: "a", euros: 0.5 })?;
    /// assert!(file.write(&Charge { account: "b", euros: f64::NAN }).is_err());
    /// let bytes = FileEncoder::<Charge>::finish(file)?;
    /// assert_eq!(bytes, b"{\"account\":\"a\",\"euros\":0.5}\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn compression(self, compression: Compression) -> NdjsonFile {
        NdjsonFile { compression }
    }

    /// Compresses files for an object store with gzip, level 6.
    #[must_use]
    pub fn gzip(self) -> NdjsonFile {
        self.compression(Compression::Gzip(6))
    }

    /// Compresses files for an object store with Zstandard, level 3.
    #[must_use]
    pub fn zstd(self) -> NdjsonFile {
        self.compression(Compression::Zstd(3))
    }
}

impl<T: Serialize> FileFormat<T> for NdjsonFile {
    type Encoder = TextEncoder<NdjsonRows>;

    fn ending(&self) -> String {
        ending("ndjson", self.compression)
    }

    fn encoder(&self) -> Result<Self::Encoder> {
        TextEncoder::new(NdjsonRows, self.compression)
    }

    fn plain(&self) -> Option<Append<T>> {
        (self.compression == Compression::None).then_some(line)
    }
}

/// Plain files of JSON, a value a line. Unlike lines elsewhere, a number that JSON does not know is refused.
impl<T: Serialize> FileFormat<T> for Ndjson {
    type Encoder = TextEncoder<NdjsonRows>;

    fn ending(&self) -> String {
        ending("ndjson", Compression::None)
    }

    fn encoder(&self) -> Result<Self::Encoder> {
        TextEncoder::new(NdjsonRows, Compression::None)
    }

    fn plain(&self) -> Option<Append<T>> {
        Some(line)
    }
}

/// Appends a record's line.
fn line<T: Serialize>(record: &T, out: &mut Vec<u8>) -> Result<(), String> {
    let watched = Watched { value: record, by: &Finite };
    watched.serialize(&mut Serializer::with_formatter(&mut *out, OneLine)).map_err(Unfit::line)?;
    out.push(b'\n');
    Ok(())
}

/// Makes lines of JSON.
#[derive(Debug)]
pub struct NdjsonRows;

impl<T: Serialize> Rows<T> for NdjsonRows {
    fn row(&mut self, record: &T, out: &mut Vec<u8>) -> Result<(), String> {
        line(record, out)
    }
}

/// Lets only numbers pass that JSON knows.
struct Finite;

impl Watch for Finite {
    fn float(&self, value: f64) -> Result<(), &'static str> {
        if value.is_finite() { Ok(()) } else { Err("JSON has no number for NaN and infinity") }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::encode::FileEncoder;

    fn file<T: Serialize>(records: &[T]) -> String {
        let mut file = FileFormat::<T>::encoder(&Ndjson).unwrap();
        records.iter().for_each(|record| file.write(record).unwrap());
        String::from_utf8(FileEncoder::<T>::finish(file).unwrap()).unwrap()
    }

    #[test]
    fn a_record_is_one_line_whatever_it_holds() {
        assert_eq!(file(&["a\nb"]), "\"a\\nb\"\n");
        let raw = serde_json::value::RawValue::from_string("{\"a\":\r\n 1}".to_owned()).unwrap();
        assert_eq!(file(&[&*raw]), "{\"a\":   1}\n");
        assert_eq!(file::<u8>(&[]), "");
    }

    #[test]
    fn numbers_that_json_does_not_know_are_refused_wherever_they_are() {
        let mut file = FileFormat::<Vec<Option<f64>>>::encoder(&Ndjson).unwrap();
        for bad in [vec![Some(f64::NAN)], vec![None, Some(f64::INFINITY)]] {
            let why = file.write(&bad).unwrap_err();
            assert!(why.contains("NaN") && !why.contains('\n'), "{why}");
        }
        file.write(&vec![None, Some(0.1)]).unwrap();
        assert_eq!(FileEncoder::<Vec<Option<f64>>>::take(&mut file), b"[null,0.1]\n");
        assert_eq!(FileEncoder::<Vec<Option<f64>>>::buffered(&file), 0);
    }

    #[test]
    fn a_map_whose_keys_are_no_text_is_refused() {
        let mut file = FileFormat::<BTreeMap<(u8, u8), u8>>::encoder(&Ndjson).unwrap();
        assert!(file.write(&BTreeMap::from([((1, 2), 3)])).unwrap_err().contains("key"));
    }

    #[test]
    fn endings_tell_the_compression() {
        assert_eq!(FileFormat::<u8>::ending(&Ndjson), "ndjson");
        assert_eq!(FileFormat::<u8>::ending(&Ndjson.gzip()), "ndjson.gz");
        assert_eq!(FileFormat::<u8>::ending(&Ndjson.zstd()), "ndjson.zst");
        assert_eq!(FileFormat::<u8>::ending(&Ndjson.compression(Compression::Snappy)), "ndjson.sz");
    }
}
