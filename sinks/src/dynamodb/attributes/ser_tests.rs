use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Serialize;
use serde_json::json;

use super::*;
use crate::dynamodb::attributes::text;

fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn n(text: &str) -> AttributeValue {
    AttributeValue::N(text.to_owned())
}

struct Raw(&'static [u8]);

impl Serialize for Raw {
    fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

#[derive(Serialize)]
struct Unit;

#[derive(Serialize)]
struct Wrapped(u8);

#[derive(Serialize)]
enum Kind {
    Plain,
    One(u8),
    Two(u8, char),
    Named { a: f32 },
}

#[derive(Serialize)]
struct All {
    small: i8,
    large: u128,
    least: i64,
    float: f64,
    single: f32,
    zero: f64,
    far: f64,
    letter: char,
    text: String,
    empty: &'static str,
    bytes: Raw,
    yes: bool,
    some: Option<u8>,
    none: Option<u8>,
    unit: (),
    unit_struct: Unit,
    wrapped: Wrapped,
    list: Vec<u8>,
    tuple: (u8, &'static str),
    map: BTreeMap<u8, bool>,
    kinds: [Kind; 4],
}

fn all() -> All {
    All {
        small: -7,
        large: 12_345_678_901_234_567_890_123_456_789,
        least: i64::MIN,
        float: 0.1,
        single: 0.1,
        zero: -0.0,
        far: 1e100,
        letter: 'ß',
        text: "text".to_owned(),
        empty: "",
        bytes: Raw(&[1, 2]),
        yes: true,
        some: Some(1),
        none: None,
        unit: (),
        unit_struct: Unit,
        wrapped: Wrapped(9),
        list: vec![1, 2],
        tuple: (1, "a"),
        map: BTreeMap::from([(7, true)]),
        kinds: [Kind::Plain, Kind::One(1), Kind::Two(2, 'x'), Kind::Named { a: 0.5 }],
    }
}

#[test]
fn every_type_of_serde_has_its_attribute() {
    let one = |name: &str, value| AttributeValue::M(Item::from([(name.to_owned(), value)]));
    let item = item_of(&all()).unwrap();
    let expected = [
        ("small", n("-7")),
        ("large", n("12345678901234567890123456789")),
        ("least", n("-9223372036854775808")),
        ("float", n("0.1")),
        ("single", n("0.1")),
        ("zero", n("0")),
        ("far", n("1e100")),
        ("letter", s("ß")),
        ("text", s("text")),
        ("empty", s("")),
        ("bytes", AttributeValue::B(Blob::new([1, 2]))),
        ("yes", AttributeValue::Bool(true)),
        ("some", n("1")),
        ("none", AttributeValue::Null(true)),
        ("unit", AttributeValue::Null(true)),
        ("unit_struct", AttributeValue::Null(true)),
        ("wrapped", n("9")),
        ("list", AttributeValue::L(vec![n("1"), n("2")])),
        ("tuple", AttributeValue::L(vec![n("1"), s("a")])),
        ("map", one("7", AttributeValue::Bool(true))),
        (
            "kinds",
            AttributeValue::L(vec![
                s("Plain"),
                one("One", n("1")),
                one("Two", AttributeValue::L(vec![n("2"), s("x")])),
                one("Named", one("a", n("0.5"))),
            ]),
        ),
    ];
    assert_eq!(item, expected.map(|(name, value)| (name.to_owned(), value)).into());
}

/// A record with one attribute.
#[derive(Serialize)]
struct Holds<T> {
    outer: BTreeMap<&'static str, T>,
}

fn refused<T: Serialize>(value: T) -> String {
    item_of(&Holds { outer: BTreeMap::from([("inner", vec![value])]) }).unwrap_err().to_string()
}

#[test]
fn what_has_no_form_is_refused_and_says_where_it_lies() {
    for (error, why) in [
        (refused(f64::NAN), "DynamoDB has no NaN"),
        (refused(f32::NEG_INFINITY), "DynamoDB has no -inf"),
        (refused(f64::MAX), "exponent is 308"),
        (refused(f64::MIN_POSITIVE), "exponent is -308"),
        (refused(u128::MAX), "39 digits"),
        (refused(BTreeMap::from([((), 1)])), "names are text"),
        (refused(serde_json::value::RawValue::from_string("{}".to_owned()).unwrap()), "raw JSON"),
    ] {
        assert!(error.starts_with("attribute \"outer.inner.0") && error.contains(why), "{error}");
    }
    for error in [item_of(&7).unwrap_err(), item_of(&[1]).unwrap_err(), item_of("x").unwrap_err()] {
        assert_eq!(error.to_string(), "it is no struct and no map, which an item is made of");
    }
}

#[test]
fn an_attribute_that_is_there_twice_is_refused() {
    #[derive(Serialize)]
    struct Twice {
        a: u8,
        #[serde(flatten)]
        rest: BTreeMap<&'static str, u8>,
    }
    let error = item_of(&Twice { a: 1, rest: BTreeMap::from([("a", 2)]) }).unwrap_err();
    assert_eq!(error.to_string(), "attribute \"a\": it is there twice");
}

#[test]
fn nothing_nests_without_end() {
    let mut value = json!(1);
    for _ in 0..200 {
        value = json!({ "v": value });
    }
    assert!(item_of(&value).unwrap_err().to_string().contains("more than 64 levels"));
}

#[test]
fn a_decimal_that_comes_as_a_number_of_serde_json_keeps_its_digits() {
    #[derive(Serialize)]
    struct Decimal {
        #[serde(rename = "$serde_json::private::Number")]
        text: &'static str,
    }
    let item = item_of(&BTreeMap::from([("price", Decimal { text: "0.1000000000000000055511151231257827" })])).unwrap();
    assert_eq!(item["price"], n("0.1000000000000000055511151231257827"));
    let error = item_of(&BTreeMap::from([("price", Decimal { text: "abc" })])).unwrap_err();
    assert_eq!(error.to_string(), "attribute \"price\": \"abc\" is no number");
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        any::<String>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<u64>().prop_map(serde_json::Value::from),
        any::<bool>().prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..5)
                .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_object_becomes_an_item_that_reads_as_the_same_object(
        members in proptest::collection::btree_map(any::<String>(), any_json(), 0..6),
    ) {
        let object: serde_json::Value = members.into_iter().collect::<serde_json::Map<_, _>>().into();
        let item = item_of(&object).unwrap();
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text(&item)).unwrap(), object);
    }
}
