//! The demo's producer against the embedded Kinesis: what it says it has put, and nothing else, is in the stream, in
//! order, across a split and a merge.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_kinesis::types::ShardIteratorType;
use shardflow_examples::metering::demo::embedded::{Embedded, Stream};
use shardflow_examples::metering::demo::producer::{MARKER, Producer, SharedLedger, put_markers};
use shardflow_examples::metering::types::{LAST_MILLISECOND, Total, Usage};
use shardflow_examples::metering::workload::{Spec, Workload};

const RECORDS: u64 = 6_000;
const RATE: u64 = 3_000;
const WINDOW: u64 = 500;

fn spec() -> Spec {
    let (span, disorder) = (2_000, 300);
    Spec { span, disorder, duplicates: 0.1, late: 0.05, bad: 0.05, behind: 5_000..=9_000, ..Spec::new(RECORDS, 42) }
}

/// Everything in the stream, shard by shard, each in order.
async fn read_all(stream: &Stream) -> BTreeMap<String, Vec<Vec<u8>>> {
    let client = stream.client();
    let listed = client.list_shards().stream_name(stream.name()).send().await.unwrap();
    let mut shards = BTreeMap::new();
    for shard in listed.shards() {
        let call = client.get_shard_iterator().stream_name(stream.name()).shard_id(shard.shard_id());
        let call = call.shard_iterator_type(ShardIteratorType::TrimHorizon);
        let mut iterator = call.send().await.unwrap().shard_iterator;
        let mut records = Vec::new();
        while let Some(next) = iterator {
            let answer = client.get_records().shard_iterator(next).send().await.unwrap();
            iterator = answer.next_shard_iterator.filter(|_| !answer.records.is_empty());
            records.extend(answer.records.into_iter().map(|record| record.data.into_inner()));
        }
        shards.insert(shard.shard_id().to_owned(), records);
    }
    shards
}

fn decode(raw: &[u8]) -> Option<Usage> {
    serde_json::from_slice::<Usage>(raw).ok().filter(|usage| usage.at <= LAST_MILLISECOND)
}

/// Puts the workload while a shard is split and two others are merged.
async fn produce(stream: &Stream) -> SharedLedger {
    let ledger = SharedLedger::new();
    let workload = Workload::new(spec()).unwrap();
    let producer = Producer::new(stream.clone(), workload, ledger.clone(), 1);
    let producer = tokio::spawn(producer.run(RATE));
    let reached = |count: u64| {
        let ledger = ledger.clone();
        async move {
            while ledger.open().sent() < count {
                tokio::task::yield_now().await;
            }
        }
    };
    reached(RECORDS / 4).await;
    let shards = stream.open_shards().await.unwrap();
    stream.split(&shards[0]).await.unwrap();
    reached(RECORDS / 2).await;
    let shards = stream.open_shards().await.unwrap();
    assert_eq!(shards.len(), 5);
    stream.merge(&shards[3], &shards[4]).await.unwrap();
    producer.await.unwrap().unwrap();
    ledger
}

async fn scenario() {
    let server = Embedded::start().await.unwrap();
    let stream = Stream::create(server.client(), "usage", 4).await.unwrap();
    let ledger = produce(&stream).await;
    let open = stream.open_shards().await.unwrap();
    assert_eq!(open.len(), 4);
    assert_eq!(put_markers(&stream, 4_000_000_000_000).await.unwrap(), 4);

    let shards = read_all(&stream).await;
    assert_eq!(shards.len(), 7);
    let mut seen = BTreeSet::new();
    let mut totals: BTreeMap<(String, String, u64), Total> = BTreeMap::new();
    let (mut copies, mut bad, mut markers) = (0, BTreeMap::new(), BTreeSet::new());
    for (shard, records) in &shards {
        for raw in records {
            match decode(raw) {
                None => *bad.entry(String::from_utf8_lossy(raw).into_owned()).or_insert(0_u64) += 1,
                Some(usage) if usage.account == MARKER => assert!(markers.insert(shard.clone()), "two in {shard}"),
                Some(usage) if !seen.insert(usage.id.clone()) => copies += 1,
                Some(usage) => {
                    let key = (usage.account.to_string(), usage.meter.to_string(), usage.at / WINDOW * WINDOW);
                    totals.entry(key).or_default().add(&usage);
                }
            }
        }
    }
    let ledger = ledger.open();
    assert_eq!((ledger.sent(), ledger.unique(), ledger.copies()), (RECORDS, seen.len() as u64, copies));
    assert!(ledger.made_late() > 100 && copies > 300 && bad.len() > 100);
    assert_eq!(ledger.bad().iter().map(|(raw, times)| (raw.clone(), times.certain)).collect::<BTreeMap<_, _>>(), bad);
    assert_eq!(markers, open.into_iter().map(|shard| shard.id).collect());
    let charges: Vec<Total> = ledger.charges(WINDOW, |_| false).into_values().collect();
    let (sum, windows) = (charges.iter().map(|total| total.qty).sum::<u128>(), charges.len());
    assert_eq!((totals.values().map(|total| total.qty).sum::<u128>(), totals.len()), (sum, windows));
    ordinary_records_stay_within_the_disorder(&shards);
}

/// In a shard no ordinary record lies further behind the latest before it than the disorder, or a lag that allows for
/// it would make them late.
fn ordinary_records_stay_within_the_disorder(shards: &BTreeMap<String, Vec<Vec<u8>>>) {
    let spec = spec();
    for records in shards.values() {
        let mut latest = 0;
        for usage in records.iter().filter_map(|raw| decode(raw)).filter(|usage| usage.account != MARKER) {
            let behind = latest.max(usage.at) - usage.at;
            assert!(behind <= spec.disorder || behind + spec.disorder >= *spec.behind.start(), "{behind} ms behind");
            latest = latest.max(usage.at);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ledger_and_stream_agree_across_a_split_and_a_merge() {
    tokio::time::timeout(Duration::from_secs(120), scenario()).await.expect("the scenario ends within two minutes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttled_records_are_put_again_until_all_are_taken() {
    let server = Embedded::start_with_limits().await.unwrap();
    let stream = Stream::create(server.client(), "usage", 1).await.unwrap();
    let ledger = SharedLedger::new();
    let workload = Workload::new(Spec::new(2_500, 3)).unwrap();
    let producer = Producer::new(stream.clone(), workload, ledger.clone(), 1).run(50_000);
    tokio::time::timeout(Duration::from_secs(60), producer).await.expect("2,500 records take 3 s").unwrap();
    let put: usize = read_all(&stream).await.values().map(Vec::len).sum();
    assert_eq!((ledger.open().sent(), put), (2_500, 2_500));
    assert!(ledger.open().retried() > 0);
}
