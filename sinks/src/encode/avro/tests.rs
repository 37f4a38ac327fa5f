use std::collections::HashMap;

use apache_avro::Reader;
use apache_avro::types::Value;
use proptest::prelude::*;

use super::*;

const SCHEMA: &str = r#"{"type": "record", "name": "Usage", "fields": [
    {"name": "account", "type": "string"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "units", "type": ["null", "double"], "default": null},
    {"name": "tags", "type": {"type": "array", "items": "string"}}]}"#;

#[derive(Debug, Clone, Serialize)]
struct Usage {
    account: String,
    at: u64,
    units: Option<f64>,
    tags: Vec<String>,
}

fn value(usage: &Usage) -> Value {
    let tags = usage.tags.iter().cloned().map(Value::String).collect();
    let units = match usage.units {
        None => Value::Union(0, Box::new(Value::Null)),
        Some(units) => Value::Union(1, Box::new(Value::Double(units))),
    };
    Value::Record(vec![
        ("account".to_owned(), Value::String(usage.account.clone())),
        ("at".to_owned(), Value::TimestampMillis(usage.at as i64)),
        ("units".to_owned(), units),
        ("tags".to_owned(), Value::Array(tags)),
    ])
}

fn encoder<T: Serialize>(format: &Avro) -> AvroEncoder {
    FileFormat::<T>::encoder(format).unwrap()
}

fn read(file: &[u8]) -> Vec<Value> {
    Reader::new(file).unwrap().map(|value| value.unwrap()).collect()
}

fn usage() -> impl Strategy<Value = Usage> {
    let tags = proptest::collection::vec("[a-z]{0,5}", 0..4);
    ("\\PC{0,8}", any::<u64>(), proptest::option::of(-1e9..1e9), tags).prop_map(|(account, at, units, tags)| Usage {
        account,
        at,
        units,
        tags,
    })
}

proptest! {
    /// A time above `i64::MAX` is no `long`: half of all records are bad, and the field before is written already.
    #[test]
    fn the_file_holds_exactly_the_records_that_fit(
        records in proptest::collection::vec(usage(), 0..60), block_bytes in 1usize..300, takes in 1usize..9,
    ) {
        let format = Avro::schema(SCHEMA).codec(AvroCodec::Null).block_bytes(block_bytes);
        let (mut encoder, mut file, mut expected) = (encoder::<Usage>(&format), Vec::new(), Vec::new());
        for (index, record) in records.iter().enumerate() {
            match encoder.write(record) {
                Ok(()) => expected.push(value(record)),
                Err(why) => prop_assert!(record.at > i64::MAX as u64 && why.contains("at"), "{}", why),
            }
            if index % takes == 0 {
                file.extend(FileEncoder::<Usage>::take(&mut encoder));
            }
        }
        prop_assert_eq!(expected.len(), records.iter().filter(|record| i64::try_from(record.at).is_ok()).count());
        file.extend(FileEncoder::<Usage>::finish(encoder).unwrap());
        prop_assert_eq!(read(&file), expected);
    }

    #[test]
    fn the_same_records_give_the_same_bytes(records in proptest::collection::vec(usage(), 0..20)) {
        for codec in [AvroCodec::Null, AvroCodec::Deflate(6), AvroCodec::Zstd(3), AvroCodec::Snappy] {
            let file = || {
                let mut encoder = encoder::<Usage>(&Avro::schema(SCHEMA).codec(codec).block_bytes(50));
                records.iter().for_each(|record| drop(encoder.write(record)));
                FileEncoder::<Usage>::finish(encoder).unwrap()
            };
            prop_assert_eq!(file(), file());
        }
    }
}

#[test]
fn an_empty_file_has_its_schema() {
    let encoder = encoder::<Usage>(&Avro::schema(SCHEMA));
    let file = FileEncoder::<Usage>::finish(encoder).unwrap();
    let reader = Reader::new(&file[..]).unwrap();
    assert_eq!(reader.writer_schema().name().map(|name| name.name().to_owned()), Some("Usage".to_owned()));
    assert_eq!(reader.count(), 0);
}

#[test]
fn a_newtype_is_what_it_holds_and_a_reason_names_the_cause() {
    let schema = r#"{"type": "record", "name": "R", "fields": [
        {"name": "at", "type": "long"}, {"name": "end", "type": ["null", "long"]}, {"name": "more", "type": "int"}]}"#;
    #[derive(Serialize)]
    struct Row {
        at: shardflow::EventTime,
        end: Option<shardflow::EventTime>,
        more: f64,
    }
    #[derive(Serialize)]
    struct Good {
        at: shardflow::EventTime,
        end: Option<shardflow::EventTime>,
        more: i32,
    }
    let at = shardflow::EventTime::from_millis(7);
    let why = encoder::<Row>(&Avro::schema(schema)).write(&Row { at, end: Some(at), more: 0.5 }).unwrap_err();
    assert!(why.contains("'more'") && why.contains("Expected Schema::Double"), "{why}");
    let mut encoder = encoder::<Good>(&Avro::schema(schema));
    encoder.write(&Good { at, end: Some(at), more: 1 }).unwrap();
    let found = read(&FileEncoder::<Good>::finish(encoder).unwrap());
    let end = Value::Union(1, Box::new(Value::Long(7)));
    let expected = [("at", Value::Long(7)), ("end", end), ("more", Value::Int(1))];
    assert_eq!(found, [Value::Record(expected.map(|(name, value)| (name.to_owned(), value)).into())]);
}

#[test]
fn no_more_than_a_block_is_held() {
    let format = Avro::schema(r#"{"type": "string"}"#).codec(AvroCodec::Null).block_bytes(1000);
    let mut encoder = encoder::<String>(&format);
    for _ in 0..100 {
        encoder.write(&"x".repeat(300)).unwrap();
        drop(FileEncoder::<String>::take(&mut encoder));
        assert!(FileEncoder::<String>::buffered(&encoder) < 1000);
    }
}

#[test]
fn records_that_do_not_fit_are_refused_with_a_line() {
    let format = Avro::schema(SCHEMA);
    let mut encoder = encoder::<serde_json::Value>(&format);
    for bad in [
        serde_json::json!({"account": "a"}),
        serde_json::json!({"account": 1, "at": 1, "units": null, "tags": []}),
        serde_json::json!({"account": "a", "at": 1, "units": null, "tags": [], "more": 1}),
        serde_json::json!([1]),
    ] {
        let why = encoder.write(&bad).unwrap_err();
        assert!(!why.is_empty() && !why.contains('\n') && why.chars().count() <= 301, "{why}");
    }
    assert_eq!(read(&FileEncoder::<serde_json::Value>::finish(encoder).unwrap()), []);
}

#[test]
fn settings_that_cannot_be_are_refused() {
    for (format, text) in [
        (Avro::schema("{"), "Avro schema"),
        (Avro::schema(SCHEMA).codec(AvroCodec::Zstd(0)), "zstd level \"0\""),
        (Avro::schema(SCHEMA).codec(AvroCodec::Deflate(10)), "deflate level \"10\""),
        (Avro::schema(SCHEMA).block_bytes(0), "block_bytes"),
    ] {
        let error = FileFormat::<Usage>::encoder(&format).unwrap_err();
        assert_eq!(error.kind(), shardflow::ErrorKind::Config);
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn the_schema_of_a_type_is_taken_from_the_type() {
    let mut file = encoder::<HashMap<String, i64>>(&Avro::of::<HashMap<String, i64>>());
    file.write(&HashMap::from([("a".to_owned(), 7i64)])).unwrap();
    let file = FileEncoder::<HashMap<String, i64>>::finish(file).unwrap();
    assert!(matches!(&read(&file)[..], [Value::Map(map)] if map.get("a") == Some(&Value::Long(7))));
    // What the library derives for u64 is not a long, and is written as that type wants it.
    let mut encoder = encoder::<u64>(&Avro::of::<u64>());
    encoder.write(&u64::MAX).unwrap();
    let file = FileEncoder::<u64>::finish(encoder).unwrap();
    assert!(matches!(&read(&file)[..], [Value::Fixed(8, bytes)] if *bytes == u64::MAX.to_le_bytes()));
}
