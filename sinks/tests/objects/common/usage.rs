//! A record of some fields, and readers of the formats' own crates that find it in files.

use arrow_array::UInt64Array;
use arrow_array::cast::AsArray;
use object_store::ObjectStore;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::{Deserialize, Serialize};
use shardflow::EventTime;

use super::visible;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) n: u64,
    pub(crate) account: String,
    pub(crate) at: EventTime,
    pub(crate) units: Option<f64>,
}

pub(crate) const SCHEMA: &str = r#"{"type": "record", "name": "Usage", "fields": [
    {"name": "n", "type": "long"}, {"name": "account", "type": "string"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}, {"name": "units", "type": ["null", "double"]}]}"#;

pub(crate) fn usage(n: u64) -> Usage {
    let at = EventTime::from_millis(1_767_225_600_000 + n * 36_000_000);
    Usage { n, account: format!("a/{}", n % 2), at, units: (!n.is_multiple_of(3)).then_some(n as f64 / 2.0) }
}

/// The numbers in a file of any format.
pub(crate) fn read(name: &str, bytes: &[u8]) -> Vec<u64> {
    let bytes = bytes.to_vec();
    match name.rsplit('.').next().unwrap() {
        "parquet" => {
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap().build().unwrap();
            reader
                .flat_map(|batch| {
                    let batch = batch.unwrap();
                    let numbers: &UInt64Array = batch.column_by_name("n").unwrap().as_primitive();
                    numbers.values().to_vec()
                })
                .collect()
        }
        "avro" => apache_avro::Reader::new(bytes.as_slice())
            .unwrap()
            .map(|record| apache_avro::from_value::<Usage>(&record.unwrap()).unwrap().n)
            .collect(),
        "zst" => {
            let text = zstd::decode_all(bytes.as_slice()).unwrap();
            ::csv::Reader::from_reader(text.as_slice())
                .deserialize()
                .map(|row| row.map(|Usage { n, .. }| n).unwrap())
                .collect()
        }
        "sz" => {
            let text = std::io::read_to_string(snap::read::FrameDecoder::new(bytes.as_slice())).unwrap();
            text.lines().map(|line| serde_json::from_str::<Usage>(line).unwrap().n).collect()
        }
        "ndjson" => {
            let lines = super::lines(name, &bytes).into_iter();
            lines.map(|line| serde_json::from_str::<Usage>(&line).unwrap().n).collect()
        }
        other => panic!("{other}"),
    }
}

pub(crate) fn read_all(store: &dyn ObjectStore) -> Vec<u64> {
    visible(store).iter().flat_map(|(name, bytes)| read(name, bytes)).collect()
}
