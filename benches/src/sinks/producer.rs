//! The producer library beside a bare loop of PutRecords: as many calls under way, of as many records.
//!
//! The embedded server takes whatever comes, on the same two cores; what is measured is what the clients cost. Packed records
//! are the same for the reader, and far fewer for the service.

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
/// Partition keys.
const KEYS: u64 = 10_000;
const RECORDS: u64 = 300_000;

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

/// The limit: as many records a call as it takes, as many calls at a time.
pub(super) fn put_records(endpoint: &str, stream: &str, records: u64) -> Result<Wrote> {
    runtime()?.block_on(async {
        let client = client(endpoint);
        client.describe_stream_summary().stream_name(stream).send().await.context("could not reach the stream")?;
        let started = Instant::now();
        let mut calls = JoinSet::new();
        for begin in (0..records).step_by(CALL_RECORDS) {
            if calls.len() == CALLS {
                calls.join_next().await.context("no call is under way")?.context("a task died")??;
            }
            let end = records.min(begin.saturating_add(CALL_RECORDS as u64));
            let entries = (begin..end).map(|number| {
                let (key, data) = record(number);
                PutRecordsRequestEntry::builder().partition_key(key).data(Blob::new(data)).build()
            });
            let entries = entries.collect::<Result<Vec<_>, _>>().context("could not make a record")?;
            calls.spawn(call(client.clone(), stream.to_owned(), entries));
        }
        while let Some(done) = calls.join_next().await {
            done.context("a task died")??;
        }
        Ok(Wrote { records, seconds: started.elapsed().as_secs_f64() })
    })
}

async fn call(client: Client, stream: String, entries: Vec<PutRecordsRequestEntry>) -> Result<()> {
    let answer = client.put_records().stream_name(stream).set_records(Some(entries)).send().await;
    match answer.context("could not put records")?.failed_record_count() {
        None | Some(0) => Ok(()),
        Some(failed) => bail!("{failed} records could not be put"),
    }
}

/// The producer, every receipt awaited.
pub(super) fn produce(endpoint: &str, stream: &str, records: u64, packs: bool) -> Result<Wrote> {
    runtime()?.block_on(async {
        let settings = ProducerSettings::stream(stream).endpoint(endpoint).calls(CALLS).call_records(CALL_RECORDS);
        let settings = if packs { settings.aggregate(Aggregation::default()) } else { settings };
        let producer = Producer::open(settings).await?;
        let started = Instant::now();
        let (told, mut receipts) = tokio::sync::mpsc::unbounded_channel::<Receipt>();
        let waiting = tokio::spawn(async move {
            let mut put = 0_u64;
            while let Some(receipt) = receipts.recv().await {
                receipt.await?;
                put = put.saturating_add(1);
            }
            Ok::<u64, shardflow::Error>(put)
        });
        for number in 0..records {
            let (key, data) = record(number);
            let _ = told.send(producer.put(Record::new(key, data)).await);
        }
        drop(told);
        producer.flush().await?;
        let put = waiting.await.context("a task died")??;
        Ok(Wrote { records: put, seconds: started.elapsed().as_secs_f64() })
    })
}

/// Measures the three, in turns, each run on a stream of its own.
pub(super) fn measure(programs: &Programs, scratch: &Path, runs: usize, quick: bool) -> Result<Vec<Entry>> {
    let records = if quick { RECORDS / 10 } else { RECORDS };
    let runtime = Runtime::new().context("could not start tokio")?;
    let mut usages: [Vec<Usage>; 3] = Default::default();
    for run in 1..=runs {
        for (kind, usages) in [Kind::PutRecords, Kind::Producer, Kind::ProducerPacking].into_iter().zip(&mut usages) {
            eprintln!("run {run} of {runs}: {}, {SHARDS} shards", kind.name());
            // A server of its own too: it holds all records in memory.
            let server = runtime.block_on(Embedded::start())?;
            runtime.block_on(Stream::create(server.client(), "produced", SHARDS))?;
            usages.push(once(programs, scratch, kind, server.endpoint(), "produced", records)?);
            let found = runtime.block_on(count(&server.client()))?;
            anyhow::ensure!(found == records, "{} wrote {found} records, and not {records}", kind.name());
        }
    }
    let [bare, plain, packing] = &usages;
    let entry = |id: &str, title: &str, ran: &str, ours: &[Usage]| {
        Entry::Speed(Speed {
            id: id.to_owned(),
            group: Group::Sinks,
            title: title.to_owned(),
            ran: format!(
                "{ran}, and PutRecords of {CALL_RECORDS} records with the SDK alone, each with {CALLS} calls at a time, into an \
                 embedded server on the same two cores. {SHARDS} shards, {KEYS} keys, records of {RECORD_BYTES} bytes,"
            ),
            records,
            ours: Measured::of("shardflow", ours, records),
            limits: vec![Measured::of(BARE_PUT, bare, records)],
        })
    };
    Ok(vec![
        entry("producer", "Kinesis producer, a record each", "Producer with a receipt for each record", plain),
        entry(
            "producer-packing",
            "Kinesis producer, packing",
            "Producer that packs, with a receipt for each record",
            packing,
        ),
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
