//! Packing while the stream is resharded: every record ends in a shard that its hash key is of.

use std::collections::HashMap;
use std::time::Duration;

use shardflow_aws::hash::hash_of;
use shardflow_sinks::producer::{Aggregation, Placed, Producer, Record};

use crate::support::streams::{Stream, assert_in_order, by_key};
use crate::{assert_where_receipts_say, settings};

/// What happens to the stream while records are put.
#[derive(Debug, Clone, Copy)]
enum Reshard {
    Split,
    Merge,
}

use Reshard::{Merge, Split};

/// In turn. A record that is on its way when its shard is closed ends in a child: of a merge, in one that takes more keys.
const RESHARDS: [Reshard; 7] = [Split, Split, Merge, Split, Merge, Merge, Split];

async fn put_while_shards_split_and_merge(is_ordered: bool) {
    let stream = Stream::embedded(2).await;
    let mut settings = settings(&stream.endpoint).aggregate(Aggregation { bytes: 2_000, records: 100 });
    settings = settings.linger(Duration::from_millis(1));
    if is_ordered {
        settings = settings.ordered();
    }
    let producer = Producer::open(settings).await.unwrap();
    let mut receipts = Vec::new();
    let mut number = 0_u64;
    for reshard in RESHARDS {
        for _ in 0..30 {
            for key in 0..25 {
                let key = format!("key-{key}");
                let receipt = producer.put(Record::new(&key, number.to_string())).await;
                receipts.push((key, number, receipt));
            }
            number += 1;
        }
        match reshard {
            Split => stream.split().await,
            Merge => stream.merge().await,
        }
    }
    // Those behind the last one are put into its children.
    for key in 0..25 {
        let key = format!("key-{key}");
        let receipt = producer.put(Record::new(&key, number.to_string())).await;
        receipts.push((key, number, receipt));
    }
    number += 1;
    producer.close().await.unwrap();
    let mut placed: Vec<(String, u64, Placed)> = Vec::new();
    for (key, number, receipt) in receipts {
        placed.push((key, number, receipt.await.unwrap()));
    }
    let ranges: HashMap<String, (u128, u128)> =
        stream.shards().await.into_iter().map(|(id, first, last, _)| (id, (first, last))).collect();
    for (key, number, placed) in &placed {
        let (first, last) = ranges[&*placed.shard];
        assert!((first..=last).contains(&hash_of(key)), "{key}/{number} ends at {placed:?}");
    }
    let seen = stream.read().await;
    assert_where_receipts_say(&placed, &seen);
    let shards: std::collections::HashSet<_> = placed.iter().map(|(_, _, placed)| &placed.shard).collect();
    assert!(shards.len() > 3, "the reshards were not felt: {shards:?}");
    if is_ordered {
        // The stand-in lists shards by their ids, so parents are read before their children.
        assert_in_order(&by_key(&seen), number);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packed_records_end_in_the_shards_of_their_keys() {
    put_while_shards_split_and_merge(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_their_order_too() {
    put_while_shards_split_and_merge(true).await;
}
