//! Readers of other makers read what the encoders wrote: pyarrow, DuckDB, fastavro, and Python's own modules.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};
use shardflow::EventTime;
use shardflow::testing::sink::{Driver, Promise};
use shardflow_sinks::encode::arrow_schema::{DataType, Field, Schema, TimeUnit};
use shardflow_sinks::{
    Avro, AvroCodec, Compression, FileEncoder, FileFormat, Ndjson, Parquet, ParquetCompression, csv, objects,
};

/// Bytes as serde means them.
#[derive(Debug, Clone)]
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        from.deserialize_bytes(Visitor)
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Kind {
    Metered,
    Flat,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Inner {
    name: String,
    sizes: Vec<i64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Nested {
    small: i16,
    large: i64,
    unsigned: u32,
    float: f32,
    double: f64,
    maybe_double: Option<f64>,
    text: String,
    maybe_text: Option<String>,
    flag: bool,
    at: EventTime,
    maybe_at: Option<u64>,
    bytes: Bytes,
    kind: Kind,
    tags: Vec<String>,
    inner: Option<Inner>,
    inners: Vec<Inner>,
    map: BTreeMap<String, i32>,
}

#[derive(Debug, Clone, Serialize)]
struct Flat {
    large: i64,
    double: f64,
    maybe_double: Option<f64>,
    text: String,
    maybe_text: Option<String>,
    flag: bool,
    kind: Kind,
}

/// Texts that a format might take for something else.
const TEXTS: [&str; 10] =
    ["", "plain", "a,b", "say \"hi\"", "two\nlines", "\ttab\t", " edges ", "ünïcödé ☃ 🦀", "null", "\\N"];

/// Doubles at their edges. JSON and CSV have them all to the last bit.
const DOUBLES: [f64; 8] = [0.0, -0.0, 0.1, 1e300, -1e-300, f64::MIN_POSITIVE, 9_007_199_254_740_993.0, f64::MAX];

fn sizes(n: usize) -> Vec<i64> {
    (0..n as i64 % 4).map(|size| size * (i64::MAX / 3)).collect()
}

fn record(n: usize) -> Nested {
    let text = |n: usize| TEXTS[n % TEXTS.len()].to_owned();
    let inner = |n: usize| Inner { name: text(n), sizes: sizes(n) };
    Nested {
        small: [i16::MIN, -1, 0, 1, i16::MAX][n % 5],
        large: [i64::MIN, -7, 0, 9_007_199_254_740_993, i64::MAX][n % 5],
        unsigned: [0, 1, u32::MAX][n % 3],
        float: [0.1, -3.5, f32::MAX, f32::MIN_POSITIVE][n % 4],
        double: DOUBLES[n % DOUBLES.len()],
        maybe_double: (!n.is_multiple_of(3)).then_some(DOUBLES[n % 7]),
        text: text(n),
        maybe_text: (!n.is_multiple_of(4)).then(|| text(n / 4)),
        flag: n.is_multiple_of(2),
        at: EventTime::from_millis([0, 1, 1_767_225_599_999, 253_402_300_799_999][n % 4]),
        maybe_at: (!n.is_multiple_of(5)).then_some(1_767_225_600_000 + n as u64),
        bytes: Bytes((0..n % 6).map(|byte| (byte * 51) as u8).collect()),
        kind: if n.is_multiple_of(3) { Kind::Flat } else { Kind::Metered },
        tags: (0..n % 4).map(text).collect(),
        inner: (!n.is_multiple_of(3)).then(|| inner(n)),
        inners: (0..n % 3).map(inner).collect(),
        map: (0..n % 3).map(|key| (format!("key {key}"), key as i32 - n as i32)).collect(),
    }
}

fn bits(value: f64) -> String {
    format!("{:016x}", value.to_bits())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The record as the script expects it, in types that JSON cannot change.
fn expected(record: &Nested) -> Value {
    let inner = |inner: &Inner| json!({"name": inner.name, "sizes": inner.sizes.iter().map(i64::to_string).collect::<Vec<_>>()});
    json!({
        "small": record.small.to_string(),
        "large": record.large.to_string(),
        "unsigned": record.unsigned.to_string(),
        "float": bits(f64::from(record.float)),
        "double": bits(record.double),
        "maybe_double": record.maybe_double.map(bits),
        "text": record.text,
        "maybe_text": record.maybe_text,
        "flag": record.flag,
        "at": record.at.to_string(),
        "maybe_at": record.maybe_at.map(|at| at.to_string()),
        "bytes": hex(&record.bytes.0),
        "kind": format!("{:?}", record.kind),
        "tags": record.tags,
        "inner": record.inner.as_ref().map(inner),
        "inners": record.inners.iter().map(inner).collect::<Vec<_>>(),
        "map": record.map.iter().map(|(key, value)| (key.clone(), Value::from(value.to_string()))).collect::<serde_json::Map<_, _>>(),
    })
}

/// Writes a file, taking pieces on the way as a sink does.
fn write<T, F: FileFormat<T>>(folder: &Path, name: &str, format: &F, records: &[T]) {
    let (mut encoder, mut file) = (format.encoder().unwrap(), Vec::new());
    for (index, record) in records.iter().enumerate() {
        encoder.write(record).unwrap();
        if index % 5 == 0 {
            file.extend(encoder.take());
        }
    }
    file.extend(encoder.finish().unwrap());
    fs::write(folder.join(format!("{name}.{}", format.ending())), file).unwrap();
}

fn expect(folder: &Path, expected: &[Value]) {
    fs::write(folder.join("expected.json"), serde_json::to_vec(expected).unwrap()).unwrap();
}

fn nested(folder: &Path) -> Vec<Nested> {
    let records: Vec<Nested> = (0..120).map(record).collect();
    expect(folder, &records.iter().map(expected).collect::<Vec<_>>());
    records
}

#[test]
fn pyarrow_and_duckdb_read_parquet() {
    let Some(python) = crate::readers::python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let records = nested(folder.path());
    let utc = || DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let format = Parquet::of::<Nested>().column("at", utc()).column("maybe_at", utc()).row_group_rows(7);
    for (name, compression) in [
        ("none", ParquetCompression::None),
        ("snappy", ParquetCompression::Snappy),
        ("zstd", ParquetCompression::Zstd(3)),
    ] {
        write(folder.path(), name, &format.clone().compression(compression), &records);
    }
    assert_eq!(crate::readers::check(&python, "parquet", folder.path()), "3 files of 120 records");
}

const SCHEMA: &str = r#"{"type": "record", "name": "Nested", "namespace": "shardflow.test", "fields": [
    {"name": "small", "type": "int"},
    {"name": "large", "type": "long"},
    {"name": "unsigned", "type": "long"},
    {"name": "float", "type": "float"},
    {"name": "double", "type": "double"},
    {"name": "maybe_double", "type": ["null", "double"], "default": null},
    {"name": "text", "type": "string"},
    {"name": "maybe_text", "type": ["null", "string"], "default": null},
    {"name": "flag", "type": "boolean"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "maybe_at", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}], "default": null},
    {"name": "bytes", "type": "bytes"},
    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["Metered", "Flat"]}},
    {"name": "tags", "type": {"type": "array", "items": "string"}},
    {"name": "inner", "type": ["null", {"type": "record", "name": "Inner", "fields": [
        {"name": "name", "type": "string"}, {"name": "sizes", "type": {"type": "array", "items": "long"}}]}]},
    {"name": "inners", "type": {"type": "array", "items": "Inner"}},
    {"name": "map", "type": {"type": "map", "values": "int"}}]}"#;

#[test]
fn fastavro_reads_avro() {
    let Some(python) = crate::readers::python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let records = nested(folder.path());
    for (name, codec) in [
        ("null", AvroCodec::Null),
        ("deflate", AvroCodec::Deflate(6)),
        ("zstd", AvroCodec::Zstd(3)),
        ("snappy", AvroCodec::Snappy),
    ] {
        write(folder.path(), name, &Avro::schema(SCHEMA).codec(codec).block_bytes(1000), &records);
    }
    assert_eq!(crate::readers::check(&python, "avro", folder.path()), "4 files of 120 records");
}

const COMPRESSIONS: [Compression; 4] =
    [Compression::None, Compression::Gzip(6), Compression::Zstd(3), Compression::Snappy];

#[test]
fn python_and_duckdb_read_ndjson() {
    let Some(python) = crate::readers::python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let records = nested(folder.path());
    for compression in COMPRESSIONS {
        write(folder.path(), "rows", &Ndjson.compression(compression), &records);
    }
    assert_eq!(crate::readers::check(&python, "ndjson", folder.path()), "4 files of 120 records");
}

#[test]
fn python_and_duckdb_read_csv() {
    let Some(python) = crate::readers::python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let flat = |n: usize| {
        let Nested { large, double, maybe_double, text, maybe_text, flag, kind, .. } = record(n);
        Flat { large, double, maybe_double, text, maybe_text, flag, kind }
    };
    let records: Vec<Flat> = (0..120).map(flat).collect();
    let expected = records.iter().map(|record| {
        json!({
            "large": record.large.to_string(),
            "double": bits(record.double),
            "maybe_double": record.maybe_double.map(bits),
            "text": record.text,
            "maybe_text": record.maybe_text,
            "flag": record.flag,
            "kind": format!("{:?}", record.kind),
        })
    });
    expect(folder.path(), &expected.collect::<Vec<_>>());
    for compression in COMPRESSIONS {
        write(folder.path(), "rows", &csv().compression(compression), &records);
    }
    write(folder.path(), "rows", &csv().delimiter(b'\t').header(false), &records);
    assert_eq!(crate::readers::check(&python, "csv", folder.path()), "5 files of 120 records");
}

/// What the sink itself puts on a disk, day by day and account by account.
#[test]
fn readers_of_hive_folders_find_what_the_sink_wrote() {
    #[derive(Debug, Clone, Serialize, Deserialize)]
    struct Row {
        id: i64,
        at: u64,
        account: Option<String>,
    }
    let Some(python) = crate::readers::python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let texts = TEXTS.iter().map(|text| Some((*text).to_owned()));
    let others =
        ["a/b", "..", ".", "a=b", "100%", "%2F", "__EMPTY__", "__HIVE_DEFAULT_PARTITION__", "x:y?z#", "~{}[]^|`"];
    let accounts: Vec<_> = texts.chain(others.map(|text| Some(text.to_owned()))).chain([None]).collect();
    let row = |id: u64| Row {
        id: id as i64,
        at: 1_767_225_600_000 + id * 50_000_000,
        account: accounts[id as usize].clone(),
    };
    // The path has the account, the file has it not.
    let schema = Schema::new(vec![Field::new("id", DataType::Int64, false)]);
    let sink = objects(format!("file://{}/data", folder.path().display()))
        .partitioned_by("dt={yyyy-MM-dd}/account={account}")
        .event_time(|row: &Row| EventTime::from_millis(row.at))
        .format(Parquet::with_schema(schema.into()));
    let mut job = Driver::new(Promise::ExactlyOnce, Box::new(sink), row, Vec::new);
    job.try_start(2).unwrap();
    for worker in [0, 1] {
        job.try_stage(worker, if worker == 0 { 10 } else { accounts.len() - 10 }).unwrap();
    }
    job.try_prepare().unwrap();
    job.try_persist().unwrap();
    job.try_commit().unwrap();
    // A start ships what is spooled.
    job.try_start(1).unwrap();
    job.crash();
    let expected = (0..accounts.len()).map(|id| {
        let day = 1 + (id * 50_000_000) / 86_400_000;
        json!({"id": id, "dt": format!("2026-01-{day:02}"), "account": accounts[id]})
    });
    expect(folder.path(), &expected.collect::<Vec<_>>());
    assert_eq!(crate::readers::check(&python, "partitions", folder.path()), "21 files of 21 records");
}
