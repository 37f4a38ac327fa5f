//! Putting into a stand-in that does what it should, and throttles.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use shardflow_sinks::producer::{Aggregation, NotPut, Producer, Record};

use crate::support::streams::{Stream, assert_in_order, by_key};
use crate::{assert_where_receipts_say, put_numbers, settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_is_where_its_receipt_says() {
    let stream = Stream::embedded(3).await;
    let producer = Producer::open(settings(&stream.endpoint)).await.unwrap();
    let placed = put_numbers(&producer, 40, 25).await;
    producer.close().await.unwrap();
    let seen = stream.read().await;
    assert_eq!(seen.len(), 1_000);
    assert_where_receipts_say(&placed, &seen);
    assert!(placed.iter().all(|(_, _, placed)| !placed.maybe_repeated && placed.sub_sequence.is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_explicit_hash_key_decides_about_the_shard() {
    let stream = Stream::embedded(4).await;
    let shards = stream.shards().await;
    for packs in [false, true] {
        let mut settings = settings(&stream.endpoint).linger(Duration::from_millis(5));
        if packs {
            settings = settings.aggregate(Aggregation::default());
        }
        let producer = Producer::open(settings).await.unwrap();
        let mut receipts = Vec::new();
        for (id, first, last, _) in &shards {
            for hash in [first, last] {
                let record = Record::new("same", "0").explicit_hash_key(hash.to_string());
                receipts.push((id.clone(), producer.put(record).await));
            }
        }
        for (shard, receipt) in receipts {
            let placed = receipt.await.unwrap();
            assert_eq!((&*placed.shard, placed.sub_sequence.is_some()), (&*shard, packs));
        }
    }
}

/// The stand-in lets a shard take 1,000 records a second, as AWS does: most are refused at first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_stream_gets_every_record_once_and_in_order_where_that_is_asked_for() {
    let stream = Stream::throttling(2).await;
    let producer = Producer::open(settings(&stream.endpoint).ordered().linger(Duration::ZERO)).await.unwrap();
    let begun = Instant::now();
    let placed = put_numbers(&producer, 500, 12).await;
    assert!(begun.elapsed() > Duration::from_secs(1), "the limits were not felt: {:?}", begun.elapsed());
    let seen = stream.read().await;
    // A refused record is known not to be there, so none is there twice.
    assert_eq!(seen.len(), 6_000);
    assert_in_order(&by_key(&seen), 12);
    assert_where_receipts_say(&placed, &seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packed_records_pass_a_throttled_stream_in_a_fraction_of_its_records() {
    let stream = Stream::throttling(2).await;
    let settings = settings(&stream.endpoint).ordered().aggregate(Aggregation::default());
    let producer = Producer::open(settings).await.unwrap();
    let placed = put_numbers(&producer, 100, 200).await;
    let raw = stream.raw().await.len();
    let seen = stream.read().await;
    assert_eq!(seen.len(), 20_000);
    assert!(raw < 400, "{raw} stream records for 20,000");
    assert_in_order(&by_key(&seen), 200);
    assert_where_receipts_say(&placed, &seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_stream_never_takes_is_refused_among_others_that_it_does() {
    let stream = Stream::embedded(1).await;
    // The stream takes 1 MiB, and the settings say that it takes more: only the service can refuse.
    let settings = settings(&stream.endpoint).record_bytes(3 << 20);
    for settings in [settings.clone(), settings.ordered()] {
        let producer = Producer::open(settings).await.unwrap();
        let mut receipts = Vec::new();
        for number in 0..60 {
            let data = if number % 20 == 7 { vec![b'x'; (1 << 20) + 1] } else { number.to_string().into_bytes() };
            receipts.push((number, producer.put(Record::new(format!("k{number}"), data)).await));
        }
        receipts.push((1_007, producer.put(Record::new("", "no key")).await));
        let mut refused = HashSet::new();
        for (number, receipt) in receipts {
            match receipt.await {
                Ok(_) => {}
                Err(NotPut::Refused(_)) => {
                    refused.insert(number);
                }
                Err(failed) => panic!("{number}: {failed}"),
            }
        }
        assert_eq!(refused, HashSet::from([7, 27, 47, 1_007]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_share_a_producer_and_its_buffer() {
    let stream = Stream::embedded(2).await;
    let producer = Producer::open(settings(&stream.endpoint).buffer_bytes(4_000).ordered()).await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let producer = producer.clone();
            tokio::spawn(async move {
                let mut receipts = Vec::new();
                for number in 0..100 {
                    receipts.push(producer.put(Record::new(format!("task-{task}"), number.to_string())).await);
                }
                for receipt in receipts {
                    receipt.await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let by_key = by_key(&stream.read().await);
    assert_eq!(by_key.len(), 8);
    assert_in_order(&by_key, 100);
}
