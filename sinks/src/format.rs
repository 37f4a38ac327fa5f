//! How a record becomes a line.

use std::error::Error as StdError;
use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Writes records of type `T` one after the other.
pub trait Format<T>: Clone + Send + Sync + 'static {
    /// The ending of a file of this format, without the dot.
    const ENDING: &'static str;

    /// Appends `record` to `out`, with its line break.
    ///
    /// # Errors
    /// The record has no form in this format. What was appended until then is removed by the caller.
    fn write(&self, record: &T, out: &mut Vec<u8>) -> Result<(), Box<dyn StdError + Send + Sync>>;
}

/// A JSON value a line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ndjson;

impl<T: Serialize> Format<T> for Ndjson {
    const ENDING: &'static str = "ndjson";

    fn write(&self, record: &T, out: &mut Vec<u8>) -> Result<(), Box<dyn StdError + Send + Sync>> {
        record.serialize(&mut Serializer::with_formatter(&mut *out, OneLine))?;
        out.push(b'\n');
        Ok(())
    }
}

/// Text, a record a line. A line break inside the text stays, so such a record reads back as several lines.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lines;

impl<T: AsRef<str>> Format<T> for Lines {
    const ENDING: &'static str = "txt";

    fn write(&self, record: &T, out: &mut Vec<u8>) -> Result<(), Box<dyn StdError + Send + Sync>> {
        out.extend_from_slice(record.as_ref().as_bytes());
        out.push(b'\n');
        Ok(())
    }
}

/// Compact JSON without line breaks, even where a record carries raw JSON that has some.
///
/// Outside strings a line break is white space, and inside strings JSON forbids it: a space means the same.
pub(crate) struct OneLine;

impl Formatter for OneLine {
    fn write_raw_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for (index, line) in fragment.split(['\n', '\r']).enumerate() {
            if index > 0 {
                writer.write_all(b" ")?;
            }
            writer.write_all(line.as_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_whatever_its_text_holds() {
        let mut out = Vec::new();
        Ndjson.write(&("a\nb", 1), &mut out).unwrap();
        assert_eq!(out, b"[\"a\\nb\",1]\n");
    }

    #[test]
    fn raw_json_loses_its_line_breaks_and_keeps_its_meaning() {
        let mut out = Vec::new();
        OneLine.write_raw_fragment(&mut out, "{\r\n\"a\":\n1}").unwrap();
        assert_eq!(out, b"{  \"a\": 1}");
    }

    #[test]
    fn text_is_written_as_it_is() {
        let mut out = Vec::new();
        Lines.write(&"plain", &mut out).unwrap();
        Lines.write(&String::from("text"), &mut out).unwrap();
        assert_eq!(out, b"plain\ntext\n");
    }
}
