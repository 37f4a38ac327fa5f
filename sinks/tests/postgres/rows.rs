//! Values go through a real server and come back as they were, read by `psql`.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use shardflow::testing::sink::{Driver, Promise};
use shardflow_sinks::postgres;
use shardflow_stand_ins::postgres::Database;

/// A record with a column of every kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Row {
    id: u64,
    text: String,
    maybe: Option<String>,
    number: i64,
    huge: u64,
    double: f64,
    single: f32,
    yes: bool,
    #[serde(serialize_with = "as_bytes")]
    bytes: Vec<u8>,
    list: Vec<Option<String>>,
    map: BTreeMap<String, f64>,
    letter: char,
    at: jiff::Timestamp,
}

fn as_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

const TABLE: &str = "CREATE TABLE rows (id bigint, text text, maybe text, number bigint, huge numeric, double float8, \
    single float4, yes boolean, bytes bytea, list json, map jsonb, letter \"char\", at timestamptz, doc jsonb)";

/// Text of all that could be mistaken for something of COPY's, but without NUL.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>().prop_map(|text| text.replace('\0', "")),
        "[\\\\\t\r\n\"'NxX.,{}0-9\u{8}\u{b}\u{c}\u{7f}\u{1}ä€😀-]{0,12}",
        Just("\\N".to_owned()),
        Just("\\.".to_owned()),
        Just(String::new()),
        Just("NULL".to_owned()),
    ]
}

/// What JSON may hold: jsonb has no NUL either.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(text(), inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn row() -> impl Strategy<Value = (Row, Value)> {
    let numbers = (any::<i64>(), any::<u64>(), any::<f64>(), any::<f32>(), any::<bool>());
    let texts =
        (text(), prop::option::of(text()), prop::collection::vec(prop::option::of(text()), 0..4), "[a-zA-Z\\\\\t\n ]");
    let others = (
        prop::collection::vec(any::<u8>(), 0..20),
        // Short ones: serde_json reads others back a little off.
        prop::collection::btree_map(text(), (-1_000_000..1_000_000).prop_map(|n| f64::from(n) / 8.0), 0..3),
        // Microseconds, which is what the server keeps.
        (-62_000_000_000_000_000_i64..250_000_000_000_000_000)
            .prop_map(|us| jiff::Timestamp::from_microsecond(us).unwrap()),
        json(),
    );
    (numbers, texts, others).prop_map(|((number, huge, double, single, yes), texts, (bytes, map, at, doc))| {
        let (text, maybe, list, letter) = texts;
        let letter = letter.chars().next().unwrap();
        (Row { id: 0, text, maybe, number, huge, double, single, yes, bytes, list, map, letter, at }, doc)
    })
}

/// What the server has of a record, as JSON.
const READ: &str = "SELECT json_build_object('id', id, 'text', text, 'maybe', maybe, 'number', number, 'huge', huge, \
    'double', double::text, 'single', single::text, 'yes', yes, 'bytes', encode(bytes, 'hex'), 'list', list, 'map', map, \
    'letter', letter::text, 'at', extract(epoch FROM at)::text, 'doc', doc) FROM rows ORDER BY id";

fn compare(read: &str, (row, doc): &(Row, Value)) {
    let read: Value = serde_json::from_str(read).unwrap();
    let float = |name: &str| read[name].as_str().unwrap().parse::<f64>().unwrap();
    assert_eq!(read["text"], row.text.as_str());
    assert_eq!(read["maybe"], Value::from(row.maybe.clone()));
    assert_eq!(read["number"], row.number);
    assert_eq!(read["huge"], row.huge);
    assert!(float("double") == row.double || row.double.is_nan(), "{read}");
    assert!(float("single") as f32 == row.single || row.single.is_nan(), "{read}");
    assert_eq!(read["yes"], row.yes);
    let hex: String = row.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(read["bytes"], hex);
    assert_eq!(read["list"], serde_json::to_value(&row.list).unwrap());
    assert_eq!(read["letter"], row.letter.to_string());
    assert_eq!(read["at"].as_str().unwrap().replace('.', ""), row.at.as_microsecond().to_string(), "{read}");
    assert_eq!(&read["doc"], doc);
    let map: BTreeMap<String, f64> = serde_json::from_value(read["map"].clone()).unwrap();
    assert_eq!(map, row.map);
}

#[test]
fn every_value_comes_back_as_it_was() {
    let Some(db) = Database::fresh() else { return };
    let names =
        ["id", "text", "maybe", "number", "huge", "double", "single", "yes", "bytes", "list", "map", "letter", "at"];
    let mut runner = TestRunner::new(ProptestConfig::with_cases(60));
    let rows = prop::collection::vec(row(), 1..60);
    let checked = runner.run(&rows, |mut rows| {
        db.run(&format!("DROP TABLE IF EXISTS rows, shardflow_commits; {TABLE}"));
        (0..).zip(&mut rows).for_each(|(id, (row, _))| row.id = id);
        // One way by the names of fields, the other by closures.
        #[derive(Serialize)]
        struct Wrapped {
            #[serde(flatten)]
            row: Row,
            #[serde(skip)]
            doc: Value,
        }
        let sink = postgres(db.address()).table("rows").fields(names).json("doc", |wrapped: &Wrapped| &wrapped.doc);
        let record = |number: u64| {
            let (row, doc) = rows[number as usize].clone();
            Wrapped { row, doc }
        };
        let visible = || db.numbers("SELECT id FROM rows");
        let mut job = Driver::new(Promise::ExactlyOnce, Box::new(sink), record, visible);
        job.start(1);
        job.stage(0, rows.len());
        job.finish();
        let read = db.psql(READ);
        let read: Vec<&str> = read.lines().collect();
        prop_assert_eq!(read.len(), rows.len());
        for (read, row) in read.iter().zip(&rows) {
            compare(read, row);
        }
        Ok(())
    });
    checked.unwrap_or_else(|error| panic!("{error}\n{runner}"));
}
