use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{Field, Schema, TimeUnit};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::ParquetMetaData;
use proptest::prelude::*;
use serde::ser::{Error as _, Serializer};
use serde::{Deserialize, Serialize};

use super::*;
use crate::encode::FileEncoder;

/// A number that cannot be written if it is 13.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
struct Picky(u8);

impl Serialize for Picky {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        if self.0 == 13 { Err(S::Error::custom("13 is bad luck")) } else { to.serialize_u8(self.0) }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Kind {
    Metered,
    Flat,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Inner {
    name: String,
    picky: Option<Picky>,
    flags: Vec<bool>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    id: u64,
    text: Option<String>,
    kind: Kind,
    list: Vec<Option<Inner>>,
    nested: Option<Inner>,
    map: BTreeMap<String, Picky>,
    last: Picky,
}

impl Record {
    fn is_bad(&self) -> bool {
        let bad = |picky: &Picky| picky.0 == 13;
        let inner = |inner: &Inner| inner.picky.as_ref().is_some_and(bad);
        bad(&self.last)
            || self.map.values().any(bad)
            || self.nested.as_ref().is_some_and(inner)
            || self.list.iter().flatten().any(inner)
    }
}

fn picky() -> impl Strategy<Value = Picky> {
    prop_oneof![20 => 0u8..13, 1 => Just(13u8)].prop_map(Picky)
}

fn inner() -> impl Strategy<Value = Inner> {
    ("[a-z]{0,4}", proptest::option::of(picky()), proptest::collection::vec(any::<bool>(), 0..4))
        .prop_map(|(name, picky, flags)| Inner { name, picky, flags })
}

fn record() -> impl Strategy<Value = Record> {
    let list = proptest::collection::vec(proptest::option::of(inner()), 0..4);
    let map = proptest::collection::btree_map("[a-z]{1,2}", picky(), 0..3);
    let kind = prop_oneof![Just(Kind::Metered), Just(Kind::Flat)];
    (any::<u64>(), proptest::option::of("\\PC{0,6}"), kind, list, proptest::option::of(inner()), map, picky())
        .prop_map(|(id, text, kind, list, nested, map, last)| Record { id, text, kind, list, nested, map, last })
}

fn read<T: DeserializeOwned>(file: &[u8]) -> (Vec<T>, Arc<ParquetMetaData>) {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::copy_from_slice(file)).unwrap();
    let metadata = Arc::clone(builder.metadata());
    let batches = builder.build().unwrap();
    let records = batches.flat_map(|batch| serde_arrow::from_record_batch::<Vec<T>>(&batch.unwrap()).unwrap());
    (records.collect(), metadata)
}

fn written<T: Serialize>(format: &Parquet, records: &[T]) -> Vec<u8> {
    let mut encoder = FileFormat::<T>::encoder(format).unwrap();
    records.iter().for_each(|record| drop(encoder.write(record)));
    FileEncoder::<T>::finish(encoder).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Bad ones fail at every depth, with values of the same record written before them.
    #[test]
    fn the_file_holds_exactly_the_records_that_fit(
        records in proptest::collection::vec(record(), 0..60), rows in 1usize..20, takes in 1usize..9,
    ) {
        let format = Parquet::of::<Record>().row_group_rows(rows).compression(ParquetCompression::Snappy);
        let (mut encoder, mut file, mut expected) = (FileFormat::<Record>::encoder(&format).unwrap(), Vec::new(), Vec::new());
        for (index, record) in records.iter().enumerate() {
            let result = encoder.write(record);
            prop_assert_eq!(result.is_err(), record.is_bad());
            match result {
                Ok(()) => expected.push(record.clone()),
                Err(why) => prop_assert!(why.contains("13 is bad luck") && !why.contains('\n'), "{}", why),
            }
            if index % takes == 0 {
                file.extend(FileEncoder::<Record>::take(&mut encoder));
            }
        }
        file.extend(FileEncoder::<Record>::finish(encoder).unwrap());
        let (found, metadata) = read::<Record>(&file);
        prop_assert_eq!(&found, &expected);
        prop_assert!(metadata.row_groups().iter().all(|group| group.num_rows() <= rows as i64));
    }

    #[test]
    fn the_same_records_give_the_same_bytes(records in proptest::collection::vec(record(), 0..30)) {
        let format = Parquet::of::<Record>().row_group_rows(7);
        prop_assert_eq!(written(&format, &records), written(&Parquet::of::<Record>().row_group_rows(7), &records));
    }
}

#[test]
fn row_groups_leave_memory_when_they_are_full() {
    #[derive(Serialize, Deserialize)]
    struct Noise {
        bytes: String,
    }
    let format = Parquet::of::<Noise>().row_group_bytes(2 << 20).compression(ParquetCompression::None);
    let mut encoder = FileFormat::<Noise>::encoder(&format).unwrap();
    let (mut file, mut most, mut state) = (Vec::new(), 0, 1u64);
    for _ in 0..20_000 {
        let bytes = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            format!("{:016x}", state)
        });
        encoder.write(&Noise { bytes: bytes.take(64).collect() }).unwrap();
        most = most.max(FileEncoder::<Noise>::buffered(&encoder));
        file.extend(FileEncoder::<Noise>::take(&mut encoder));
    }
    file.extend(FileEncoder::<Noise>::finish(encoder).unwrap());
    assert!(file.len() > 20_000_000, "{}", file.len());
    // The row group, the batch that fills it, and both at the moment they are written out.
    assert!(most < 9 << 20, "{most} bytes were held");
    let (found, metadata) = read::<Noise>(&file);
    assert_eq!(found.len(), 20_000);
    assert!(metadata.num_row_groups() >= 5, "{}", metadata.num_row_groups());
}

#[test]
fn a_file_says_who_made_it_and_has_statistics() {
    #[derive(Serialize, Deserialize)]
    struct Row {
        a: i32,
    }
    let file = written(&Parquet::of::<Row>(), &[Row { a: -3 }, Row { a: 9 }]);
    let (_, metadata) = read::<Row>(&file);
    let created_by = metadata.file_metadata().created_by().unwrap();
    assert!(created_by.starts_with("shardflow version ") && created_by.contains("(build parquet-rs 6"), "{created_by}");
    let statistics = metadata.row_group(0).column(0).statistics().unwrap();
    assert_eq!(statistics.min_bytes_opt(), Some(&(-3i32).to_le_bytes()[..]));
    assert_eq!(statistics.max_bytes_opt(), Some(&9i32.to_le_bytes()[..]));
}

#[test]
fn an_event_time_is_written_as_a_timestamp() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Row {
        at: shardflow::EventTime,
        end: Option<u64>,
    }
    let utc = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let format = Parquet::of::<Row>().column("at", utc.clone()).column("end", utc);
    let mut encoder = FileFormat::<Row>::encoder(&format).unwrap();
    encoder.write(&Row { at: shardflow::EventTime::from_millis(1), end: None }).unwrap();
    let why = encoder.write(&Row { at: shardflow::EventTime::MIN, end: Some(u64::MAX) }).unwrap_err();
    assert!(why.contains("end"), "{why}");
    let file = FileEncoder::<Row>::finish(encoder).unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file)).unwrap();
    let batch = builder.build().unwrap().next().unwrap().unwrap();
    assert_eq!(batch.num_rows(), 1);
    let at = batch.column(0).as_any().downcast_ref::<arrow_array::TimestampMillisecondArray>().unwrap();
    assert_eq!((at.value(0), at.timezone()), (1, Some("UTC")));
}

#[test]
fn a_record_must_have_what_the_schema_demands() {
    let fields = vec![Field::new("a", DataType::Int32, false), Field::new("b", DataType::Utf8, true)];
    let format = Parquet::with_schema(Arc::new(Schema::new(fields)));
    let mut encoder = FileFormat::<serde_json::Value>::encoder(&format).unwrap();
    for (bad, text) in [
        (serde_json::json!({"b": "x"}), "missing non-nullable field \"a\""),
        (serde_json::json!({"a": null}), "a"),
        (serde_json::json!({"a": 3_000_000_000u64}), "a"),
        (serde_json::json!({"a": {"c": 1}}), "a"),
        (serde_json::json!("text"), "$"),
    ] {
        let why = encoder.write(&bad).unwrap_err();
        assert!(why.contains(text), "{why}");
    }
    encoder.write(&serde_json::json!({"a": 1})).unwrap();
    let file = FileEncoder::<serde_json::Value>::finish(encoder).unwrap();
    assert_eq!(read::<(i32, Option<String>)>(&file).0, [(1, None)]);
}

#[test]
fn an_empty_file_has_its_schema() {
    let (found, metadata) = read::<Record>(&written::<Record>(&Parquet::of::<Record>(), &[]));
    assert_eq!((found.len(), metadata.num_row_groups()), (0, 0));
}

#[test]
fn schemas_and_settings_that_cannot_be_are_refused() {
    #[derive(Serialize, Deserialize)]
    enum Valued {
        A(u8),
        B(String),
    }
    #[derive(Serialize, Deserialize)]
    struct Holder {
        valued: Valued,
    }
    #[derive(Serialize, Deserialize)]
    struct Row {
        a: u64,
    }
    let given = |data_type| Parquet::with_schema(Arc::new(Schema::new(vec![Field::new("a", data_type, true)])));
    let berlin = DataType::Timestamp(TimeUnit::Second, Some("Europe/Berlin".into()));
    for (format, text) in [
        (Parquet::of::<Holder>(), "column \"valued\" is an enum"),
        (Parquet::of::<u8>(), "Parquet schema"),
        (Parquet::of::<Row>().column("b", DataType::Int64), "no column \"b\""),
        (given(DataType::Int8).column("a", DataType::Int64), "change it there"),
        (given(berlin), "time zone \"Europe/Berlin\""),
        (given(DataType::Utf8View), "column \"a\" is of type"),
        (Parquet::with_schema(Arc::new(Schema::empty())), "no columns"),
        (Parquet::of::<Row>().row_group_rows(0), "row_group_rows"),
        (Parquet::of::<Row>().row_group_bytes(0), "row_group_bytes"),
        (Parquet::of::<Row>().compression(ParquetCompression::Zstd(99)), "zstd level \"99\""),
    ] {
        let error = FileFormat::<Row>::encoder(&format).unwrap_err();
        assert_eq!(error.kind(), shardflow::ErrorKind::Config);
        assert!(error.to_string().contains(text), "{error}");
    }
}
