//! The limit: GetRecords with the SDK alone, one task a shard. Records are counted and dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_kinesis::types::ShardIteratorType;
use shardflow_examples::metering::demo::embedded::REGION;
use tokio::task::JoinSet;

use super::{BYTES_PER_SECOND, CALL_RECORDS, Drained, GAP};

/// What all tasks have read.
#[derive(Debug, Default)]
struct Count {
    records: AtomicU64,
    bytes: AtomicU64,
}

impl Count {
    /// Counts an answer; gives all records so far.
    fn add(&self, sizes: impl Iterator<Item = usize>) -> u64 {
        let (mut records, mut bytes) = (0_u64, 0_u64);
        for size in sizes {
            records = records.saturating_add(1);
            bytes = bytes.saturating_add(size as u64);
        }
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        self.records.fetch_add(records, Ordering::SeqCst).saturating_add(records)
    }
}

/// Reads until `records` have come.
pub(super) fn run(endpoint: &str, stream: &str, records: u64) -> Result<Drained> {
    let started = Instant::now();
    // As many threads as the engine gives its sources.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().context("could not start tokio")?;
    runtime.block_on(async {
        let client = client(endpoint);
        let shards = client.list_shards().stream_name(stream).send().await.context("could not list the shards")?;
        let (count, mut tasks) = (Arc::new(Count::default()), JoinSet::new());
        for shard in shards.shards() {
            let (client, stream, shard) = (client.clone(), stream.to_owned(), shard.shard_id().to_owned());
            let count = Arc::clone(&count);
            tasks.spawn(async move { read(&client, &stream, &shard, &count, records).await });
        }
        // The first task that has seen the last record ends it: the others wait for their next call.
        tasks.join_next().await.context("the stream has no shard")?.context("a task died")??;
        let seconds = started.elapsed().as_secs_f64();
        Ok(Drained {
            records: count.records.load(Ordering::SeqCst),
            bytes: count.bytes.load(Ordering::SeqCst),
            seconds,
        })
    })
}

async fn read(client: &Client, stream: &str, shard: &str, count: &Count, records: u64) -> Result<()> {
    let call = client.get_shard_iterator().stream_name(stream).shard_id(shard);
    let answer = call.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await;
    let mut iterator = answer.context("could not get an iterator")?.shard_iterator;
    while let Some(current) = iterator.take() {
        let call = tokio::time::Instant::now();
        let answer = client.get_records().shard_iterator(current).limit(CALL_RECORDS).send().await;
        let answer = answer.context("could not get records")?;
        let bytes: usize = answer.records.iter().map(|record| record.data.as_ref().len()).sum();
        if count.add(answer.records.iter().map(|record| record.data.as_ref().len())) >= records {
            return Ok(());
        }
        let next_call = call + GAP.max(Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND as f64));
        iterator = answer.next_shard_iterator;
        tokio::time::sleep_until(next_call).await;
    }
    Ok(())
}

/// A client that retries nothing by itself.
pub(crate) fn client(endpoint: &str) -> Client {
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new("bench", "bench", None, None, "bench"))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(endpoint)
        .build();
    Client::from_conf(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_all_shards_are_counted_together() {
        let count = Count::default();
        assert_eq!(count.add([3, 4].into_iter()), 2);
        assert_eq!(count.add([5].into_iter()), 3);
        assert_eq!(count.bytes.load(Ordering::SeqCst), 12);
    }
}
