//! Aggregates that others wrote: fixtures made by `support/aggregate.py 20261125 6` with aws_kinesis_agg 1.2.3, and fresh ones
//! where that is installed.
#![cfg(feature = "kinesis")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use shardflow_sources::kpl::{UserRecord, open};
use shardflow_stand_ins::servers;

#[derive(Deserialize)]
struct Line {
    aggregate: String,
    records: Vec<Put>,
}

#[derive(Deserialize)]
struct Put {
    key: String,
    hash_key: Option<String>,
    data: String,
}

/// Holds that each aggregate gives the records that went into it. Gives how many there were.
fn assert_opened(lines: &str) -> usize {
    let mut count = 0;
    for line in lines.lines() {
        let Line { aggregate, records } = serde_json::from_str(line).unwrap();
        let opened = open(&STANDARD.decode(aggregate).unwrap()).unwrap();
        assert_eq!(opened.records.len(), records.len());
        for (seen, put) in opened.records.iter().zip(records) {
            let UserRecord { partition_key, explicit_hash_key, data, tags } = seen;
            assert_eq!((partition_key, data), (&put.key, &STANDARD.decode(put.data).unwrap()));
            // The package writes the partition key's hash where it was given none.
            assert!(put.hash_key.is_none() || *explicit_hash_key == put.hash_key);
            assert!(tags.is_empty());
            count += 1;
        }
    }
    count
}

#[test]
fn aggregates_of_another_encoder_are_opened_exactly() {
    assert!(assert_opened(include_str!("fixtures/kpl/aws_kinesis_agg.jsonl")) > 50);
}

#[test]
fn so_are_those_that_it_makes_now() {
    let Some(python) = servers::installed("aws_kinesis_agg", "python/bin/python") else { return };
    let seed = std::env::var("SHARDFLOW_KPL_SEED").unwrap_or_else(|_| std::process::id().to_string());
    println!("SHARDFLOW_KPL_SEED={seed}");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/aggregate.py");
    let made = Command::new(python).args([script, &seed, "100"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(assert_opened(std::str::from_utf8(&made.stdout).unwrap()) > 1_000);
}

#[test]
fn the_fuzzers_corpus_is_read_without_a_panic() {
    let corpus = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/kpl")).unwrap();
    let opened = corpus.filter(|file| open(&std::fs::read(file.as_ref().unwrap().path()).unwrap()).is_ok());
    assert!(opened.count() >= 6, "the aggregates among them");
}
