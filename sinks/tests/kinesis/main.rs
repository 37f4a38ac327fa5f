//! The Kinesis producer and the Kinesis sink against stand-ins for Kinesis, whole and through a proxy that breaks things.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod support;

mod aggregates;
mod faults;
mod kinesis_local;
mod large;
mod open;
mod puts;
mod reshards;
mod sink;
mod sink_job;

use shardflow_sinks::ProducerSettings;
use shardflow_sinks::producer::{Placed, Producer, Record};

use shardflow_stand_ins::sdk::sdk_config;
use support::streams::{STREAM, Seen};

/// A producer's settings for a stand-in.
fn settings(endpoint: &str) -> ProducerSettings {
    ProducerSettings::stream(STREAM).sdk_config(sdk_config(endpoint, None))
}

/// Puts for each key the records 0, 1, 2 … in turn, and waits for all receipts. Gives them by key and number.
async fn put_numbers(producer: &Producer, keys: u64, each: u64) -> Vec<(String, u64, Placed)> {
    let mut receipts = Vec::new();
    for number in 0..each {
        for key in 0..keys {
            let key = format!("key-{key}");
            let receipt = producer.put(Record::new(&key, number.to_string())).await;
            receipts.push((key, number, receipt));
        }
    }
    producer.flush().await.unwrap();
    let mut placed = Vec::new();
    for (key, number, receipt) in receipts {
        placed.push((key, number, receipt.await.unwrap()));
    }
    placed
}

/// Holds that each record is where its receipt says, and nothing else is in the stream but repeats that receipts tell of.
fn assert_where_receipts_say(placed: &[(String, u64, Placed)], seen: &[Seen]) {
    for (key, number, placed) in placed {
        let text = number.to_string();
        let is_it = |seen: &&Seen| seen.key == *key && seen.data == text.as_bytes();
        let of_it: Vec<&Seen> = seen.iter().filter(is_it).collect();
        let is_there = |seen: &&&Seen| {
            *seen.shard == *placed.shard
                && *seen.sequence == *placed.sequence
                && seen.sub_sequence == placed.sub_sequence
        };
        assert_eq!(of_it.iter().filter(is_there).count(), 1, "{key}/{number} is not at {placed:?} but at {of_it:?}");
        assert!(of_it.len() == 1 || placed.maybe_repeated, "{key}/{number} is repeated untold: {of_it:?}");
    }
    let known: std::collections::HashSet<_> = placed.iter().map(|(key, number, _)| (key.clone(), *number)).collect();
    for seen in seen {
        assert!(known.contains(&(seen.key.clone(), seen.text().parse().unwrap())), "nobody put {seen:?}");
    }
}
