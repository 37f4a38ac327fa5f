//! The shape of a record type: a number that changes when the fields of its outermost struct change.
//!
//! Spooled records are not self-describing. A program whose record type has changed could read an older program's records
//! wrongly, where the bytes happen to fit; the shape in each spool file's header stops that. What lies deeper is not in it:
//! there, only lengths that do not fit tell.

use std::fmt::Write;

use serde::de::value::Error;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

/// The shape of `T`.
pub(super) fn of<T: DeserializeOwned>() -> u32 {
    crc32fast::hash(described::<T>().as_bytes())
}

/// What its deserialization asks for first.
fn described<T: DeserializeOwned>() -> String {
    let mut text = String::new();
    // It ends in an error once it has told what it is.
    let _ = T::deserialize(Asked(&mut text));
    text
}

struct Asked<'a>(&'a mut String);

impl Asked<'_> {
    fn told<V>(self, kind: &str, names: &[&str]) -> Result<V, Error> {
        // Writing to a string does not fail.
        let _ = write!(self.0, "{kind}({})", names.join(","));
        Err(Error::custom("asked"))
    }
}

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        struct Expected<V>(V);
        impl<'de, V: Visitor<'de>> std::fmt::Display for Expected<V> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.expecting(f)
            }
        }
        let expected = Expected(visitor).to_string();
        self.told("other", &[&expected])
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        self.told("struct", fields)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        self.told("enum", variants)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, _visitor: V) -> Result<V::Value, Error> {
        self.told("tuple", &[&len.to_string()])
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.0.push_str("option ");
        visitor.visit_some(self)
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple_struct map identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Charge {
        account: String,
        cents: u64,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Wrapped(Charge);

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its shape matters")]
    enum Side {
        Buy,
        Sell(u64),
    }

    #[test]
    fn a_shape_tells_the_fields() {
        assert_eq!(described::<Charge>(), "struct(account,cents)");
        assert_eq!(described::<Wrapped>(), "struct(account,cents)");
        assert_eq!(described::<Option<Charge>>(), "option struct(account,cents)");
        assert_eq!(described::<Side>(), "enum(Buy,Sell)");
        assert_eq!(described::<(u8, u8)>(), "tuple(2)");
        assert_eq!(described::<u64>(), "other(u64)");
        assert_eq!(described::<String>(), "other(a string)");
        assert_ne!(of::<Charge>(), of::<Side>());
    }
}
