//! Looking at a stream and following it.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_kinesis::primitives::Blob;
use shardflow::ErrorKind;
use shardflow_sources::stream::{Begin, Record, TailOptions};

use crate::emulator::{Emulator, number, read};

const HALF: u128 = 1 << 127;
const QUARTER: u128 = 1 << 126;

fn from(start: Begin) -> TailOptions {
    TailOptions { start, ..TailOptions::default() }
}

#[tokio::test]
async fn records_are_followed_over_splits_and_merges_in_the_order_of_their_keys() {
    let emulator = Emulator::start(2).await;
    emulator.put(0..400).await;
    let mut tail = emulator.stream.tail(from(Begin::TrimHorizon)).await.unwrap();
    let mut seen = read(&mut tail, 100).await;
    emulator.split_at(QUARTER).await;
    emulator.put(400..800).await;
    emulator.merge_at(HALF).await;
    emulator.put(800..1_200).await;
    seen.extend(read(&mut tail, 1_200 - seen.len()).await);
    assert_in_order(&seen);
    // Who comes later finds all of it at once, and reads it in the same order.
    let mut later = emulator.stream.tail(from(Begin::TrimHorizon)).await.unwrap();
    let seen = read(&mut later, 1_200).await;
    assert_in_order(&seen);
    let place = |shard: &str| seen.iter().position(|record: &Record| record.shard.ends_with(shard)).unwrap();
    assert!(place("2") > place("0") && place("4") > place("1"));
    assert!(seen.iter().all(|record| record.arrived.is_some() && record.sub_sequence.is_none()));
}

/// Every record once, and those of a key in the order in which they were put.
fn assert_in_order(seen: &[Record]) {
    let mut by_key: HashMap<&str, Vec<u32>> = HashMap::new();
    for record in seen {
        by_key.entry(record.partition_key.as_deref().unwrap()).or_default().push(number(record));
    }
    assert!(by_key.values().all(|numbers| numbers.is_sorted()), "a key came out of order over the reshards");
    let mut all: Vec<u32> = seen.iter().map(number).collect();
    all.sort_unstable();
    assert_eq!(all, (0..seen.len() as u32).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_begins_with_the_latest_sees_what_comes_after_and_shards_that_come_after_from_their_beginning() {
    let emulator = Emulator::start(1).await;
    emulator.put(0..50).await;
    let mut tail = emulator.stream.tail(from(Begin::Latest)).await.unwrap();
    assert_eq!(tail.open_shards(), 1);
    emulator.put(50..60).await;
    emulator.split_at(HALF).await;
    emulator.put(60..100).await;
    let mut seen: Vec<u32> = read(&mut tail, 50).await.iter().map(number).collect();
    seen.sort_unstable();
    assert_eq!(seen, (50..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_time_to_begin_at_leaves_out_what_arrived_before_and_must_have_come() {
    let emulator = Emulator::start(1).await;
    emulator.put(0..10).await;
    let long_ago = "2020-01-01T00:00:00Z".parse().unwrap();
    let mut tail = emulator.stream.tail(from(Begin::At(long_ago))).await.unwrap();
    assert_eq!(read(&mut tail, 10).await.len(), 10);
    let to_come = "2999-01-01T00:00:00Z".parse().unwrap();
    let error = emulator.stream.tail(from(Begin::At(to_come))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("has not come yet"), "{error}");
}

#[tokio::test]
async fn a_single_shard_is_followed_to_its_end_and_not_into_its_children() {
    let emulator = Emulator::start(1).await;
    emulator.put(0..20).await;
    emulator.split_at(HALF).await;
    emulator.put(20..40).await;
    let only = |shard: &str| TailOptions { start: Begin::TrimHorizon, shards: BTreeSet::from([shard.to_owned()]) };
    let mut tail = emulator.stream.tail(only("shardId-000000000000")).await.unwrap();
    let mut seen = Vec::new();
    while let Some(records) = tail.next().await.unwrap() {
        seen.extend(records.iter().map(number));
    }
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
    let error = emulator.stream.tail(only("shardId-000000000077")).await.unwrap_err().to_string();
    assert!(error.starts_with("could not find shard \"shardId-000000000077\" of stream \"usage\" at "), "{error}");
}

#[tokio::test]
async fn aggregates_are_opened() {
    // Two records, "one" with key a and "two" with key b and hash key 7; the digest is of the message before it.
    const AGGREGATE: &[u8] = b"\xF3\x89\x9A\xC2\x0A\x01a\x0A\x01b\x12\x017\
        \x1A\x07\x08\x00\x1A\x03one\x1A\x09\x08\x01\x10\x00\x1A\x03two\
        \x24\xC6\x3F\xC0\xE4\xC3\xAB\xEE\x5F\xBE\xB8\x04\xF0\xDD\xC9\x09";
    let emulator = Emulator::start(1).await;
    let put = |data: Vec<u8>| {
        emulator.client.put_record().stream_name("usage").partition_key("k").data(Blob::new(data)).send()
    };
    put(AGGREGATE.to_vec()).await.unwrap();
    let mut tail = emulator.stream.tail(from(Begin::TrimHorizon)).await.unwrap();
    let seen: Vec<_> =
        read(&mut tail, 2).await.into_iter().map(|r| (r.sub_sequence, r.partition_key, r.data)).collect();
    let record = |sub, key: &str, data: &[u8]| (Some(sub), Some(key.to_owned()), data.to_vec());
    assert_eq!(seen, [record(0, "a", b"one"), record(1, "b", b"two")]);
}

#[tokio::test]
async fn a_description_shows_lineage_lags_and_consumers() {
    let emulator = Emulator::start(2).await;
    emulator.put(0..100).await;
    emulator.split_at(QUARTER).await;
    emulator.merge_at(HALF).await;
    let description = emulator.stream.describe(true).await.unwrap();
    assert_eq!((description.summary.status.as_str(), description.summary.retention_hours), ("ACTIVE", 24));
    let lags = description.lags.clone().unwrap();
    assert_eq!(lags.len(), 5);
    assert!(lags["shardId-000000000000"].oldest_arrived.is_some());
    assert!(lags["shardId-000000000004"].oldest_arrived.is_none());
    let text = description.to_string();
    let drawn = |line: &str| {
        let (branch, rest) = line.split_once("shardId-0000000000").unwrap();
        format!("{branch}{}", &rest[..2])
    };
    let tree: Vec<String> = text.lines().filter(|line| line.contains("shardId-")).map(drawn).collect();
    assert_eq!(tree, ["00", "├─ 02", "└─ 03", "   └─ 04", "01", "└─ 04"]);
    assert!(text.contains("no consumers are registered"), "{text}");
}

#[tokio::test]
async fn consumers_come_and_go() {
    let emulator = Emulator::start(1).await;
    let stream = &emulator.stream;
    let bound = std::time::Duration::from_secs(20);
    let registered = stream.register_consumer("billing", bound).await.unwrap();
    assert_eq!((registered.name.as_str(), registered.status.as_str()), ("billing", "ACTIVE"));
    assert_eq!(stream.consumers().await.unwrap(), [registered]);
    let error = stream.register_consumer("billing", bound).await.unwrap_err().to_string();
    let expected = "could not register consumer \"billing\" of stream \"usage\" at ";
    assert!(error.starts_with(expected) && error.contains("ResourceInUseException"), "{error}");
    let error = stream.register_consumer("late", std::time::Duration::ZERO).await.unwrap_err().to_string();
    assert!(error.contains("become ACTIVE within 0ns"), "{error}");
    for name in ["billing", "late"] {
        stream.deregister_consumer(name, bound).await.unwrap();
    }
    assert!(stream.consumers().await.unwrap().is_empty());
    let error = stream.deregister_consumer("billing", bound).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().ends_with("there is none"), "{error}");
}
