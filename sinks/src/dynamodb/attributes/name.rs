//! Takes the names of a map's members: text, or what has one text. Pure.

use serde::ser::{self, Impossible, Serialize};

use super::ser::Unfit;

/// Takes the name of a map's member: text, or what has one text.
pub(super) struct Name;

fn no_name<T>() -> Result<T, Unfit> {
    Err(Unfit::new("a map's names are text, numbers or bools"))
}

macro_rules! names {
    ($($method:ident: $of:ty),*) => { $(fn $method(self, v: $of) -> Result<String, Unfit> { Ok(v.to_string()) })* };
}

macro_rules! no_names {
    ($($method:ident($($of:ty),*) -> $gives:ty;)*) => {
        $(fn $method(self, $(_: $of),*) -> Result<$gives, Unfit> { no_name() })*
    };
}

type Never = Impossible<String, Unfit>;

impl ser::Serializer for Name {
    type Ok = String;
    type Error = Unfit;
    type SerializeSeq = Never;
    type SerializeTuple = Never;
    type SerializeTupleStruct = Never;
    type SerializeTupleVariant = Never;
    type SerializeMap = Never;
    type SerializeStruct = Never;
    type SerializeStructVariant = Never;

    names!(
        serialize_str: &str, serialize_char: char, serialize_bool: bool, serialize_i8: i8, serialize_i16: i16,
        serialize_i32: i32, serialize_i64: i64, serialize_i128: i128, serialize_u8: u8, serialize_u16: u16,
        serialize_u32: u32, serialize_u64: u64, serialize_u128: u128
    );

    no_names! {
        serialize_f32(f32) -> String;
        serialize_f64(f64) -> String;
        serialize_bytes(&[u8]) -> String;
        serialize_none() -> String;
        serialize_unit() -> String;
        serialize_unit_struct(&'static str) -> String;
        serialize_seq(Option<usize>) -> Never;
        serialize_tuple(usize) -> Never;
        serialize_tuple_struct(&'static str, usize) -> Never;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Never;
        serialize_map(Option<usize>) -> Never;
        serialize_struct(&'static str, usize) -> Never;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Never;
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<String, Unfit> {
        value.serialize(self)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<String, Unfit> {
        Ok(variant.to_owned())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<String, Unfit> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<String, Unfit> {
        no_name()
    }
}
