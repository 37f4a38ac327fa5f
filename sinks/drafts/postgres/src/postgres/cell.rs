//! A value becomes one cell of a row in COPY's text format. Pure.
//!
//! What serde calls a number, a truth value, a text or nothing is written as PostgreSQL reads it; bytes in `bytea`'s hex; and
//! whatever has an inside (a struct, a list, a map) as JSON text, for `json` and `jsonb` columns.

use std::fmt::{self, Display};
use std::io::{self, Write};

use serde::Serialize;
use serde::ser::{Error as _, Impossible, Serializer};

/// How COPY writes NULL.
pub(super) const NULL: &[u8] = b"\\N";

/// Why PostgreSQL can never take a cell.
const NUL_INSIDE: &str = "it holds a NUL character, which no text in PostgreSQL can";

/// Appends a value to `out` as a cell, without its delimiter.
///
/// # Errors
/// Why it can never be written. What was appended is a well-formed cell all the same, so that the row can be shown.
pub(super) fn write<V: Serialize + ?Sized>(value: &V, out: &mut Vec<u8>) -> Result<(), String> {
    let start = out.len();
    match value.serialize(Scalar { out: &mut *out }) {
        Ok(()) => look_for_nul(out.get(start..).unwrap_or_default()),
        Err(Unfit::Nested) => {
            out.truncate(start);
            write_json(value, out)
        }
        Err(Unfit::Failed(text)) => {
            out.truncate(start);
            out.extend_from_slice(NULL);
            Err(text)
        }
    }
}

/// As [`write`], but as JSON text whatever it is. Nothing stays NULL.
pub(super) fn write_json<V: Serialize + ?Sized>(value: &V, out: &mut Vec<u8>) -> Result<(), String> {
    let start = out.len();
    let written = serde_json::to_writer(Escaping(&mut *out), value);
    if written.is_err() || out.get(start..) == Some(b"null") {
        out.truncate(start);
        out.extend_from_slice(NULL);
    }
    written.map_err(|error| error.to_string())
}

/// Appends text, with what COPY would take for its own escaped.
pub(super) fn escape(text: &[u8], out: &mut Vec<u8>) {
    let mut plain = text;
    while let Some(at) = plain.iter().position(|byte| matches!(byte, b'\\' | b'\n' | b'\r' | b'\t')) {
        let (before, rest) = plain.split_at(at);
        out.extend_from_slice(before);
        if let Some((byte, rest)) = rest.split_first() {
            out.extend_from_slice(match byte {
                b'\n' => b"\\n",
                b'\r' => b"\\r",
                b'\t' => b"\\t",
                _ => b"\\\\",
            });
            plain = rest;
        }
    }
    out.extend_from_slice(plain);
}

/// A cell as it reads back; `None`: NULL. For showing rows.
pub(super) fn read(cell: &[u8]) -> Option<String> {
    if cell == NULL {
        return None;
    }
    let mut text = Vec::with_capacity(cell.len());
    let mut bytes = cell.iter();
    while let Some(byte) = bytes.next() {
        text.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(other) => *other,
                None => b'\\',
            },
            other => *other,
        });
    }
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn look_for_nul(cell: &[u8]) -> Result<(), String> {
    if cell.contains(&0) { Err(NUL_INSIDE.to_owned()) } else { Ok(()) }
}

/// Escapes what is written to it.
struct Escaping<'a>(&'a mut Vec<u8>);

impl Write for Escaping<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        escape(bytes, self.0);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why a value is no single cell.
#[derive(Debug)]
enum Unfit {
    /// It has an inside: it goes as JSON.
    Nested,
    /// Its `Serialize` says so.
    Failed(String),
}

impl Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nested => f.write_str("it has an inside"),
            Self::Failed(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Unfit {}

impl serde::ser::Error for Unfit {
    fn custom<T: Display>(text: T) -> Self {
        Self::Failed(text.to_string())
    }
}

/// Writes values without an inside.
struct Scalar<'a> {
    out: &'a mut Vec<u8>,
}

impl Scalar<'_> {
    fn display(self, value: impl Display) -> Result<(), Unfit> {
        write!(self.out, "{value}").map_err(Unfit::custom)
    }

    fn null(self) -> Result<(), Unfit> {
        self.out.extend_from_slice(NULL);
        Ok(())
    }

    fn float<F: Into<f64> + Copy + Display + fmt::Debug>(self, value: F) -> Result<(), Unfit> {
        let wide: f64 = value.into();
        if wide.is_nan() {
            self.display("NaN")
        } else if wide.is_infinite() {
            self.display(if wide > 0.0 { "Infinity" } else { "-Infinity" })
        } else if wide != 0.0 && (wide.abs() < 1e-5 || wide.abs() >= 1e16) {
            // With an exponent, in place of hundreds of zeros.
            self.display(format_args!("{value:?}"))
        } else {
            self.display(value)
        }
    }
}

impl Serializer for Scalar<'_> {
    type Ok = ();
    type Error = Unfit;
    type SerializeSeq = Impossible<(), Unfit>;
    type SerializeTuple = Impossible<(), Unfit>;
    type SerializeTupleStruct = Impossible<(), Unfit>;
    type SerializeTupleVariant = Impossible<(), Unfit>;
    type SerializeMap = Impossible<(), Unfit>;
    type SerializeStruct = Impossible<(), Unfit>;
    type SerializeStructVariant = Impossible<(), Unfit>;

    fn serialize_bool(self, value: bool) -> Result<(), Unfit> {
        self.display(value)
    }
    fn serialize_i8(self, value: i8) -> Result<(), Unfit> {
        self.display(value)
    }
    fn serialize_i16(self, value: i16) -> Result<(), Unfit> {
        self.display(value)
    }
    fn serialize_i32(self, value: i32) -> Result<(), Unfit> {
        self.display(value)
    }
    fn serialize_i64(self, value: i64) -> Result<(), Unfit> {
        self.display(value)
    }
    fn serialize_i128(self, value: i128) -> Result<(), Unfit> {
        self.display(value)
    }
    fn serialize_u8(self, value: u8) -> Result<(), Unfit> {
        self.display(value)
    }
    fn serialize_u16(self, value: u16) -> Result<(), Unfit> {
        self.display(value)
    }
    fn serialize_u32(self, value: u32) -> Result<(), Unfit> {
        self.display(value)
    }
    fn serialize_u64(self, value: u64) -> Result<(), Unfit> {
        self.display(value)
    }
    fn serialize_u128(self, value: u128) -> Result<(), Unfit> {
        self.display(value)
    }
    fn serialize_f32(self, value: f32) -> Result<(), Unfit> {
        self.float(value)
    }
    fn serialize_f64(self, value: f64) -> Result<(), Unfit> {
        self.float(value)
    }
    fn serialize_char(self, value: char) -> Result<(), Unfit> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }
    fn serialize_str(self, value: &str) -> Result<(), Unfit> {
        escape(value.as_bytes(), self.out);
        Ok(())
    }
    fn serialize_bytes(self, value: &[u8]) -> Result<(), Unfit> {
        self.out.extend_from_slice(b"\\\\x");
        for byte in value {
            write!(self.out, "{byte:02x}").map_err(Unfit::custom)?;
        }
        Ok(())
    }
    fn serialize_none(self) -> Result<(), Unfit> {
        self.null()
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unfit> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Unfit> {
        self.null()
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unfit> {
        self.null()
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Unfit> {
        self.serialize_str(variant)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Unfit> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Unfit> {
        Err(Unfit::Nested)
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Unfit> {
        Err(Unfit::Nested)
    }
    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Unfit> {
        Err(Unfit::Nested)
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Unfit> {
        Err(Unfit::Nested)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Unfit> {
        Err(Unfit::Nested)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Unfit> {
        Err(Unfit::Nested)
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, Unfit> {
        Err(Unfit::Nested)
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Unfit> {
        Err(Unfit::Nested)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cell<V: Serialize + ?Sized>(value: &V) -> String {
        let mut out = Vec::new();
        write(value, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[derive(Serialize)]
    enum Kind {
        Plain,
        With(u8),
    }

    #[test]
    fn values_are_written_as_postgres_reads_them() {
        assert_eq!(cell(&true), "true");
        assert_eq!(cell(&i128::MIN), "-170141183460469231731687303715884105728");
        assert_eq!(cell(&u64::MAX), "18446744073709551615");
        assert_eq!(cell(&'ä'), "ä");
        assert_eq!(cell(&Some("x")), "x");
        assert_eq!(cell(&None::<u8>), "\\N");
        assert_eq!(cell(&()), "\\N");
        assert_eq!(cell(&Kind::Plain), "Plain");
        assert_eq!(cell(&Kind::With(3)), "{\"With\":3}");
        assert_eq!(cell(&vec!["a\"b", "c\n"]), "[\"a\\\\\"b\",\"c\\\\n\"]");
        assert_eq!(cell(&serde_json::json!({"a": [1, null]})), "{\"a\":[1,null]}");
        assert_eq!(cell(&f64::NAN), "NaN");
        assert_eq!((cell(&f64::INFINITY), cell(&f32::NEG_INFINITY)), ("Infinity".to_owned(), "-Infinity".to_owned()));
        assert_eq!((cell(&0.1_f32), cell(&0.1), cell(&3.0)), ("0.1".to_owned(), "0.1".to_owned(), "3".to_owned()));
        assert_eq!((cell(&1e300), cell(&-1e-300)), ("1e300".to_owned(), "-1e-300".to_owned()));
    }

    #[test]
    fn what_copy_would_take_for_its_own_is_escaped() {
        assert_eq!(cell("a\tb\nc\rd\\e"), "a\\tb\\nc\\rd\\\\e");
        assert_eq!(cell("\\N"), "\\\\N");
        assert_eq!(cell("\\."), "\\\\.");
        assert_eq!(cell(""), "");
    }

    #[test]
    fn bytes_are_hex() {
        struct Raw(&'static [u8]);
        impl Serialize for Raw {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(self.0)
            }
        }
        assert_eq!(cell(&Raw(&[0, 9, 255])), "\\\\x0009ff");
    }

    #[test]
    fn json_stays_json_even_where_it_is_one_text() {
        let json = |value: &serde_json::Value| {
            let mut out = Vec::new();
            write_json(value, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(json(&"a".into()), "\"a\"");
        assert_eq!(json(&serde_json::Value::Null), "\\N");
    }

    #[test]
    fn a_nul_and_a_value_without_a_form_are_found_and_leave_a_cell_behind() {
        let mut out = b"before\t".to_vec();
        let error = write("a\0b", &mut out).unwrap_err();
        assert!(error.contains("NUL"), "{error}");
        assert_eq!(out, b"before\ta\0b");

        struct Broken;
        impl Serialize for Broken {
            fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(S::Error::custom("it has no form"))
            }
        }
        for broken in [write(&Broken, &mut out), write(&[Broken], &mut out)] {
            assert_eq!(broken.unwrap_err(), "it has no form");
        }
        assert_eq!(out, b"before\ta\0b\\N\\N");
        // JSON writes a NUL by its number, which is PostgreSQL's to judge.
        out.clear();
        write(&["\0"], &mut out).unwrap();
        assert_eq!(out, b"[\"\\\\u0000\"]");
    }

    proptest! {
        #[test]
        fn every_text_reads_back_and_stays_on_one_line(text in any::<String>()) {
            let mut out = Vec::new();
            escape(text.as_bytes(), &mut out);
            prop_assert!(!out.iter().any(|byte| matches!(byte, b'\n' | b'\t' | b'\r')));
            prop_assert_eq!(read(&out), Some(text));
        }

        #[test]
        fn every_float_reads_back(value in any::<f64>(), small in any::<f32>()) {
            prop_assume!(!value.is_nan() && !small.is_nan());
            prop_assert_eq!(cell(&value).parse::<f64>().unwrap(), value);
            prop_assert_eq!(cell(&small).parse::<f32>().unwrap(), small);
        }
    }
}
