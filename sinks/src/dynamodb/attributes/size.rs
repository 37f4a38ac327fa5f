//! How large an item is, in the service's own count and on the wire. Pure.

use aws_sdk_dynamodb::types::AttributeValue;

use super::Item;
use super::number::Number;

/// What an item takes of the 400 KB that it may have, by the rules of the developer guide ("Item sizes and formats").
pub(in crate::dynamodb) fn item(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len().saturating_add(value_size(value))).sum()
}

/// What the item is as JSON in a request, at most.
pub(in crate::dynamodb) fn on_wire(item: &Item) -> usize {
    let members = item.iter().map(|(name, value)| text(name).saturating_add(2).saturating_add(value_on_wire(value)));
    members.sum::<usize>().saturating_add(2)
}

fn value_size(value: &AttributeValue) -> usize {
    let with_one = |value: &AttributeValue| value_size(value).saturating_add(1);
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(number) => number_size(number),
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::L(list) => list.iter().map(with_one).sum::<usize>().saturating_add(3),
        AttributeValue::M(map) => {
            let members = map.iter().map(|(name, value)| with_one(value).saturating_add(name.len()));
            members.sum::<usize>().saturating_add(3)
        }
        // Bool and Null; there are no sets here.
        _ => 1,
    }
}

fn number_size(text: &str) -> usize {
    Number::parse(text).map_or(text.len(), |number| number.bytes())
}

/// With the object around it that names its type.
fn value_on_wire(value: &AttributeValue) -> usize {
    let with_comma = |value: &AttributeValue| value_on_wire(value).saturating_add(1);
    match value {
        AttributeValue::S(string) => text(string).saturating_add(6),
        AttributeValue::N(number) => number.len().saturating_add(8),
        AttributeValue::B(bytes) => bytes.as_ref().len().div_ceil(3).saturating_mul(4).saturating_add(8),
        AttributeValue::L(list) => list.iter().map(with_comma).sum::<usize>().saturating_add(8),
        AttributeValue::M(map) => on_wire(map).saturating_add(6),
        _ => 14,
    }
}

/// A JSON string with its quotation marks; control characters are six bytes.
fn text(string: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    string.bytes().map(escaped).sum::<usize>().saturating_add(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::primitives::Blob;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn of(name: &str, value: AttributeValue) -> Item {
        Item::from([(name.to_owned(), value)])
    }

    #[test]
    fn sizes_are_those_of_the_developer_guide() {
        let s = |text: &str| AttributeValue::S(text.to_owned());
        for (value, size) in [
            (s("größe"), 7),
            (s(""), 0),
            (AttributeValue::N("12345".to_owned()), 4),
            (AttributeValue::B(Blob::new([0; 10])), 10),
            (AttributeValue::Bool(true), 1),
            (AttributeValue::Null(true), 1),
            (AttributeValue::L(Vec::new()), 3),
            (AttributeValue::L(vec![s("abc"), AttributeValue::Null(true)]), 9),
            (AttributeValue::M(of("ab", s("cde"))), 9),
        ] {
            assert_eq!(item(&of("name", value.clone())), 4 + size, "{value:?}");
        }
    }

    fn any_value() -> impl Strategy<Value = AttributeValue> {
        let leaf = prop_oneof![
            any::<String>().prop_map(AttributeValue::S),
            any::<i64>().prop_map(|n| AttributeValue::N(n.to_string())),
            any::<Vec<u8>>().prop_map(|bytes| AttributeValue::B(Blob::new(bytes))),
            any::<bool>().prop_map(AttributeValue::Bool),
            Just(AttributeValue::Null(true)),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(AttributeValue::L),
                proptest::collection::hash_map(any::<String>(), inner, 0..4).prop_map(AttributeValue::M),
            ]
        })
    }

    /// What the SDK sends.
    fn sent(value: &AttributeValue) -> Value {
        match value {
            AttributeValue::S(text) => json!({"S": text}),
            AttributeValue::N(number) => json!({"N": number}),
            AttributeValue::B(bytes) => json!({"B": STANDARD.encode(bytes)}),
            AttributeValue::Bool(value) => json!({"BOOL": value}),
            AttributeValue::L(list) => json!({"L": list.iter().map(sent).collect::<Vec<_>>()}),
            AttributeValue::M(map) => {
                json!({"M": map.iter().map(|(k, v)| (k.clone(), sent(v))).collect::<serde_json::Map<_, _>>()})
            }
            _ => json!({"NULL": true}),
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_is_no_larger_than_it_is_taken_for_and_not_much_smaller(name: String, value in any_value()) {
            let bytes = json!({ &name: sent(&value) }).to_string().len();
            let taken_for = on_wire(&of(&name, value));
            prop_assert!(bytes <= taken_for && taken_for <= 6 * bytes, "{bytes} {taken_for}");
        }
    }
}
