//! The producer library beside a bare loop of PutRecords: as many calls under way, of as many records.
//!
//! A record each: the embedded server takes whatever comes, on the same two cores; what is measured is what the clients cost.
//! Packing: the server takes of each shard what the service takes, 1,000 records or 1 MiB a second, and nothing else limits
//! either; packed records are the same for the reader, and far fewer for the service.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ShardIteratorType};
use shardflow_aws::kpl;
use shardflow_examples::metering::demo::embedded::{Embedded, Stream};
use shardflow_sinks::producer::{Aggregation, Producer, ProducerSettings, Receipt, Record};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::{Kind, Wrote, once};
use crate::child::Usage;
use crate::kinesis::client;
use crate::limits::names::BARE_PUT;
use crate::results::{Entry, Group, Measured, Speed};
use crate::throughput::Programs;

/// Bytes of a record.
const RECORD_BYTES: usize = 200;
/// Records of a call, as the service limits it.
const CALL_RECORDS: usize = 500;
/// Calls under way at a time, of both.
const CALLS: usize = 8;
const SHARDS: i32 = 8;
/// Partition keys. An aggregate names each once: with many more, packed records are larger by their keys.
const KEYS: u64 = 100;
/// Enough that filling the buffer for the first time, 64 MiB of new pages, is a small part.
const RECORDS: u64 = 1_500_000;
/// Within the service's limits: some fifteen seconds for the loop, and for what packs.
const LIMITED_RECORDS: u64 = 120_000;
const PACKED_RECORDS: u64 = 600_000;

/// The record of this number.
fn record(number: u64) -> (String, Vec<u8>) {
    let mut data = number.to_be_bytes().to_vec();
    data.resize(RECORD_BYTES, b'x');
    (format!("key-{}", number % KEYS), data)
}

fn runtime() -> Result<Runtime> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().context("could not start tokio")
}

/// The limit: as many records a call as it takes, as many calls at a time. What is throttled goes again, behind the others.
pub(super) fn put_records(endpoint: &str, stream: &str, records: u64) -> Result<Wrote> {
    runtime()?.block_on(async {
        let client = client(endpoint);
        client.describe_stream_summary().stream_name(stream).send().await.context("could not reach the stream")?;
        let started = Instant::now();
        let (mut fresh, mut throttled) = (0..records, VecDeque::new());
        let mut calls = JoinSet::new();
        loop {
            let entries: Result<Vec<_>> = fresh.by_ref().take(CALL_RECORDS).map(entry).collect();
            let mut entries = entries?;
            let room = CALL_RECORDS.saturating_sub(entries.len()).min(throttled.len());
            entries.extend(throttled.drain(..room));
            let is_over = entries.is_empty();
            if !is_over {
                calls.spawn(call(client.clone(), stream.to_owned(), entries));
            }
            if is_over || calls.len() == CALLS {
                let Some(done) = calls.join_next().await else { break };
                throttled.extend(done.context("a task died")??);
            }
        }
        Ok(Wrote { records, seconds: started.elapsed().as_secs_f64() })
    })
}

fn entry(number: u64) -> Result<PutRecordsRequestEntry> {
    let (key, data) = record(number);
    let entry = PutRecordsRequestEntry::builder().partition_key(key).data(Blob::new(data));
    entry.build().context("could not make a record")
}

/// Gives the records that were throttled.
async fn call(
    client: Client,
    stream: String,
    entries: Vec<PutRecordsRequestEntry>,
) -> Result<Vec<PutRecordsRequestEntry>> {
    let answer = client.put_records().stream_name(stream).set_records(Some(entries.clone())).send().await;
    let answer = answer.context("could not put records")?;
    if answer.failed_record_count().is_none_or(|failed| failed == 0) {
        return Ok(Vec::new());
    }
    let fates = entries.into_iter().zip(answer.records());
    let failed = fates.filter_map(|(entry, fate)| Some((entry, fate.error_code()?)));
    let throttled = failed.map(|(entry, code)| match code {
        "ProvisionedThroughputExceededException" => Ok(entry),
        _ => bail!("a record could not be put: {code}"),
    });
    throttled.collect()
}

/// The producer, every receipt awaited.
pub(super) fn produce(endpoint: &str, stream: &str, records: u64, packs: bool) -> Result<Wrote> {
    runtime()?.block_on(async {
        let settings = ProducerSettings::stream(stream).endpoint(endpoint).calls(CALLS).call_records(CALL_RECORDS);
        let settings = if packs { settings.aggregate(Aggregation::default()) } else { settings };
        let producer = Producer::open(settings).await?;
        let started = Instant::now();
        let (told, mut receipts) = tokio::sync::mpsc::unbounded_channel::<Vec<Receipt>>();
        let waiting = tokio::spawn(async move {
            let mut put = 0_u64;
            while let Some(receipts) = receipts.recv().await {
                for receipt in receipts {
                    receipt.await?;
                    put = put.saturating_add(1);
                }
            }
            Ok::<u64, shardflow::Error>(put)
        });
        let mut numbers = (0..records).peekable();
        while numbers.peek().is_some() {
            let mut receipts = Vec::with_capacity(CALL_RECORDS);
            for number in numbers.by_ref().take(CALL_RECORDS) {
                let (key, data) = record(number);
                receipts.push(producer.put(Record::new(key, data)).await);
            }
            let _ = told.send(receipts);
        }
        drop(told);
        producer.flush().await?;
        let put = waiting.await.context("a task died")??;
        Ok(Wrote { records: put, seconds: started.elapsed().as_secs_f64() })
    })
}

/// Measures both, each in turns with its limit, and each run on a stream of its own.
pub(super) fn measure(programs: &Programs, scratch: &Path, runs: usize, quick: bool) -> Result<Vec<Entry>> {
    let share = if quick { 10 } else { 1 };
    let (records, packed, limited) = (RECORDS / share, PACKED_RECORDS / share, LIMITED_RECORDS / share);
    let kinds = [
        (Kind::PutRecords, records, false),
        (Kind::Producer, records, false),
        (Kind::PutRecords, limited, true),
        (Kind::ProducerPacking, packed, true),
    ];
    let runtime = Runtime::new().context("could not start tokio")?;
    let mut usages: [Vec<Usage>; 4] = Default::default();
    for run in 1..=runs {
        for ((kind, records, is_limited), usages) in kinds.into_iter().zip(&mut usages) {
            let limits = if is_limited { ", with the service's limits" } else { "" };
            eprintln!("run {run} of {runs}: {}, {SHARDS} shards{limits}", kind.name());
            // A server of its own too: it holds all records in memory.
            let server =
                async { if is_limited { Embedded::start_with_limits().await } else { Embedded::start().await } };
            let server = runtime.block_on(server)?;
            runtime.block_on(Stream::create(server.client(), "produced", SHARDS))?;
            usages.push(once(programs, scratch, kind, server.endpoint(), "produced", records)?);
            let found = runtime.block_on(count(&server.client()))?;
            anyhow::ensure!(found == records, "{} wrote {found} records, and not {records}", kind.name());
        }
    }
    let [bare, plain, bare_limited, packing] = &usages;
    let calls = format!("with {CALLS} calls at a time; {SHARDS} shards, {KEYS} keys, records of {RECORD_BYTES} bytes,");
    Ok(vec![
        Entry::Speed(Speed {
            id: "producer".to_owned(),
            group: Group::Sinks,
            title: "Kinesis producer, a record each".to_owned(),
            ran: format!(
                "Producer with a receipt for each record, and PutRecords of {CALL_RECORDS} records with the SDK alone, into an \
                 embedded server on the same two cores. Each {calls}"
            ),
            records,
            ours: Measured::of("shardflow", plain, records),
            limits: vec![Measured::of(BARE_PUT, bare, records)],
        }),
        Entry::Speed(Speed {
            id: "producer-packing".to_owned(),
            group: Group::Sinks,
            title: "Kinesis producer, packing, within the service's limits".to_owned(),
            ran: format!(
                "Producer that packs, with a receipt for each record, and PutRecords of {limited} records with the SDK alone, into \
                 an embedded server that takes 1,000 records or 1 MiB a second and shard. Each {calls}"
            ),
            records: packed,
            ours: Measured::of("shardflow", packing, packed),
            limits: vec![Measured::of(BARE_PUT, bare_limited, limited)],
        }),
    ])
}

/// The user records in the stream.
async fn count(client: &Client) -> Result<u64> {
    let shards = client.list_shards().stream_name("produced").send().await.context("could not list the shards")?;
    let mut count = 0_u64;
    for shard in shards.shards() {
        let call = client.get_shard_iterator().stream_name("produced").shard_id(shard.shard_id());
        let answer = call.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await;
        let mut iterator = answer.context("could not get an iterator")?.shard_iterator;
        while let Some(next) = iterator.take() {
            let answer = client.get_records().shard_iterator(next).send().await.context("could not get records")?;
            for record in answer.records() {
                let packed = kpl::open(record.data.as_ref()).map_or(1, |aggregate| aggregate.records.len());
                count = count.saturating_add(packed as u64);
            }
            let is_end = answer.records().is_empty() && answer.millis_behind_latest().unwrap_or(0) == 0;
            iterator = answer.next_shard_iterator.filter(|_| !is_end);
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_their_size_and_number() {
        let (key, data) = record(KEYS + 7);
        assert_eq!((key.as_str(), data.len()), ("key-7", RECORD_BYTES));
        assert_eq!(data[..8], (KEYS + 7).to_be_bytes());
    }

    #[test]
    fn programs_are_called_as_the_command_knows_them() {
        assert_eq!(Kind::ProducerPacking.name(), "producer-packing");
    }
}
