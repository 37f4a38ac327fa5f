//! The fields of a record, by name: what CSV columns and partitions are made of.

use serde::Serialize;
use serde::ser::{Impossible, SerializeMap, SerializeStruct, Serializer};

use super::{Scalar, Unfit, scalar};

/// Takes the fields of a record one after the other.
pub(crate) trait TakeField {
    /// The next field.
    ///
    /// # Errors
    /// It does not fit: no further field is handed over.
    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Unfit>;
}

/// Hands over the fields of a struct, or the entries of a map.
///
/// # Errors
/// The record has no fields with names, or one of them did not fit.
pub(crate) fn each_field<T: Serialize + ?Sized, V: TakeField>(record: &T, take: &mut V) -> Result<(), Unfit> {
    record.serialize(Fields { take, key: String::new() })
}

struct Fields<'a, V> {
    take: &'a mut V,
    /// The key of a map's entry, until its value comes.
    key: String,
}

type No = Impossible<(), Unfit>;

fn nameless<T>(what: &str) -> Result<T, Unfit> {
    Err(Unfit::new(format_args!("a record must be a struct or a map with text keys, and this is {what}")))
}

macro_rules! nameless {
    ($($method:ident($($type:ty),*), $what:literal => $ok:ty);* $(;)?) => {
        $(fn $method(self, $(_: $type),*) -> Result<$ok, Unfit> {
            nameless($what)
        })*
    };
}

impl<'a, V: TakeField> Serializer for Fields<'a, V> {
    type Ok = ();
    type Error = Unfit;
    type SerializeSeq = No;
    type SerializeTuple = No;
    type SerializeTupleStruct = No;
    type SerializeTupleVariant = No;
    type SerializeMap = Fields<'a, V>;
    type SerializeStruct = Fields<'a, V>;
    type SerializeStructVariant = No;

    nameless! {
        serialize_bool(bool), "a bool" => ();
        serialize_i8(i8), "a number" => ();
        serialize_i16(i16), "a number" => ();
        serialize_i32(i32), "a number" => ();
        serialize_i64(i64), "a number" => ();
        serialize_u8(u8), "a number" => ();
        serialize_u16(u16), "a number" => ();
        serialize_u32(u32), "a number" => ();
        serialize_u64(u64), "a number" => ();
        serialize_f32(f32), "a number" => ();
        serialize_f64(f64), "a number" => ();
        serialize_char(char), "text" => ();
        serialize_str(&str), "text" => ();
        serialize_bytes(&[u8]), "bytes" => ();
        serialize_none(), "nothing" => ();
        serialize_unit(), "nothing" => ();
        serialize_unit_struct(&'static str), "nothing" => ();
        serialize_unit_variant(&'static str, u32, &'static str), "a variant" => ();
        serialize_seq(Option<usize>), "a list" => No;
        serialize_tuple(usize), "a tuple" => No;
        serialize_tuple_struct(&'static str, usize), "a tuple" => No;
        serialize_tuple_variant(&'static str, u32, &'static str, usize), "a variant" => No;
        serialize_struct_variant(&'static str, u32, &'static str, usize), "a variant" => No;
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unfit> {
        value.serialize(self)
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
        nameless("a variant")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Unfit> {
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Unfit> {
        Ok(self)
    }
}

impl<V: TakeField> SerializeStruct for Fields<'_, V> {
    type Ok = ();
    type Error = Unfit;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Unfit> {
        self.take.field(key, value).map_err(|unfit| unfit.in_field(key))
    }

    fn end(self) -> Result<(), Unfit> {
        Ok(())
    }
}

impl<V: TakeField> SerializeMap for Fields<'_, V> {
    type Ok = ();
    type Error = Unfit;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unfit> {
        self.key.clear();
        match scalar(key, &mut self.key)? {
            Scalar::Text => Ok(()),
            Scalar::Null => Err(Unfit::new("a key is null")),
        }
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
        self.take.field(&self.key, value).map_err(|unfit| unfit.in_field(&self.key))
    }

    fn end(self) -> Result<(), Unfit> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Default)]
    struct Seen(Vec<(String, String)>);

    impl TakeField for Seen {
        fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Unfit> {
            let mut text = String::new();
            scalar(value, &mut text)?;
            self.0.push((name.to_owned(), text));
            Ok(())
        }
    }

    #[derive(Serialize)]
    struct Inner {
        b: bool,
    }

    #[derive(Serialize)]
    struct Record {
        a: u8,
        #[serde(flatten)]
        inner: Inner,
    }

    fn fields(record: impl Serialize) -> Result<Vec<(String, String)>, String> {
        let mut seen = Seen::default();
        each_field(&record, &mut seen).map_err(|unfit| unfit.to_string())?;
        Ok(seen.0)
    }

    #[test]
    fn structs_and_maps_have_fields() {
        let expected = vec![("a".to_owned(), "1".to_owned()), ("b".to_owned(), "true".to_owned())];
        assert_eq!(fields(Record { a: 1, inner: Inner { b: true } }).unwrap(), expected);
        assert_eq!(fields(Some(BTreeMap::from([("a", "1"), ("b", "true")]))).unwrap(), expected);
    }

    #[test]
    fn other_records_are_refused_and_a_field_that_does_not_fit_is_named() {
        assert!(fields(7).unwrap_err().contains("this is a number"));
        assert!(fields((1, 2)).unwrap_err().contains("this is a tuple"));
        assert!(fields(BTreeMap::from([("a", vec![1])])).unwrap_err().contains("field \"a\": a list"));
    }
}
