//! Serializes a record into an item. Pure.
//!
//! | serde | DynamoDB |
//! |---|---|
//! | integers to 128 bits, finite floats | N |
//! | `str`, `char`, a variant without a value | S |
//! | bytes (`serde_bytes`) | B |
//! | `bool` | BOOL |
//! | `None`, `()` | NULL |
//! | sequences, tuples | L |
//! | structs, maps, variants with a value (one member, named as the variant) | M |
//!
//! Own, since the crates that do this refuse 128 bits, which is what exact sums are, let NaN through, and do not say which
//! attribute does not fit. There are no sets: serde knows none.

use std::fmt;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use serde::ser::{self, Serialize};

use super::Item;
use super::name::Name;
use super::number::{Number, of_float};

/// Levels of lists and maps in one another, so that nothing recurses without bound. DynamoDB itself refuses more than 32.
const DEEPEST: usize = 64;

/// How a struct of `serde_json` that stands for a number calls itself, and its only member.
const JSON_NUMBER: &str = "$serde_json::private::Number";
const JSON_RAW: &str = "$serde_json::private::RawValue";

/// The item of a record.
///
/// # Errors
/// The record is no struct or map, or holds what DynamoDB has no form for.
pub(in crate::dynamodb) fn item_of<T: Serialize + ?Sized>(record: &T) -> Result<Item, Unfit> {
    match record.serialize(Serializer { depth: 0 })? {
        AttributeValue::M(item) => Ok(item),
        _ => Err(Unfit::new("it is no struct and no map, which an item is made of")),
    }
}

/// What does not fit, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::dynamodb) struct Unfit {
    /// From the inside out.
    path: Vec<String>,
    why: String,
}

impl Unfit {
    pub(in crate::dynamodb) fn new(why: impl Into<String>) -> Self {
        Self { path: Vec::new(), why: why.into() }
    }

    /// It lies in this attribute.
    pub(in crate::dynamodb) fn inside(mut self, name: impl Into<String>) -> Self {
        self.path.push(name.into());
        self
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            let path: Vec<&str> = self.path.iter().rev().map(String::as_str).collect();
            write!(f, "attribute \"{}\": ", path.join("."))?;
        }
        f.write_str(&self.why)
    }
}

impl std::error::Error for Unfit {}

impl ser::Error for Unfit {
    fn custom<T: fmt::Display>(why: T) -> Self {
        Self::new(why.to_string())
    }
}

fn number(text: String) -> Result<AttributeValue, Unfit> {
    match Number::parse(&text).map(|number| number.fault()) {
        Some(None) => Ok(AttributeValue::N(text)),
        Some(Some(fault)) => Err(Unfit::new(format!("{text} cannot be kept: {fault}"))),
        None => Err(Unfit::new(format!("{text:?} is no number"))),
    }
}

fn float<F: Copy + Into<f64> + fmt::Display + fmt::LowerExp>(float: F) -> Result<AttributeValue, Unfit> {
    of_float(float).map_or_else(|| Err(Unfit::new(format!("DynamoDB has no {float}"))), number)
}

#[derive(Debug, Clone, Copy)]
struct Serializer {
    depth: usize,
}

impl Serializer {
    fn deeper(self) -> Result<Self, Unfit> {
        if self.depth >= DEEPEST {
            return Err(Unfit::new(format!("it has more than {DEEPEST} levels")));
        }
        Ok(Self { depth: self.depth.saturating_add(1) })
    }

    fn list(self, around: Option<&'static str>) -> Result<List, Unfit> {
        Ok(List { within: self.deeper()?, values: Vec::new(), around })
    }

    fn map(self, around: Option<&'static str>) -> Result<Map, Unfit> {
        Ok(Map { within: self.deeper()?, members: Item::new(), name: None, around })
    }
}

macro_rules! integers {
    ($($method:ident: $of:ty),*) => {
        $(fn $method(self, v: $of) -> Result<AttributeValue, Unfit> { number(v.to_string()) })*
    };
}

impl ser::Serializer for Serializer {
    type Ok = AttributeValue;
    type Error = Unfit;
    type SerializeSeq = List;
    type SerializeTuple = List;
    type SerializeTupleStruct = List;
    type SerializeTupleVariant = List;
    type SerializeMap = Map;
    type SerializeStruct = Map;
    type SerializeStructVariant = Map;

    integers!(
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128
    );

    fn serialize_bool(self, v: bool) -> Result<AttributeValue, Unfit> {
        Ok(AttributeValue::Bool(v))
    }

    fn serialize_f32(self, v: f32) -> Result<AttributeValue, Unfit> {
        float(v)
    }

    fn serialize_f64(self, v: f64) -> Result<AttributeValue, Unfit> {
        float(v)
    }

    fn serialize_char(self, v: char) -> Result<AttributeValue, Unfit> {
        Ok(AttributeValue::S(v.to_string()))
    }

    fn serialize_str(self, v: &str) -> Result<AttributeValue, Unfit> {
        Ok(AttributeValue::S(v.to_owned()))
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<AttributeValue, Unfit> {
        Ok(AttributeValue::B(Blob::new(v)))
    }

    fn serialize_none(self) -> Result<AttributeValue, Unfit> {
        Ok(AttributeValue::Null(true))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<AttributeValue, Unfit> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<AttributeValue, Unfit> {
        Ok(AttributeValue::Null(true))
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<AttributeValue, Unfit> {
        Ok(AttributeValue::Null(true))
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<AttributeValue, Unfit> {
        Ok(AttributeValue::S(variant.to_owned()))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<AttributeValue, Unfit> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<AttributeValue, Unfit> {
        let value = value.serialize(self.deeper()?).map_err(|unfit| unfit.inside(variant))?;
        Ok(named(Some(variant), value))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<List, Unfit> {
        self.list(None)
    }

    fn serialize_tuple(self, _: usize) -> Result<List, Unfit> {
        self.list(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<List, Unfit> {
        self.list(None)
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, variant: &'static str, _: usize) -> Result<List, Unfit> {
        self.deeper()?.list(Some(variant))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Map, Unfit> {
        self.map(None)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Map, Unfit> {
        self.map(None)
    }

    fn serialize_struct_variant(self, _: &'static str, _: u32, variant: &'static str, _: usize) -> Result<Map, Unfit> {
        self.deeper()?.map(Some(variant))
    }
}

/// The value of a variant, named by it.
fn named(variant: Option<&'static str>, value: AttributeValue) -> AttributeValue {
    match variant {
        Some(variant) => AttributeValue::M(Item::from([(variant.to_owned(), value)])),
        None => value,
    }
}

struct List {
    within: Serializer,
    values: Vec<AttributeValue>,
    around: Option<&'static str>,
}

impl List {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
        let at = self.values.len();
        self.values.push(value.serialize(self.within).map_err(|unfit| unfit.inside(at.to_string()))?);
        Ok(())
    }

    fn finish(self) -> AttributeValue {
        named(self.around, AttributeValue::L(self.values))
    }
}

macro_rules! lists {
    ($($kind:ident: $method:ident),*) => {
        $(impl ser::$kind for List {
            type Ok = AttributeValue;
            type Error = Unfit;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
                self.push(value)
            }

            fn end(self) -> Result<AttributeValue, Unfit> {
                Ok(self.finish())
            }
        })*
    };
}

lists!(
    SerializeSeq: serialize_element, SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field, SerializeTupleVariant: serialize_field
);

struct Map {
    within: Serializer,
    members: Item,
    /// The name whose value comes next.
    name: Option<String>,
    around: Option<&'static str>,
}

impl Map {
    fn insert<T: Serialize + ?Sized>(&mut self, name: String, value: &T) -> Result<(), Unfit> {
        let value = match value.serialize(self.within) {
            Ok(value) => value,
            Err(unfit) => return Err(unfit.inside(name)),
        };
        match self.members.insert(name.clone(), value) {
            None => Ok(()),
            Some(_) => Err(Unfit::new("it is there twice").inside(name)),
        }
    }

    fn finish(mut self) -> Result<AttributeValue, Unfit> {
        // Decimal numbers of `serde_json` and of crates that imitate it come as a struct with one text.
        if self.members.len() == 1 {
            if let Some(AttributeValue::S(text)) = self.members.get(JSON_NUMBER) {
                return number(text.clone()).map(|value| named(self.around, value));
            }
            if self.members.contains_key(JSON_RAW) {
                return Err(Unfit::new("raw JSON has no attribute type: decode it first"));
            }
        }
        let members = std::mem::take(&mut self.members);
        Ok(named(self.around, AttributeValue::M(members)))
    }
}

impl ser::SerializeMap for Map {
    type Ok = AttributeValue;
    type Error = Unfit;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unfit> {
        self.name = Some(key.serialize(Name)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
        let name = self.name.take().ok_or_else(|| Unfit::new("it has a value without a name"))?;
        self.insert(name, value)
    }

    fn end(self) -> Result<AttributeValue, Unfit> {
        self.finish()
    }
}

macro_rules! structs {
    ($($kind:ident),*) => {
        $(impl ser::$kind for Map {
            type Ok = AttributeValue;
            type Error = Unfit;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Unfit> {
                self.insert(name.to_owned(), value)
            }

            fn end(self) -> Result<AttributeValue, Unfit> {
                self.finish()
            }
        })*
    };
}

structs!(SerializeStruct, SerializeStructVariant);

#[cfg(test)]
#[path = "ser_tests.rs"]
mod tests;
