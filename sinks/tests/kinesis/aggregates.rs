//! Aggregates as others open them.

use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use serde_json::json;
use shardflow_aws::kpl::{MAGIC, aggregate, open};
use shardflow_sinks::producer::{Aggregation, Producer, Record};

use crate::settings;
use crate::support::streams::{Raw, Stream, opened};
use shardflow_stand_ins::servers;

#[derive(Debug, Deserialize)]
struct User {
    key: String,
    hash_key: Option<String>,
    data: String,
}

/// What aws_kinesis_agg finds in each of the stream records; `None` where it is not installed.
fn deaggregated(raw: &[Raw]) -> Option<Vec<Vec<User>>> {
    let python = servers::installed("aws_kinesis_agg", "python/bin/python")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kinesis/support/deaggregate.py");
    let mut child = Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let lines: String =
        raw.iter().map(|raw| format!("{}\n", json!({"key": raw.key, "data": STANDARD.encode(&raw.data)}))).collect();
    let writing = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let said = child.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(said.status.success());
    Some(String::from_utf8(said.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aggregates_hold_for_others_what_they_hold_for_us() {
    let stream = Stream::embedded(3).await;
    let producer = Producer::open(settings(&stream.endpoint).aggregate(Aggregation::default())).await.unwrap();
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut chance = StdRng::seed_from_u64(seed);
    let mut put: HashMap<Vec<u8>, (String, Option<String>)> = HashMap::new();
    let mut receipts = Vec::new();
    for number in 0_u32..3_000 {
        let key = match chance.random_range(0..4) {
            0 => "k".repeat(chance.random_range(1..=256)),
            1 => "κλειδί".to_owned(),
            _ => format!("key-{}", chance.random_range(0..50)),
        };
        let mut data = number.to_be_bytes().to_vec();
        data.resize(data.len() + [0, 1, 100, 1_000][chance.random_range(0..4)], b'.');
        let mut record = Record::new(&key, data.clone());
        let hash_key = chance.random_bool(0.5).then(|| chance.random::<u128>().to_string());
        if let Some(hash_key) = &hash_key {
            record = record.explicit_hash_key(hash_key);
        }
        put.insert(data, (key, hash_key));
        receipts.push(producer.put(record).await);
    }
    producer.close().await.unwrap();
    let mut packed = 0;
    for receipt in receipts {
        packed += usize::from(receipt.await.unwrap().sub_sequence.is_some());
    }
    // The last of a shard may be alone.
    assert!(packed > 2_900, "{packed}");
    let mut raw = stream.raw().await;
    assert!(raw.len() < 100, "{} stream records", raw.len());
    raw.retain(|raw| raw.data.starts_with(&MAGIC));
    let mut count = 0;
    for raw in &raw {
        assert!(raw.data.len() <= 50 << 10);
        for record in open(&raw.data).unwrap().records {
            assert_eq!(put[&record.data], (record.partition_key, record.explicit_hash_key));
            count += 1;
        }
    }
    assert_eq!(count, packed);
    let Some(by_others) = deaggregated(&raw) else { return };
    assert_eq!(by_others.iter().map(Vec::len).sum::<usize>(), packed);
    for (raw, users) in raw.iter().zip(by_others) {
        for (ours, theirs) in opened(raw).into_iter().zip(users) {
            let data = STANDARD.decode(&theirs.data).unwrap();
            assert_eq!((&ours.key, &ours.data), (&theirs.key, &data));
            // The package gives a record without an explicit hash key the first one of the aggregate.
            assert!(put[&data].1.is_none() || put[&data].1 == theirs.hash_key);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_that_looks_like_an_aggregate_comes_out_as_it_was_put() {
    let stream = Stream::embedded(1).await;
    let inner = aggregate(&[shardflow_aws::kpl::UserRecord { partition_key: "in".to_owned(), ..Default::default() }]);
    let producer = Producer::open(settings(&stream.endpoint).aggregate(Aggregation::default())).await.unwrap();
    for data in [inner.clone(), MAGIC.to_vec()] {
        // Alone, so that it is no part of an aggregate anyway.
        producer.put(Record::new("out", data)).await.await.unwrap();
    }
    let seen = stream.read().await;
    assert_eq!(
        seen.iter().map(|seen| (&*seen.key, &seen.data[..])).collect::<Vec<_>>(),
        [("out", &inner[..]), ("out", &MAGIC[..])]
    );
}
