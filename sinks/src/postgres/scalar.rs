//! What a value without an inside is: how COPY writes it, and of which kind it was. Pure.

use std::fmt::{self, Display};
use std::io::Write;

use serde::Serialize;
use serde::ser::{Error as _, Impossible, Serializer};

use super::cell;

/// Why a value is no single cell.
#[derive(Debug)]
pub(super) enum Unfit {
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

/// What a value without an inside was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    /// JSON writes it alike.
    Literal,
    Text,
    Bytes,
}

/// Writes values without an inside, in COPY's text format.
pub(super) struct Scalar<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) kind: &'a mut Kind,
}

impl Scalar<'_> {
    fn display(self, value: impl Display) -> Result<(), Unfit> {
        *self.kind = Kind::Literal;
        write!(self.out, "{value}").map_err(Unfit::custom)
    }

    fn text(self, value: &str) -> Result<(), Unfit> {
        *self.kind = Kind::Text;
        self.out.extend_from_slice(value.as_bytes());
        Ok(())
    }

    fn null(self) -> Result<(), Unfit> {
        *self.kind = Kind::Null;
        self.out.extend_from_slice(cell::NULL);
        Ok(())
    }

    fn float<F: Into<f64> + Copy + Display + fmt::Debug>(self, value: F) -> Result<(), Unfit> {
        let wide: f64 = value.into();
        if wide.is_nan() {
            self.text("NaN")
        } else if wide.is_infinite() {
            self.text(if wide > 0.0 { "Infinity" } else { "-Infinity" })
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
        *self.kind = Kind::Text;
        cell::escape(value.as_bytes(), self.out);
        Ok(())
    }
    fn serialize_bytes(self, value: &[u8]) -> Result<(), Unfit> {
        *self.kind = Kind::Bytes;
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
