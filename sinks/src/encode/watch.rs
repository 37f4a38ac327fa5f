//! Looks at every value of a record on its way into another serializer, in the same pass.
//!
//! serde_json writes `null` for a number that JSON does not know, and nobody tells how large a record is inside an Arrow
//! builder: both are seen here.

use serde::Serialize;
use serde::ser::{
    Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// What looks.
pub(super) trait Watch {
    /// Integers up to `i64::MAX` are handed over as `i64`: some formats take a `u64` for something else.
    fn longs(&self) -> bool {
        false
    }

    /// A newtype is handed over as what it holds: some formats take it for a record of one field.
    fn plain_newtypes(&self) -> bool {
        false
    }

    /// A floating-point number, and why it may not pass.
    fn float(&self, _value: f64) -> Result<(), &'static str> {
        Ok(())
    }

    /// A value of so many bytes.
    fn weigh(&self, _bytes: usize) {}
}

/// A value that is watched while it is serialized.
pub(super) struct Watched<'a, T: ?Sized, W> {
    pub(super) value: &'a T,
    pub(super) by: &'a W,
}

impl<T: Serialize + ?Sized, W: Watch> Serialize for Watched<'_, T, W> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Watching { to, by: self.by })
    }
}

/// A serializer, or a part of one, behind the watch.
struct Watching<'a, S, W> {
    to: S,
    by: &'a W,
}

/// A number of a fixed size passes.
macro_rules! fixed {
    ($($method:ident: $type:ty),*) => {
        $(fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.by.weigh(size_of::<$type>());
            self.to.$method(value)
        })*
    };
}

impl<'a, S: Serializer, W: Watch> Serializer for Watching<'a, S, W> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Watching<'a, S::SerializeSeq, W>;
    type SerializeTuple = Watching<'a, S::SerializeTuple, W>;
    type SerializeTupleStruct = Watching<'a, S::SerializeTupleStruct, W>;
    type SerializeTupleVariant = Watching<'a, S::SerializeTupleVariant, W>;
    type SerializeMap = Watching<'a, S::SerializeMap, W>;
    type SerializeStruct = Watching<'a, S::SerializeStruct, W>;
    type SerializeStructVariant = Watching<'a, S::SerializeStructVariant, W>;

    fixed!(serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64);
    fixed!(serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u128: u128);
    fixed!(serialize_char: char);

    fn serialize_u64(self, value: u64) -> Result<S::Ok, S::Error> {
        self.by.weigh(size_of::<u64>());
        match i64::try_from(value) {
            Ok(long) if self.by.longs() => self.to.serialize_i64(long),
            _ => self.to.serialize_u64(value),
        }
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        self.by.weigh(size_of::<f32>());
        self.by.float(f64::from(value)).map_err(S::Error::custom)?;
        self.to.serialize_f32(value)
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        self.by.weigh(size_of::<f64>());
        self.by.float(value).map_err(S::Error::custom)?;
        self.to.serialize_f64(value)
    }

    fn serialize_str(self, value: &str) -> Result<S::Ok, S::Error> {
        self.by.weigh(value.len().saturating_add(4));
        self.to.serialize_str(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<S::Ok, S::Error> {
        self.by.weigh(value.len().saturating_add(4));
        self.to.serialize_bytes(value)
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.by.weigh(1);
        self.to.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.to.serialize_some(&Watched { value, by: self.by })
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.by.weigh(1);
        self.to.serialize_unit()
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        self.by.weigh(1);
        self.to.serialize_unit_struct(name)
    }

    fn serialize_unit_variant(self, name: &'static str, index: u32, variant: &'static str) -> Result<S::Ok, S::Error> {
        self.by.weigh(variant.len());
        self.to.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        if self.by.plain_newtypes() {
            return value.serialize(self);
        }
        self.to.serialize_newtype_struct(name, &Watched { value, by: self.by })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.to.serialize_newtype_variant(name, index, variant, &Watched { value, by: self.by })
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        Ok(Watching { to: self.to.serialize_seq(length)?, by: self.by })
    }

    fn serialize_tuple(self, length: usize) -> Result<Self::SerializeTuple, S::Error> {
        Ok(Watching { to: self.to.serialize_tuple(length)?, by: self.by })
    }

    fn serialize_tuple_struct(self, name: &'static str, length: usize) -> Result<Self::SerializeTupleStruct, S::Error> {
        Ok(Watching { to: self.to.serialize_tuple_struct(name, length)?, by: self.by })
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        Ok(Watching { to: self.to.serialize_tuple_variant(name, index, variant, length)?, by: self.by })
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        Ok(Watching { to: self.to.serialize_map(length)?, by: self.by })
    }

    fn serialize_struct(self, name: &'static str, length: usize) -> Result<Self::SerializeStruct, S::Error> {
        Ok(Watching { to: self.to.serialize_struct(name, length)?, by: self.by })
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        Ok(Watching { to: self.to.serialize_struct_variant(name, index, variant, length)?, by: self.by })
    }

    fn is_human_readable(&self) -> bool {
        self.to.is_human_readable()
    }
}

/// The parts of a row of values, each watched.
macro_rules! elements {
    ($($trait:ident: $method:ident),*) => {
        $(impl<S: $trait, W: Watch> $trait for Watching<'_, S, W> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
                self.to.$method(&Watched { value, by: self.by })
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.to.end()
            }
        })*
    };
}

/// The fields of a struct, each watched.
macro_rules! named {
    ($($trait:ident),*) => {
        $(impl<S: $trait, W: Watch> $trait for Watching<'_, S, W> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), S::Error> {
                self.to.serialize_field(key, &Watched { value, by: self.by })
            }

            fn skip_field(&mut self, key: &'static str) -> Result<(), S::Error> {
                self.to.skip_field(key)
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.to.end()
            }
        })*
    };
}

elements!(SerializeSeq: serialize_element, SerializeTuple: serialize_element);
elements!(SerializeTupleStruct: serialize_field, SerializeTupleVariant: serialize_field);
named!(SerializeStruct, SerializeStructVariant);

impl<S: SerializeMap, W: Watch> SerializeMap for Watching<'_, S, W> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), S::Error> {
        self.to.serialize_key(&Watched { value: key, by: self.by })
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        self.to.serialize_value(&Watched { value, by: self.by })
    }

    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(&mut self, k: &K, v: &V) -> Result<(), S::Error> {
        self.to.serialize_entry(&Watched { value: k, by: self.by }, &Watched { value: v, by: self.by })
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.to.end()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Default)]
    struct Scale(Cell<usize>);

    impl Watch for Scale {
        fn weigh(&self, bytes: usize) {
            self.0.set(self.0.get() + bytes);
        }
    }

    #[derive(Serialize)]
    enum Kind {
        Unit,
        New(u8),
        Pair(i8, i8),
        Named { a: f32 },
    }

    #[derive(Serialize)]
    struct Wrapped(String);

    #[derive(Serialize)]
    struct Two(i16, i32);

    #[derive(Serialize)]
    struct Everything {
        kinds: Vec<Kind>,
        map: BTreeMap<String, (u16, Option<u64>)>,
        wrapped: Wrapped,
        two: Two,
        unit: (),
        letter: char,
        big: (i128, u128, i64, u32, f64, bool),
    }

    fn everything() -> Everything {
        Everything {
            kinds: vec![Kind::Unit, Kind::New(1), Kind::Pair(-1, 2), Kind::Named { a: 0.5 }],
            map: BTreeMap::from([("x".to_owned(), (7, None)), ("y".to_owned(), (8, Some(u64::MAX)))]),
            wrapped: Wrapped("text".to_owned()),
            two: Two(3, 4),
            unit: (),
            letter: 'ß',
            big: (i128::MIN, u128::MAX, i64::MIN, 1, 1e300, true),
        }
    }

    #[test]
    fn a_watched_record_is_written_as_if_nobody_looked() {
        let (value, scale) = (everything(), Scale::default());
        let watched = serde_json::to_string(&Watched { value: &value, by: &scale }).unwrap();
        assert_eq!(watched, serde_json::to_string(&value).unwrap());
        let raw = serde_json::value::RawValue::from_string("{\"a\": [1]}".to_owned()).unwrap();
        assert_eq!(serde_json::to_string(&Watched { value: &raw, by: &scale }).unwrap(), "{\"a\": [1]}");
    }

    #[test]
    fn every_value_is_weighed() {
        let scale = Scale::default();
        serde_json::to_string(&Watched { value: &("abc", 1u64, vec![1u8, 2], Some(0.5f64)), by: &scale }).unwrap();
        assert_eq!(scale.0.get(), (3 + 4) + 8 + 2 + 8);
    }
}
