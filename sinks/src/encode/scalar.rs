//! A single value as text, for what has no other form: a CSV column, a part of a path.

use std::fmt::Write;

use serde::Serialize;
use serde::ser::{Impossible, Serializer};

use super::Unfit;

/// What a value is, once its text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    /// Nothing: `None` or `()`.
    Null,
    /// What was appended.
    Text,
}

/// Appends the text of a value to `out`: numbers as Rust writes them, the names of unit variants, strings as they are.
///
/// # Errors
/// It is not a single value, or has no text: a list, a map, a struct, bytes.
pub(crate) fn scalar<T: Serialize + ?Sized>(value: &T, out: &mut String) -> Result<Scalar, Unfit> {
    value.serialize(Text(out))
}

struct Text<'a>(&'a mut String);

type No = Impossible<Scalar, Unfit>;

fn nested<T>(what: &str) -> Result<T, Unfit> {
    Err(Unfit::new(format_args!("{what} is not a single value")))
}

/// A number in its shortest form that reads back the same.
macro_rules! numbers {
    ($($method:ident: $type:ty, $form:literal);*) => {
        $(fn $method(self, value: $type) -> Result<Scalar, Unfit> {
            write!(self.0, $form, value).map_err(Unfit::new)?;
            Ok(Scalar::Text)
        })*
    };
}

impl Serializer for Text<'_> {
    type Ok = Scalar;
    type Error = Unfit;
    type SerializeSeq = No;
    type SerializeTuple = No;
    type SerializeTupleStruct = No;
    type SerializeTupleVariant = No;
    type SerializeMap = No;
    type SerializeStruct = No;
    type SerializeStructVariant = No;

    numbers!(serialize_bool: bool, "{}"; serialize_i8: i8, "{}"; serialize_i16: i16, "{}"; serialize_i32: i32, "{}");
    numbers!(serialize_i64: i64, "{}"; serialize_i128: i128, "{}"; serialize_u8: u8, "{}"; serialize_u16: u16, "{}");
    numbers!(serialize_u32: u32, "{}"; serialize_u64: u64, "{}"; serialize_u128: u128, "{}"; serialize_char: char, "{}");
    numbers!(serialize_f32: f32, "{:?}"; serialize_f64: f64, "{:?}");

    fn serialize_str(self, value: &str) -> Result<Scalar, Unfit> {
        self.0.push_str(value);
        Ok(Scalar::Text)
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<Scalar, Unfit> {
        Err(Unfit::new("bytes have no text"))
    }

    fn serialize_none(self) -> Result<Scalar, Unfit> {
        Ok(Scalar::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Scalar, Unfit> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Scalar, Unfit> {
        Ok(Scalar::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Scalar, Unfit> {
        Ok(Scalar::Null)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Scalar, Unfit> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<Scalar, Unfit> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Scalar, Unfit> {
        nested("a variant with a value")
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<No, Unfit> {
        nested("a list")
    }

    fn serialize_tuple(self, _: usize) -> Result<No, Unfit> {
        nested("a tuple")
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<No, Unfit> {
        nested("a tuple")
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<No, Unfit> {
        nested("a variant with values")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<No, Unfit> {
        nested("a map")
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<No, Unfit> {
        nested("a struct")
    }

    fn serialize_struct_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<No, Unfit> {
        nested("a variant with fields")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    enum Kind {
        Metered,
        Other(u8),
    }

    fn text(value: impl Serialize) -> Result<Option<String>, String> {
        let mut out = String::new();
        let kind = scalar(&value, &mut out).map_err(|unfit| unfit.to_string())?;
        Ok((kind == Scalar::Text).then_some(out))
    }

    #[test]
    fn single_values_have_their_text() {
        assert_eq!(text("a"), Ok(Some("a".to_owned())));
        assert_eq!(text(Some(-7i8)), Ok(Some("-7".to_owned())));
        assert_eq!(text(1.0f64), Ok(Some("1.0".to_owned())));
        assert_eq!(text(f64::NAN), Ok(Some("NaN".to_owned())));
        assert_eq!(text(Kind::Metered), Ok(Some("Metered".to_owned())));
        assert_eq!(text(shardflow::EventTime::from_millis(9)), Ok(Some("9".to_owned())));
        assert_eq!(text(None::<u8>), Ok(None));
    }

    #[test]
    fn values_with_parts_have_none() {
        assert!(text([1, 2]).unwrap_err().contains("not a single value"));
        assert!(text(vec![1]).unwrap_err().contains("a list"));
        assert!(text(std::collections::BTreeMap::from([(1, 2)])).unwrap_err().contains("a map"));
        assert!(text(Kind::Other(1)).unwrap_err().contains("a variant"));
    }
}
