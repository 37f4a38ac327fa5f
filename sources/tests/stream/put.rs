//! Putting records into a stream.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ferrokinesis::store::StoreOptions;
use shardflow_sources::stream::{Begin, Finished, PutOptions, PutRecord, Stream, TailOptions};
use tokio::sync::mpsc;

use crate::emulator::{Emulator, number, read};

const RECORD_BYTES: usize = 1 << 20;

/// Puts records `0..count` as their numbers, record n with the partition key n % keys.
pub(crate) async fn put(stream: &Stream, count: u64, keys: u64, options: &PutOptions) -> Finished {
    let (sender, records) = mpsc::channel(2);
    let feed = async {
        for group in (0..count).collect::<Vec<_>>().chunks(300) {
            let record = |id: &u64| {
                PutRecord::new(*id, (id % keys).to_string(), None, id.to_string().into(), RECORD_BYTES).unwrap()
            };
            // Once the put has failed nobody takes them.
            let _ = sender.send(group.iter().map(record).collect()).await;
        }
        drop(sender);
    };
    tokio::join!(stream.put(records, options, |_| {}), feed).0
}

async fn all(stream: &Stream, count: usize) -> Vec<(String, u32)> {
    let options = TailOptions { start: Begin::TrimHorizon, ..TailOptions::default() };
    let mut tail = stream.tail(options).await.unwrap();
    let seen = read(&mut tail, count).await;
    seen.iter().map(|record| (record.partition_key.clone().unwrap(), number(record))).collect()
}

#[tokio::test]
async fn every_record_is_put_once() {
    let emulator = Emulator::start(3).await;
    let finished = put(&emulator.stream, 6_000, 50, &PutOptions::default()).await;
    assert!(finished.failure.is_none() && finished.not_put.is_empty(), "{finished}");
    assert_eq!((finished.tally.put, finished.tally.sent_again), (6_000, 0));
    let mut numbers: Vec<u32> = all(&emulator.stream, 6_000).await.into_iter().map(|(_, number)| number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..6_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_throttled_stream_gets_every_record_and_each_keys_in_order_where_that_is_asked_for() {
    let limits = StoreOptions { enforce_limits: true, ..StoreOptions::default() };
    let emulator = Emulator::start_with(2, limits).await;
    let options = PutOptions { ordered: true, ..PutOptions::default() };
    let finished = put(&emulator.stream, 5_000, 900, &options).await;
    assert!(finished.failure.is_none(), "{finished}");
    assert!(finished.tally.sent_again > 0, "the limits were not felt: {finished}");
    let mut by_key: HashMap<String, Vec<u32>> = HashMap::new();
    for (key, number) in all(&emulator.stream, 5_000).await {
        by_key.entry(key).or_default().push(number);
    }
    assert!(by_key.values().all(|numbers| numbers.is_sorted()));
    assert_eq!(by_key.values().map(Vec::len).sum::<usize>(), 5_000);
}

#[tokio::test]
async fn a_rate_is_kept() {
    let emulator = Emulator::start(1).await;
    let options = PutOptions { rate: Some(1_000.0), ..PutOptions::default() };
    let started = Instant::now();
    let finished = put(&emulator.stream, 1_000, 10, &options).await;
    assert_eq!(finished.tally.put, 1_000);
    // A tenth of a second's worth may go at once.
    assert!(started.elapsed() >= Duration::from_millis(850), "{finished}");
}
