//! Against kinesis-local, another program's idea of Kinesis. Few records: it is slow where a shard holds many.

use std::time::Duration;

use shardflow_sinks::producer::{Aggregation, Producer};

use crate::support::streams::{Stream, assert_in_order, by_key};
use crate::{assert_where_receipts_say, put_numbers, settings};
use shardflow_stand_ins::kinesis_local::KinesisLocal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kinesis_local_gets_every_record_in_order_packed_and_not_before_and_after_a_split() {
    let Some(server) = KinesisLocal::start().await else { return };
    let stream = Stream::at(server.plain_endpoint(), 2).await;
    let mut placed = Vec::new();
    let base = settings(server.plain_endpoint()).ordered().linger(Duration::from_millis(5));
    let packed = base.clone().aggregate(Aggregation { bytes: 300, records: 30 });
    let plain = Producer::open(base).await.unwrap();
    placed.extend(put_numbers(&plain, 12, 10).await);
    plain.close().await.unwrap();
    assert_in_order(&by_key(&stream.read().await), 10);
    let producer = Producer::open(packed).await.unwrap();
    // The same numbers again, each known by its receipt.
    let again = put_numbers(&producer, 12, 10).await;
    stream.split().await;
    let after = put_numbers(&producer, 12, 10).await;
    producer.close().await.unwrap();
    let shards: std::collections::HashSet<_> = after.iter().map(|(_, _, placed)| &placed.shard).collect();
    assert_eq!(shards.len(), 3, "{shards:?}");
    assert!(again.iter().chain(&after).any(|(_, _, placed)| placed.sub_sequence.is_some()));
    placed.extend(again);
    placed.extend(after);
    let seen = stream.read().await;
    // Three times the same numbers, and no more than the receipts tell of.
    let repeats = placed.iter().filter(|(_, _, placed)| placed.maybe_repeated).count();
    assert!(seen.len() >= 360 && seen.len() <= 360 + repeats, "{} and {repeats} repeats", seen.len());
    let mut left = seen.clone();
    for (key, number, placed) in &placed {
        let place = left.iter().position(|seen| {
            seen.key == *key
                && seen.data == number.to_string().as_bytes()
                && *seen.sequence == *placed.sequence
                && seen.sub_sequence == placed.sub_sequence
        });
        left.remove(place.unwrap_or_else(|| panic!("{key}/{number} is not at {placed:?}")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_and_http_2_too() {
    let Some(server) = KinesisLocal::start().await else { return };
    let stream = Stream::at(server.plain_endpoint(), 1).await;
    let config = crate::sdk_config(server.tls_endpoint(), Some(server.certificate()));
    let producer = Producer::open(settings("http://127.0.0.1:1").sdk_config(config)).await.unwrap();
    let placed = put_numbers(&producer, 3, 20).await;
    producer.close().await.unwrap();
    assert_where_receipts_say(&placed, &stream.read().await);
}
