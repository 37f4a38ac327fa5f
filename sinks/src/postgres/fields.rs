//! Takes cells out of a record by the names of its fields. Pure.
//!
//! A record that serializes as a struct, or as a map with text for keys (which is what `#[serde(flatten)]` makes of one), has
//! fields. Each goes straight into its cell, so no number passes through another type on its way.

use std::fmt::{self, Display};

use serde::Serialize;
use serde::ser::{Impossible, SerializeMap, SerializeStruct, Serializer};

use super::cell::Form;

/// Writes the fields of these names to `out`, cells with tabs between them.
///
/// # Errors
/// Why the record can never be written. What was appended are well-formed cells all the same.
pub(crate) fn write<T: Serialize + ?Sized>(
    record: &T,
    names: &[String],
    form: Form,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let start = out.len();
    let mut taken = Taken { names, form, cells: Cells::InOrder { out, next: 0, is_lost: false }, problem: None };
    let written = record.serialize(Taking(&mut taken));
    if let (Ok(_), Cells::InOrder { next, is_lost: false, .. }) = (written, &taken.cells)
        && *next == names.len()
    {
        return taken.problem.map_or(Ok(()), Err);
    }
    out.truncate(start);
    write_in_any_order(record, names, form, out)
}

/// As [`write`], for records whose fields are not in the order of the names, and those that lack one.
fn write_in_any_order<T: Serialize + ?Sized>(
    record: &T,
    names: &[String],
    form: Form,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let mut slots = vec![Slot::default(); names.len()];
    let mut taken = Taken { names, form, cells: Cells::Slots(&mut slots), problem: None };
    let written = record.serialize(Taking(&mut taken)).map_err(|NoFields(text)| text);
    let mut problem = taken.problem;
    for (index, (name, slot)) in names.iter().zip(slots).enumerate() {
        if index > 0 {
            out.push(b'\t');
        }
        out.extend_from_slice(if slot.found { &slot.bytes } else { form.null() });
        // A map without the key is what a skipped field becomes under `flatten`.
        if let (Ok(Kind::Struct), false) = (&written, slot.found) {
            problem.get_or_insert(format!("it has no field \"{name}\""));
        }
    }
    match (written, problem) {
        (Err(text), _) | (Ok(_), Some(text)) => Err(text),
        (Ok(_), None) => Ok(()),
    }
}

/// The cell of one field of the record that is being written.
#[derive(Debug, Default, Clone)]
struct Slot {
    bytes: Vec<u8>,
    found: bool,
}

/// Where cells go.
enum Cells<'a> {
    /// Each behind the last, as long as the fields come in the order of the names; nothing is copied or allocated then.
    InOrder { out: &'a mut Vec<u8>, next: usize, is_lost: bool },
    /// Each into the slot of its name.
    Slots(&'a mut [Slot]),
}

struct Taken<'a> {
    names: &'a [String],
    form: Form,
    cells: Cells<'a>,
    problem: Option<String>,
}

impl Taken<'_> {
    fn take<V: Serialize + ?Sized>(&mut self, key: &str, value: Option<&V>) {
        let (problem, form) = (&mut self.problem, self.form);
        let mut write = |out: &mut Vec<u8>| {
            let written = match value {
                Some(value) => form.write(value, out),
                None => {
                    out.extend_from_slice(form.null());
                    Ok(())
                }
            };
            if let Err(text) = written {
                problem.get_or_insert(format!("field \"{key}\": {text}"));
            }
        };
        match &mut self.cells {
            Cells::InOrder { is_lost: true, .. } => {}
            Cells::InOrder { out, next, .. } if self.names.get(*next).is_some_and(|name| name == key) => {
                if *next > 0 {
                    out.push(b'\t');
                }
                write(out);
                *next = next.saturating_add(1);
            }
            Cells::InOrder { is_lost, .. } => *is_lost = self.names.iter().any(|name| name == key),
            Cells::Slots(slots) => {
                for (_, slot) in self.names.iter().zip(slots.iter_mut()).filter(|(name, _)| *name == key) {
                    slot.found = true;
                    slot.bytes.clear();
                    write(&mut slot.bytes);
                }
            }
        }
    }
}

/// What a record was.
enum Kind {
    Struct,
    Map,
}

/// A record without fields, or one whose `Serialize` fails.
#[derive(Debug)]
struct NoFields(String);

impl Display for NoFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoFields {}

impl serde::ser::Error for NoFields {
    fn custom<T: Display>(text: T) -> Self {
        Self(text.to_string())
    }
}

struct Taking<'a, 'b>(&'a mut Taken<'b>);

struct TakingMap<'a, 'b> {
    taken: &'a mut Taken<'b>,
    key: Option<String>,
}

impl SerializeStruct for Taking<'_, '_> {
    type Ok = Kind;
    type Error = NoFields;

    fn serialize_field<V: Serialize + ?Sized>(&mut self, key: &'static str, value: &V) -> Result<(), NoFields> {
        self.0.take(key, Some(value));
        Ok(())
    }

    fn skip_field(&mut self, key: &'static str) -> Result<(), NoFields> {
        self.0.take::<()>(key, None);
        Ok(())
    }

    fn end(self) -> Result<Kind, NoFields> {
        Ok(Kind::Struct)
    }
}

impl SerializeMap for TakingMap<'_, '_> {
    type Ok = Kind;
    type Error = NoFields;

    fn serialize_key<K: Serialize + ?Sized>(&mut self, key: &K) -> Result<(), NoFields> {
        let key = serde_json::to_value(key).map_err(|error| NoFields(error.to_string()))?;
        self.key = key.as_str().map(ToOwned::to_owned);
        Ok(())
    }

    fn serialize_value<V: Serialize + ?Sized>(&mut self, value: &V) -> Result<(), NoFields> {
        if let Some(key) = self.key.take() {
            self.taken.take(&key, Some(value));
        }
        Ok(())
    }

    fn end(self) -> Result<Kind, NoFields> {
        Ok(Kind::Map)
    }
}

/// What cannot have fields says so.
macro_rules! without_fields {
    ($($method:ident($($kind:ty),*);)*) => {
        $(fn $method(self, $(_: $kind),*) -> Result<Kind, NoFields> {
            Err(NoFields("it has no fields: it is neither a struct nor a map".to_owned()))
        })*
    };
}

impl<'a, 'b> Serializer for Taking<'a, 'b> {
    type Ok = Kind;
    type Error = NoFields;
    type SerializeSeq = Impossible<Kind, NoFields>;
    type SerializeTuple = Impossible<Kind, NoFields>;
    type SerializeTupleStruct = Impossible<Kind, NoFields>;
    type SerializeTupleVariant = Impossible<Kind, NoFields>;
    type SerializeMap = TakingMap<'a, 'b>;
    type SerializeStruct = Self;
    type SerializeStructVariant = Impossible<Kind, NoFields>;

    without_fields! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Kind, NoFields> {
        value.serialize(self)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<Kind, NoFields> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Kind, NoFields> {
        self.serialize_unit()
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, NoFields> {
        Err(NoFields("it has no fields: it is a list".to_owned()))
    }
    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, NoFields> {
        Err(NoFields("it has no fields: it is a tuple".to_owned()))
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, NoFields> {
        Err(NoFields("its fields have no names".to_owned()))
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, NoFields> {
        Err(NoFields("its fields have no names".to_owned()))
    }
    fn serialize_map(self, _: Option<usize>) -> Result<TakingMap<'a, 'b>, NoFields> {
        Ok(TakingMap { taken: self.0, key: None })
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, NoFields> {
        Ok(self)
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, NoFields> {
        Err(NoFields("it is a variant with fields, and not a struct: tag the enum to make it one".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Serialize)]
    struct Charge<'a> {
        account: &'a str,
        cents: u128,
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<&'a str>,
        tags: Vec<u8>,
    }

    #[derive(Serialize)]
    struct Around<'a> {
        id: u8,
        #[serde(flatten)]
        inner: BTreeMap<&'a str, u8>,
    }

    fn row<T: Serialize>(record: &T, names: &[&str]) -> (String, Result<(), String>) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut out = Vec::new();
        let written = write(record, &names, Form::Copy, &mut out);
        (String::from_utf8(out).unwrap(), written)
    }

    const CHARGE: Charge<'_> = Charge { account: "a\tb", cents: u128::MAX, note: None, tags: Vec::new() };

    #[test]
    fn fields_go_into_their_cells_in_the_order_of_the_names() {
        let (text, written) = row(&CHARGE, &["tags", "note", "cents", "account"]);
        written.unwrap();
        assert_eq!(text, "[]\t\\N\t340282366920938463463374607431768211455\ta\\tb");
    }

    #[test]
    fn fields_that_are_in_order_go_straight_into_their_cells() {
        let all = ["account", "cents", "note", "tags"];
        for names in [&all[..], &["account", "cents", "tags"], &["cents"]] {
            let (text, written) = row(&CHARGE, names);
            written.unwrap();
            let mut slow = Vec::new();
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            write_in_any_order(&CHARGE, &names, Form::Copy, &mut slow).unwrap();
            assert_eq!(text.as_bytes(), slow, "{names:?}");
        }
    }

    #[test]
    fn wrapped_and_flattened_records_have_their_fields_too() {
        #[derive(Serialize)]
        struct Wrapped<'a>(Charge<'a>);
        assert_eq!(row(&Some(Wrapped(CHARGE)), &["account"]), ("a\\tb".to_owned(), Ok(())));
        let around = Around { id: 1, inner: BTreeMap::from([("a", 2), ("b", 3)]) };
        assert_eq!(row(&around, &["b", "id", "absent"]), ("3\t1\t\\N".to_owned(), Ok(())));
    }

    #[test]
    fn a_field_that_no_record_has_is_a_problem_and_not_null() {
        let (text, written) = row(&CHARGE, &["account", "acount"]);
        assert_eq!((text.as_str(), written.unwrap_err().as_str()), ("a\\tb\t\\N", "it has no field \"acount\""));
    }

    #[test]
    fn records_without_fields_say_so_and_leave_cells_behind() {
        for (text, written) in [row(&3, &["a", "b"]), row(&[1, 2], &["a", "b"]), row(&"x", &["a", "b"])] {
            assert!(written.unwrap_err().contains("no fields"));
            assert_eq!(text, "\\N\t\\N");
        }
    }

    #[test]
    fn a_problem_names_its_field() {
        let (text, written) = row(&Charge { account: "a\0", ..CHARGE }, &["account", "cents"]);
        assert!(written.unwrap_err().starts_with("field \"account\": it holds a NUL"));
        assert!(text.starts_with("a\0\t3402"));
    }
}
