//! What a table asks of an item: its key, the keys of its indexes, and its size. Pure.

use aws_sdk_dynamodb::types::{AttributeValue, KeyType, ScalarAttributeType, TableDescription, TableStatus};

use super::attributes::number::Number;
use super::attributes::{Item, Unfit, size};

/// The most that an item may have, in bytes: 400 KB (developer guide, "Quotas").
const LARGEST_ITEM: usize = 400 * 1024;

/// The longest value of a partition key and of a sort key, in bytes.
const LONGEST_PARTITION: usize = 2048;
const LONGEST_SORT: usize = 1024;

/// The names of a table's key attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) partition: String,
    pub(super) sort: Option<String>,
}

impl Keys {
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.partition).chain(&self.sort).map(String::as_str)
    }

    fn told(&self) -> String {
        let sort = self.sort.as_ref().map_or("no sort key".to_owned(), |name| format!("sort key \"{name}\""));
        format!("partition key \"{}\" and {sort}", self.partition)
    }
}

/// One key, whatever way its numbers were written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key(Vec<u8>);

/// Why a table cannot be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unready {
    /// It will be ready.
    NotYet(String),
    /// It will not.
    Never(String),
}

/// What a table asks of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Schema {
    keys: Keys,
    /// The attributes that are keys, of the table or of an index, with their types.
    typed: Vec<(String, ScalarAttributeType)>,
}

impl Schema {
    /// Reads it from the table's description.
    pub(super) fn read(table: &TableDescription, wanted: &Keys) -> Result<Self, Unready> {
        match &table.table_status {
            Some(TableStatus::Active | TableStatus::Updating) => {}
            Some(TableStatus::Creating) | None => return Err(Unready::NotYet("it is being created".to_owned())),
            Some(status) => return Err(Unready::Never(format!("its status is {}", status.as_str()))),
        }
        let key = |kind: KeyType| {
            let of_kind = table.key_schema().iter().find(move |element| element.key_type == kind);
            of_kind.map(|element| element.attribute_name.clone())
        };
        let partition = key(KeyType::Hash);
        let keys = Keys { partition: partition.unwrap_or_default(), sort: key(KeyType::Range) };
        if keys != *wanted {
            return Err(Unready::Never(format!("it has the {}, and the sink the {}", keys.told(), wanted.told())));
        }
        let definitions = table.attribute_definitions().iter();
        let typed = definitions.map(|of| (of.attribute_name.clone(), of.attribute_type.clone())).collect();
        Ok(Self { keys, typed })
    }

    /// Checks an item as far as is certain. What else the service refuses, it says itself.
    pub(super) fn check(&self, item: &Item) -> Result<Key, Unfit> {
        if item.keys().any(String::is_empty) {
            return Err(Unfit::new("an attribute without a name"));
        }
        let key = self.key(item)?;
        for (name, wanted) in &self.typed {
            if let Some(value) = item.get(name) {
                typed(value, wanted).map_err(|unfit| unfit.inside(name))?;
            }
        }
        let bytes = size::item(item);
        if bytes > LARGEST_ITEM {
            return Err(Unfit::new(format!("it has {bytes} bytes, and an item has {LARGEST_ITEM} at most")));
        }
        Ok(key)
    }

    /// The key of an item, or of the key alone.
    pub(super) fn key(&self, item: &Item) -> Result<Key, Unfit> {
        let mut key = Vec::new();
        for (name, longest) in self.keys.names().zip([LONGEST_PARTITION, LONGEST_SORT]) {
            let value =
                item.get(name).ok_or_else(|| Unfit::new("it is a key of the table, and is not there").inside(name))?;
            let part = key_part(value)
                .ok_or_else(|| Unfit::new("it is a key, and neither text, number nor bytes").inside(name))?;
            if part.1.len() > longest {
                let error = format!("a key of {} bytes, and it has {longest} at most", part.1.len());
                return Err(Unfit::new(error).inside(name));
            }
            key.push(part.0);
            key.extend((part.1.len() as u64).to_be_bytes());
            key.extend(part.1);
        }
        Ok(Key(key))
    }

    /// The key attributes of an item alone.
    pub(super) fn key_of(&self, item: &Item) -> Item {
        let attribute = |name: &str| Some((name.to_owned(), item.get(name)?.clone()));
        self.keys.names().filter_map(attribute).collect()
    }
}

/// A type and the value as bytes, the same for the same key.
fn key_part(value: &AttributeValue) -> Option<(u8, Vec<u8>)> {
    match value {
        AttributeValue::S(text) => Some((b'S', text.as_bytes().to_vec())),
        AttributeValue::N(number) => Some((b'N', Number::parse(number)?.to_string().into_bytes())),
        AttributeValue::B(bytes) => Some((b'B', bytes.as_ref().to_vec())),
        _ => None,
    }
}

fn typed(value: &AttributeValue, wanted: &ScalarAttributeType) -> Result<(), Unfit> {
    let (is, is_empty) = match value {
        AttributeValue::S(text) => ("S", text.is_empty()),
        AttributeValue::N(_) => ("N", false),
        AttributeValue::B(bytes) => ("B", bytes.as_ref().is_empty()),
        AttributeValue::Bool(_) => ("BOOL", false),
        AttributeValue::Null(_) => ("NULL", false),
        AttributeValue::L(_) => ("L", false),
        _ => ("M", false),
    };
    if is != wanted.as_str() {
        return Err(Unfit::new(format!("its type is {is}, and the table has it as a key of type {}", wanted.as_str())));
    }
    if is_empty { Err(Unfit::new("it is empty, which no key may be")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::primitives::Blob;
    use aws_sdk_dynamodb::types::{AttributeDefinition, KeySchemaElement};

    fn keys(partition: &str, sort: Option<&str>) -> Keys {
        Keys { partition: partition.to_owned(), sort: sort.map(ToOwned::to_owned) }
    }

    fn table(key_schema: &[(&str, KeyType)], typed: &[(&str, ScalarAttributeType)]) -> TableDescription {
        let mut table = TableDescription::builder().table_status(TableStatus::Active);
        for (name, kind) in key_schema {
            let element = KeySchemaElement::builder().attribute_name(*name).key_type(kind.clone());
            table = table.key_schema(element.build().unwrap());
        }
        for (name, kind) in typed {
            let attribute = AttributeDefinition::builder().attribute_name(*name).attribute_type(kind.clone());
            table = table.attribute_definitions(attribute.build().unwrap());
        }
        table.build()
    }

    fn charges() -> Schema {
        let typed =
            [("meter", ScalarAttributeType::S), ("window", ScalarAttributeType::N), ("tag", ScalarAttributeType::B)];
        let table = table(&[("meter", KeyType::Hash), ("window", KeyType::Range)], &typed);
        Schema::read(&table, &keys("meter", Some("window"))).unwrap()
    }

    fn s(text: impl Into<String>) -> AttributeValue {
        AttributeValue::S(text.into())
    }

    fn n(text: &str) -> AttributeValue {
        AttributeValue::N(text.to_owned())
    }

    fn item<const N: usize>(attributes: [(&str, AttributeValue); N]) -> Item {
        attributes.map(|(name, value)| (name.to_owned(), value)).into()
    }

    #[test]
    fn a_table_with_other_keys_or_that_is_not_there_for_writes_is_refused() {
        let one = table(&[("id", KeyType::Hash)], &[("id", ScalarAttributeType::S)]);
        assert!(Schema::read(&one, &keys("id", None)).is_ok());
        for wanted in [keys("ID", None), keys("id", Some("at"))] {
            let Err(Unready::Never(why)) = Schema::read(&one, &wanted) else { panic!("it fits") };
            assert!(why.contains("it has the partition key \"id\" and no sort key, and the sink the"), "{why}");
        }
        let of = |status| {
            let mut table = one.clone();
            table.table_status = Some(status);
            Schema::read(&table, &keys("id", None)).err()
        };
        assert_eq!(of(TableStatus::Updating), None);
        assert!(matches!(of(TableStatus::Creating), Some(Unready::NotYet(_))));
        assert_eq!(of(TableStatus::Deleting), Some(Unready::Never("its status is DELETING".to_owned())));
    }

    #[test]
    fn what_does_not_fit_the_table_is_refused_and_named() {
        let schema = charges();
        let window = || ("window", n("1"));
        for (item, why) in [
            (item([window()]), "\"meter\": it is a key of the table, and is not there"),
            (item([("meter", n("1")), window()]), "\"meter\": its type is N, and the table has it as a key of type S"),
            (item([("meter", s("")), window()]), "\"meter\": it is empty"),
            (item([("meter", AttributeValue::Null(true)), window()]), "\"meter\": it is a key, and neither"),
            (item([("meter", s("x".repeat(2049))), window()]), "\"meter\": a key of 2049 bytes"),
            (item([("meter", s("m")), window(), ("tag", s("t"))]), "\"tag\": its type is S"),
            (item([("meter", s("m")), window(), ("tag", AttributeValue::Null(true))]), "\"tag\": its type is NULL"),
            (item([("meter", s("m")), window(), ("tag", AttributeValue::B(Blob::new([])))]), "\"tag\": it is empty"),
            (item([("meter", s("m")), window(), ("", s("t"))]), "without a name"),
            (
                item([("meter", s("m")), window(), ("text", s("x".repeat(409_600)))]),
                "409618 bytes, and an item has 409600",
            ),
        ] {
            let error = schema.check(&item).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let largest = item([("meter", s("m")), window(), ("text", s("x".repeat(409_600 - 18)))]);
        assert!(schema.check(&largest).is_ok());
    }

    #[test]
    fn a_key_is_the_same_however_its_number_is_written_and_no_two_keys_are_taken_for_one() {
        let schema = charges();
        let key =
            |meter: &str, window: &str| schema.check(&item([("meter", s(meter)), ("window", n(window))])).unwrap();
        assert_eq!(key("a", "100"), key("a", "1.00e2"));
        assert_eq!(key("a", "0"), key("a", "-0"));
        assert_ne!(key("a", "1"), key("a", "-1"));
        assert_ne!(key("a", "1"), key("a1", "1"));
        let whole = item([("meter", s("a")), ("window", n("1")), ("total", n("7"))]);
        let alone = schema.key_of(&whole);
        assert_eq!(alone, item([("meter", s("a")), ("window", n("1"))]));
        assert_eq!(schema.key(&alone).unwrap(), schema.check(&whole).unwrap());
    }
}
