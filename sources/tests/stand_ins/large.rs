//! Records as large as a stream can be told to take: 10 MiB, key and data together.

use std::time::Duration;

use shardflow::testing::Collected;
use shardflow_sources::{Kinesis, ReadMode};

use crate::job::{Numbered, start};
use shardflow_stand_ins::sdk::sdk_config;
use shardflow_stand_ins::stand::Stand;

const LARGEST: usize = 10 * 1024 * 1024;

/// Small ones and the largest in turn, all in one shard.
fn mixed() -> Vec<Numbered> {
    let large = |letter: &str| {
        // What JSON puts around it, and the partition key, count as well.
        (letter.repeat(LARGEST - r#"["",0]"#.len() - PARTITION_KEY.len()), 0)
    };
    let small = |name: &str| (name.to_owned(), 0);
    vec![large("a"), small("one"), large("b"), large("c"), small("two"), large("d"), small("three")]
}

const PARTITION_KEY: &str = "all";

async fn reads_all(mode: ReadMode) {
    let stand = Stand::embedded(1).await;
    let expected = mixed();
    let put_them = || async {
        for record in &expected {
            stand.put_of_any_size(PARTITION_KEY, &serde_json::to_vec(record).unwrap()).await;
        }
    };
    let (state, seen) = (tempfile::tempdir().unwrap(), Collected::<Numbered>::new());
    let source = Kinesis::stream("usage").sdk_config(sdk_config(stand.endpoint(), None)).read_mode(mode);
    let source = source.idle_gap(Duration::from_millis(200));
    for time in 1..=2 {
        put_them().await;
        let running = start(source.clone(), state.path(), &seen);
        running.until(time * expected.len()).await;
        running.stop().await;
    }
    let lengths = |records: &[Numbered]| -> Vec<(String, usize)> {
        let mut lengths: Vec<_> = records.iter().map(|(key, _)| (key.chars().take(1).collect(), key.len())).collect();
        lengths.sort();
        lengths
    };
    let twice = [expected.clone(), expected.clone()].concat();
    assert_eq!(lengths(&seen.values()), lengths(&twice));
    assert!(seen.values().iter().all(|record| expected.contains(record)), "a large record came with other content");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_records_come_whole_by_calls() {
    reads_all(ReadMode::Polling).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_records_come_whole_by_fan_out() {
    reads_all(ReadMode::FanOut { consumer: "ours".to_owned() }).await;
}
