//! An independent reader, boto3, finds in the table what was written: values and types.

use std::collections::BTreeMap;
use std::process::Command;

use serde::{Deserialize, Serialize};
use shardflow::sink::at_least_once;

use crate::stand::{Stand, flush, writer};
use shardflow_stand_ins::servers::installed;

/// Reads a table and prints each item, with the type of each attribute, as JSON.
const READER: &str = r#"
import base64, boto3, json, sys
client = boto3.client("dynamodb", endpoint_url=sys.argv[1], region_name="us-east-1",
                      aws_access_key_id="test", aws_secret_access_key="test")
items = []
for page in client.get_paginator("scan").paginate(TableName=sys.argv[2], ConsistentRead=True):
    items += page["Items"]
print(json.dumps(items, default=lambda value: base64.b64encode(value).decode(), sort_keys=True))
"#;

fn read(stand: &Stand, table: &str) -> Option<serde_json::Value> {
    let python = installed("boto3", "python/bin/python")?;
    let read = Command::new(python).args(["-c", READER, &stand.endpoint, table]).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    Some(serde_json::from_slice(&read.stdout).unwrap())
}

#[derive(Clone, Serialize, Deserialize)]
enum Unit {
    Bytes,
    Calls { of: String },
}

#[derive(Clone, Serialize, Deserialize)]
struct Charge {
    id: String,
    total: u128,
    least: i64,
    price: f64,
    paid: bool,
    note: Option<String>,
    name: String,
    units: Vec<Unit>,
    by_region: BTreeMap<String, (u32, f32)>,
    version: u64,
}

fn charge(at: u64) -> Charge {
    Charge {
        id: format!("größe-{at}"),
        total: 12_345_678_901_234_567_890_123_456_789_012_345_678 - u128::from(at),
        least: i64::MIN,
        price: 0.1 + at as f64,
        paid: at.is_multiple_of(2),
        note: None,
        name: "„Zeichen“ \"\\\n\u{1}\u{1F980}".to_owned(),
        units: vec![Unit::Bytes, Unit::Calls { of: "api".to_owned() }],
        by_region: BTreeMap::from([("eu".to_owned(), (7, 0.5)), (String::from("us"), (0, -1.25))]),
        version: at,
    }
}

fn expected(at: u64) -> serde_json::Value {
    serde_json::json!({
        "id": {"S": format!("größe-{at}")},
        "total": {"N": (12_345_678_901_234_567_890_123_456_789_012_345_678_u128 - u128::from(at)).to_string()},
        "least": {"N": "-9223372036854775808"},
        "price": {"N": format!("{at}.1")},
        "paid": {"BOOL": at.is_multiple_of(2)},
        "note": {"NULL": true},
        "name": {"S": "„Zeichen“ \"\\\n\u{1}\u{1F980}"},
        "units": {"L": [{"S": "Bytes"}, {"M": {"Calls": {"M": {"of": {"S": "api"}}}}}]},
        "by_region": {"M": {
            "eu": {"L": [{"N": "7"}, {"N": "0.5"}]},
            "us": {"L": [{"N": "0"}, {"N": "-1.25"}]},
        }},
        "version": {"N": at.to_string()},
    })
}

#[test]
fn boto3_reads_what_was_written_with_its_types() {
    Stand::each(|stand| {
        let (batches, guarded) = (stand.table(), stand.table());
        let put = at_least_once(stand.to(&batches, None).put());
        let newest = at_least_once(stand.to(&guarded, None).newest_by("version", |charge: &Charge| charge.version));
        for (sink, table) in [(&put as &dyn shardflow::sink::Sink<Charge>, &batches), (&newest, &guarded)] {
            let mut writer = writer(sink, &stand.runtime, 1);
            (0..30).for_each(|at| writer.stage(&charge(at)).unwrap());
            flush(&mut *writer).unwrap();
            let Some(found) = read(stand, table) else { return };
            let mut found = found.as_array().unwrap().clone();
            let at = |item: &serde_json::Value| item["version"]["N"].as_str().unwrap().parse::<u64>().unwrap();
            found.sort_by_key(at);
            assert_eq!(found, (0..30).map(expected).collect::<Vec<_>>());
        }
    });
}
