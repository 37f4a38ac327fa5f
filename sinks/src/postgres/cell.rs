//! A value becomes one cell of a row in COPY's text format. Pure.
//!
//! What serde calls a number, a truth value, a text or nothing is written as PostgreSQL reads it; bytes in `bytea`'s hex; and
//! whatever has an inside (a struct, a list, a map) as JSON text, for `json` and `jsonb` columns.

use std::io::{self, Write};

use serde::Serialize;

use super::scalar::{Kind, Scalar, Unfit};

/// How COPY writes NULL.
pub(crate) const NULL: &[u8] = b"\\N";

/// How a cell is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As COPY's text format has it.
    Copy,
    /// As a JSON value.
    Json,
}

impl Form {
    /// Appends a value as a cell. As [`write`].
    pub(crate) fn write<V: Serialize + ?Sized>(self, value: &V, out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Self::Copy => write(value, out),
            Self::Json => write_value(value, out),
        }
    }

    pub(crate) fn null(self) -> &'static [u8] {
        match self {
            Self::Copy => NULL,
            Self::Json => b"null",
        }
    }
}

/// Why PostgreSQL can never take a cell.
const NUL_INSIDE: &str = "it holds a NUL character, which no text in PostgreSQL can";

/// Appends a value to `out` as a cell, without its delimiter.
///
/// # Errors
/// Why it can never be written. What was appended is a well-formed cell all the same, so that the row can be shown.
pub(crate) fn write<V: Serialize + ?Sized>(value: &V, out: &mut Vec<u8>) -> Result<(), String> {
    let start = out.len();
    match value.serialize(Scalar { out: &mut *out, kind: &mut Kind::Text }) {
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
pub(crate) fn write_json<V: Serialize + ?Sized>(value: &V, out: &mut Vec<u8>) -> Result<(), String> {
    let start = out.len();
    let written = serde_json::to_writer(Escaping(&mut *out), value);
    if written.is_err() || out.get(start..) == Some(b"null") {
        out.truncate(start);
        out.extend_from_slice(NULL);
    }
    written.map_err(|error| error.to_string())
}

/// Appends a value as JSON: numbers and truth values as such, but a number that JSON has not (NaN, infinities) as text, bytes as
/// text in hex, and whatever has an inside as it is.
fn write_value<V: Serialize + ?Sized>(value: &V, out: &mut Vec<u8>) -> Result<(), String> {
    let start = out.len();
    let (mut text, mut kind) = (Vec::new(), Kind::Text);
    let written = match value.serialize(Scalar { out: &mut text, kind: &mut kind }) {
        Ok(()) => match (kind, read(&text)) {
            (Kind::Null, _) | (_, None) => serde_json::to_writer(&mut *out, &()),
            (Kind::Literal, Some(literal)) => {
                out.extend_from_slice(literal.as_bytes());
                Ok(())
            }
            (Kind::Text, Some(text)) => serde_json::to_writer(&mut *out, &text),
            (Kind::Bytes, Some(text)) => serde_json::to_writer(&mut *out, text.trim_start_matches("\\x")),
        }
        .map_err(|error| error.to_string()),
        Err(Unfit::Nested) => serde_json::to_writer(&mut *out, value).map_err(|error| error.to_string()),
        Err(Unfit::Failed(text)) => Err(text),
    };
    if written.is_err() {
        out.truncate(start);
        out.extend_from_slice(Form::Json.null());
    }
    written
}

/// Appends text, with what COPY would take for its own escaped.
pub(crate) fn escape(text: &[u8], out: &mut Vec<u8>) {
    let is_special = |byte: &u8| matches!(byte, b'\\' | b'\n' | b'\r' | b'\t');
    let mut plain = text;
    // Most text has none of them: all of it is looked at without a branch, which takes a vector at a time.
    if !text.iter().fold(false, |found, byte| found | is_special(byte)) {
        out.extend_from_slice(text);
        return;
    }
    while let Some(at) = plain.iter().position(is_special) {
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
pub(crate) fn read(cell: &[u8]) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::ser::{Error as _, Serializer};

    fn cell<V: Serialize + ?Sized>(value: &V) -> String {
        let mut out = Vec::new();
        write(value, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[derive(Serialize)]
    enum Variant {
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
        assert_eq!(cell(&Variant::Plain), "Plain");
        assert_eq!(cell(&Variant::With(3)), "{\"With\":3}");
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
    fn a_json_value_keeps_its_kind() {
        let json = |write: &dyn Fn(&mut Vec<u8>) -> Result<(), String>| {
            let mut out = Vec::new();
            write(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(json(&|out| Form::Json.write(&u128::MAX, out)), u128::MAX.to_string());
        assert_eq!(json(&|out| Form::Json.write(&true, out)), "true");
        assert_eq!(json(&|out| Form::Json.write("12\t\"\\N", out)), r#""12\t\"\\N""#);
        assert_eq!(json(&|out| Form::Json.write("\\N", out)), r#""\\N""#);
        assert_eq!(json(&|out| Form::Json.write(&None::<u8>, out)), "null");
        assert_eq!(json(&|out| Form::Json.write(&1.5e300, out)), "1.5e300");
        assert_eq!(json(&|out| Form::Json.write(&f64::NAN, out)), "\"NaN\"");
        assert_eq!(json(&|out| Form::Json.write(&vec![Some("a\n"), None], out)), r#"["a\n",null]"#);
        assert_eq!(json(&|out| Form::Json.write(&Variant::With(3), out)), r#"{"With":3}"#);
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
