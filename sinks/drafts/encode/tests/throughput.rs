//! How fast encoders are, on one core. Prints figures and asserts none: run it alone, with `--ignored --nocapture`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use encode::encode::{Avro, FileEncoder, FileFormat, Parquet, csv, ndjson};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Charge {
    account: String,
    meter: String,
    at: u64,
    units: f64,
    cents: i64,
    note: Option<String>,
}

const SCHEMA: &str = r#"{"type": "record", "name": "Charge", "fields": [
    {"name": "account", "type": "string"}, {"name": "meter", "type": "string"}, {"name": "at", "type": "long"},
    {"name": "units", "type": "double"}, {"name": "cents", "type": "long"}, {"name": "note", "type": ["null", "string"]}]}"#;

fn charges() -> Vec<Charge> {
    let charge = |n: u64| Charge {
        account: format!("account-{:06}", n.wrapping_mul(2_654_435_761) % 50_000),
        meter: ["requests", "bytes-out", "storage"][n as usize % 3].to_owned(),
        at: 1_767_225_600_000 + n * 7,
        units: (n.wrapping_mul(48_271) % 65_537) as f64 / 8.0,
        cents: (n % 997) as i64,
        note: (n % 10 == 0).then(|| "adjusted by support".to_owned()),
    };
    (0..100_000).map(charge).collect()
}

/// Records a second, with the bytes of JSON that they would be.
fn measure<F: FileFormat<Charge>>(name: &str, format: &F, charges: &[Charge], json_bytes: usize) {
    let mut best = Duration::MAX;
    let mut size = 0;
    for _ in 0..7 {
        let begun = Instant::now();
        let (mut encoder, mut bytes) = (format.encoder().unwrap(), 0);
        for (index, charge) in charges.iter().enumerate() {
            encoder.write(black_box(charge)).unwrap();
            if index % 1000 == 0 {
                bytes += encoder.take().len();
            }
        }
        bytes += black_box(encoder.finish().unwrap()).len();
        best = best.min(begun.elapsed());
        size = bytes;
    }
    let seconds = best.as_secs_f64();
    println!(
        "{name:<16} {:>9.0} records/s {:>7.1} MB/s as JSON, file {:>5.1} % of JSON",
        charges.len() as f64 / seconds,
        json_bytes as f64 / seconds / 1e6,
        size as f64 * 100.0 / json_bytes as f64,
    );
}

#[test]
#[ignore = "a measurement"]
fn encoders_are_measured() {
    let charges = charges();
    let json = charges.iter().map(|charge| serde_json::to_vec(charge).unwrap().len() + 1).sum();
    measure("ndjson", &ndjson(), &charges, json);
    measure("ndjson.gz", &ndjson().gzip(), &charges, json);
    measure("ndjson.zst", &ndjson().zstd(), &charges, json);
    measure("csv", &csv(), &charges, json);
    measure("avro deflate", &Avro::schema(SCHEMA), &charges, json);
    measure("parquet zstd", &Parquet::of::<Charge>(), &charges, json);
}
