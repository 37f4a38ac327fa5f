//! What the services hold, read as others read it, and compared with the reference.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::Value;
use shardflow::Decoder;
use shardflow_examples::metering::decode::UsageDecoder;
use shardflow_examples::metering::output::{read_rows, visible_files};
use shardflow_examples::metering::reference::{ChargeKey, Reference};
use shardflow_examples::metering::types::Total;
use shardflow_stand_ins::stand::read_stream;

use super::services::Services;

/// Copies a bucket into a folder.
const COPY_BUCKET: &str = r"
import boto3, os, sys
s3 = boto3.client('s3')
for page in s3.get_paginator('list_objects_v2').paginate(Bucket='usage'):
    for item in page.get('Contents', []):
        path = os.path.join(sys.argv[1], item['Key'])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        s3.download_file('usage', item['Key'], path)
";

/// The archived records as they came, a line each; checks the time and the folder of each.
const READ_ARCHIVE: &str = r#"
import duckdb, sys
rows = duckdb.sql(f"""SELECT raw, epoch_ms(t.at) = json_extract(raw, '$.at')::BIGINT,
    strftime(t.at AT TIME ZONE 'UTC', '%Y-%m-%d') = dt::VARCHAR
    FROM read_parquet('{sys.argv[1]}/raw/dt=*/*/*.parquet', hive_partitioning = true) AS t""").fetchall()
assert all(at and dt for _, at, dt in rows)
print('\n'.join(raw for raw, _, _ in rows))
"#;

/// The charges in the store, a JSON object a line.
const READ_CHARGES: &str = r#"
import duckdb, json, sys
names = ['account', 'meter', 'window_start', 'window_end', 'qty', 'count', 'max']
rows = duckdb.sql(f"""SELECT account, meter, epoch_ms(window_start), epoch_ms(window_end), qty::HUGEINT, count, max
    FROM read_parquet('{sys.argv[1]}/lake/dt=*/*.parquet')""").fetchall()
for row in rows:
    print(json.dumps(dict(zip(names, row))))
"#;

/// The states of bills in the store, a JSON object a line.
const READ_BILLS: &str = r#"
import duckdb, json, sys
names = ['account', 'charges', 'qty', 'billed_until']
rows = duckdb.sql(f"""SELECT account, charges, qty::HUGEINT, epoch_ms(billed_until)
    FROM read_parquet('{sys.argv[1]}/bills/*.parquet')""").fetchall()
for row in rows:
    print(json.dumps(dict(zip(names, row))))
"#;

/// What an account comes to: charges, quantity, end of the last window.
type Bill = (u64, u128, u64);
type Bills = BTreeMap<String, Bill>;

fn bills(charges: &BTreeMap<ChargeKey, Total>) -> Bills {
    let mut bills = Bills::new();
    for ((account, _, _, end), total) in charges {
        let bill = bills.entry(account.clone()).or_default();
        *bill = (bill.0 + 1, bill.1 + total.qty, bill.2.max(*end));
    }
    bills
}

fn charge(row: &Value) -> (ChargeKey, Total) {
    let text = |field: &str| row[field].as_str().unwrap().to_owned();
    let number = |field: &str| row[field].to_string().parse::<u128>().unwrap();
    let small = |field: &str| u64::try_from(number(field)).unwrap();
    let key = (text("account"), text("meter"), small("window_start"), small("window_end"));
    (key, Total { qty: number("qty"), count: small("count"), max: small("max") })
}

fn bill(row: &Value) -> (String, Bill) {
    let number = |field: &str| row[field].to_string().parse::<u128>().unwrap();
    let small = |field: &str| u64::try_from(number(field)).unwrap();
    (row["account"].as_str().unwrap().to_owned(), (small("charges"), number("qty"), small("billed_until")))
}

/// An item as JSON: its numbers are text.
fn plain(item: HashMap<String, AttributeValue>) -> Value {
    let value = |value: AttributeValue| match value {
        AttributeValue::S(text) => Value::String(text),
        AttributeValue::N(number) => Value::Number(number.parse().unwrap()),
        other => panic!("{other:?}"),
    };
    item.into_iter().map(|(name, attribute)| (name, value(attribute))).collect()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The lines of the input that are usage.
fn input(folder: &Path) -> Vec<String> {
    let decoder = UsageDecoder::new();
    let mut lines = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read(file.unwrap().path()).unwrap();
        for line in text.split(|byte| *byte == b'\n').filter(|line| decoder.decode(line).is_ok()) {
            lines.push(String::from_utf8(line.trim_ascii().to_vec()).unwrap());
        }
    }
    lines
}

/// Each charge is there, once.
fn assert_charges(place: &str, rows: &[Value], reference: &Reference) {
    assert_eq!(rows.len(), reference.charges.len(), "charges in {place}");
    assert!(BTreeMap::from_iter(rows.iter().map(charge)) == reference.charges, "{place} has other charges");
}

/// Each account has its last bill, and nothing else.
fn assert_bills(place: &str, rows: &[Value], reference: &Reference) {
    let expected = bills(&reference.charges);
    assert_eq!(rows.len(), expected.len(), "bills in {place}");
    assert_eq!(Bills::from_iter(rows.iter().map(bill)), expected, "{place}");
}

/// Every state that a bill was in is there, once: from each to the next it grows by one charge, and by no charge twice.
fn assert_states(place: &str, rows: &[Value], reference: &Reference) {
    let mut states: BTreeMap<String, Vec<Bill>> = BTreeMap::new();
    for (account, state) in rows.iter().map(bill) {
        states.entry(account).or_default().push(state);
    }
    let expected = bills(&reference.charges);
    assert_eq!(states.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{place}");
    for (account, mut states) in states {
        states.sort_unstable();
        assert_eq!(states.last(), Some(&expected[&account]), "{account} in {place}");
        let numbers: Vec<u64> = states.iter().map(|state| state.0).collect();
        assert_eq!(numbers, (1..=expected[&account].0).collect::<Vec<_>>(), "{account} in {place}");
        let before = std::iter::once(0).chain(states.iter().map(|state| state.1));
        let mut grown: Vec<u128> = states.iter().zip(before).map(|(state, before)| state.1 - before).collect();
        let charged = reference.charges.iter().filter(|((name, ..), _)| *name == account);
        let mut charged: Vec<u128> = charged.map(|(_, total)| total.qty).collect();
        grown.sort_unstable();
        charged.sort_unstable();
        assert_eq!(grown, charged, "{account} in {place}");
    }
}

impl Services {
    /// Every service has what the reference says; streams have it at least once.
    pub(crate) fn hold(&self, reference: &Reference) {
        self.hold_tables(reference);
        self.hold_streams(reference);
        self.hold_store(reference);
        // The folder has each once; nothing was refused, and nothing lies where charges go without a sink.
        assert_charges("a folder", &self.rows("elsewhere/charges"), reference);
        assert_states("a folder", &self.rows("elsewhere/bills"), reference);
        for nothing in ["out/charges", "out/refused"] {
            assert!(visible_files(&self.place.path(nothing)).unwrap().is_empty(), "{nothing}");
        }
    }

    /// What makes results visible at commits has some of them by now, each once.
    pub(crate) fn hold_so_far(&self, reference: &Reference) {
        for (place, rows) in [("a folder", self.rows("elsewhere/charges")), ("postgres", self.select("charges"))] {
            let found: BTreeMap<ChargeKey, Total> = rows.iter().map(charge).collect();
            assert_eq!(found.len(), rows.len(), "charges are twice in {place}");
            for (key, total) in found {
                assert_eq!(reference.charges.get(&key), Some(&total), "{key:?} in {place}");
            }
        }
    }

    fn hold_tables(&self, reference: &Reference) {
        assert_charges("dynamodb", &self.items("charges"), reference);
        assert_bills("dynamodb", &self.items("bills"), reference);
        assert_charges("opensearch", &self.documents("charges"), reference);
        assert_bills("opensearch", &self.documents("bills"), reference);
        assert_charges("postgres", &self.select("charges"), reference);
        assert_bills("postgres", &self.select("bills"), reference);
    }

    /// A stream takes nothing back: a charge that is there twice has the same id, and of bills the last one counts.
    fn hold_streams(&self, reference: &Reference) {
        let rows = self.records("charges");
        let by_id: BTreeMap<String, &Value> =
            rows.iter().map(|row| (row["id"].as_str().unwrap().to_owned(), row)).collect();
        for row in &rows {
            assert_eq!(by_id[row["id"].as_str().unwrap()], row);
        }
        let charges: Vec<Value> = by_id.into_values().cloned().collect();
        assert_charges("a stream", &charges, reference);
        let mut last = Bills::new();
        for (account, state) in self.records("bills").iter().map(bill) {
            let most = last.get(&account).map_or(0, |state| state.0);
            // A start after a crash goes back to what was committed, and leaves nothing out.
            assert!(state.0 <= most + 1, "{account}: the bill of {} charges comes after that of {most}", state.0);
            last.insert(account, state);
        }
        assert_eq!(last, bills(&reference.charges), "the last bills in a stream");
    }

    /// The store, read by others: charges and states of bills once, and every record that could be read, to the letter.
    fn hold_store(&self, reference: &Reference) {
        let copy = self.place.path("copy");
        self.python("python", COPY_BUCKET, &[&copy]).unwrap();
        let read = |program: &str| self.python("readers", program, &[&copy]);
        let Some(charges) = read(READ_CHARGES) else { return };
        assert_charges("a store", &lines(&charges), reference);
        assert_states("a store", &lines(&read(READ_BILLS).unwrap()), reference);
        let archived = read(READ_ARCHIVE).unwrap();
        let mut archived: Vec<&str> = archived.lines().collect();
        let read = input(&self.place.path("in"));
        let mut read: Vec<&str> = read.iter().map(String::as_str).collect();
        archived.sort_unstable();
        read.sort_unstable();
        assert!(archived == read, "{} records archived, {} read", archived.len(), read.len());
    }

    fn items(&self, table: &str) -> Vec<Value> {
        let pages = self.tables.scan().table_name(table).consistent_read(true).into_paginator().items().send();
        let items = self.runtime.block_on(pages.collect::<Result<Vec<_>, _>>()).unwrap();
        items.into_iter().map(plain).collect()
    }

    fn documents(&self, index: &str) -> Vec<Value> {
        self.search.cluster().documents(index).into_values().map(|(_, document)| document).collect()
    }

    fn select(&self, table: &str) -> Vec<Value> {
        let rows = self.database.texts(&format!("SELECT to_json(t) FROM {table} t"));
        rows.into_iter().map(|row| serde_json::from_str(&row.unwrap()).unwrap()).collect()
    }

    fn records(&self, stream: &str) -> Vec<Value> {
        let records = self.runtime.block_on(read_stream(&self.streams(), stream));
        records.iter().map(|record| serde_json::from_slice(record).unwrap()).collect()
    }

    fn rows(&self, folder: &str) -> Vec<Value> {
        read_rows(&self.place.path(folder)).unwrap()
    }
}
