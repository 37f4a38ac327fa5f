//! Records as items: attributes with DynamoDB's types, their sizes, and how they read. Pure.

mod name;
pub(super) mod number;
mod ser;
pub(super) mod size;

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

pub(super) use ser::{Unfit, item_of};

/// An item, as the SDK has it.
pub(super) type Item = HashMap<String, AttributeValue>;

/// An item as one line of plain JSON, without types: for the rejected output and for errors.
pub(super) fn text(item: &Item) -> String {
    object(item).to_string()
}

fn object(item: &Item) -> Value {
    let member = |(name, value): (&String, &AttributeValue)| (name.clone(), plain(value));
    Value::Object(item.iter().map(member).collect())
}

fn plain(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => Value::String(text.clone()),
        // A number keeps its digits where JSON's own numbers do; a longer one is text.
        AttributeValue::N(number) => {
            let value = serde_json::from_str::<Value>(number).ok();
            value.filter(|value| is_text_of(value, number)).unwrap_or_else(|| Value::String(number.clone()))
        }
        AttributeValue::B(bytes) => Value::String(STANDARD.encode(bytes)),
        AttributeValue::Bool(value) => Value::Bool(*value),
        AttributeValue::L(list) => Value::Array(list.iter().map(plain).collect()),
        AttributeValue::M(map) => object(map),
        _ => Value::Null,
    }
}

fn is_text_of(value: &Value, number: &str) -> bool {
    let text = value.to_string();
    text == number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_reads_as_plain_json_that_loses_no_digit() {
        let item = Item::from([
            ("a".to_owned(), AttributeValue::N("7".to_owned())),
            ("b".to_owned(), AttributeValue::N("12345678901234567890123".to_owned())),
            ("c".to_owned(), AttributeValue::L(vec![AttributeValue::Bool(true), AttributeValue::Null(true)])),
            ("d".to_owned(), AttributeValue::M(Item::from([("x".to_owned(), AttributeValue::S("y".to_owned()))]))),
        ]);
        assert_eq!(text(&item), r#"{"a":7,"b":"12345678901234567890123","c":[true,null],"d":{"x":"y"}}"#);
    }
}
