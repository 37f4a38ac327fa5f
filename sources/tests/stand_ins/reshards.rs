//! Resharding while a job reads: the order of each key is kept, nothing is lost or doubled, and no record turns late.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::{Shard, StreamStatus};
use shardflow::testing::Collected;
use shardflow_sources::{Kinesis, ReadMode};

use crate::exactly::{RATES, beside};
use crate::job::{Numbered, assert_exact, put, records, start};
use shardflow_stand_ins::fault_proxy::{End, Fault, FaultProxy, Plan, Request};
use shardflow_stand_ins::kinesis_local::KinesisLocal;
use shardflow_stand_ins::sdk::sdk_config;
use shardflow_stand_ins::stand::Stand;

const KEYS: u64 = 16;

/// Records of each key between two reshards.
const EACH: u64 = 12;

async fn settled(client: &Client) {
    loop {
        let answer = client.describe_stream_summary().stream_name("usage").send().await.unwrap();
        if *answer.stream_description_summary().unwrap().stream_status() == StreamStatus::Active {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The open shards in the order of their hash keys, each with its first and last.
async fn open_shards(client: &Client) -> Vec<(String, u128, u128)> {
    let answer = client.list_shards().stream_name("usage").send().await.unwrap();
    let is_open = |shard: &&Shard| shard.sequence_number_range().unwrap().ending_sequence_number().is_none();
    let range = |shard: &Shard| {
        let range = shard.hash_key_range().unwrap();
        let key = |text: &str| text.parse::<u128>().unwrap();
        (shard.shard_id().to_owned(), key(range.starting_hash_key()), key(range.ending_hash_key()))
    };
    let mut open: Vec<_> = answer.shards().iter().filter(is_open).map(range).collect();
    open.sort_by_key(|shard| shard.1);
    open
}

/// Splits every open shard in the middle.
pub(crate) async fn split_all(client: &Client) {
    for shard in open_shards(client).await {
        split(client, shard).await;
    }
}

/// Splits the open shard with the lowest hash keys.
pub(crate) async fn split_first(client: &Client) {
    split(client, open_shards(client).await.remove(0)).await;
}

async fn split(client: &Client, (shard, first, last): (String, u128, u128)) {
    let middle = first + (last - first) / 2 + 1;
    let call = client.split_shard().stream_name("usage").shard_to_split(shard);
    call.new_starting_hash_key(middle.to_string()).send().await.unwrap();
    settled(client).await;
}

/// Merges the open shards in pairs of neighbours.
async fn merge_all(client: &Client) {
    let open = open_shards(client).await;
    for pair in open.chunks(2).filter(|pair| pair.len() == 2) {
        let [left, right] = pair else { continue };
        let call = client.merge_shards().stream_name("usage").shard_to_merge(&left.0);
        call.adjacent_shard_to_merge(&right.0).send().await.unwrap();
        settled(client).await;
    }
}

/// Splits, merges and merges the merged while records come; the job is stopped and goes on between two of them.
async fn keeps_order(source: Kinesis, client: &Client) {
    let (state, seen) = (tempfile::tempdir().unwrap(), Collected::<Numbered>::new());
    let mut running = start(source.clone(), state.path(), &seen);
    put(client, &records(KEYS, 0..EACH)).await;
    split_all(client).await;
    // Not waited for: the job is behind, and meets both generations at once.
    put(client, &records(KEYS, EACH..2 * EACH)).await;
    merge_all(client).await;
    put(client, &records(KEYS, 2 * EACH..3 * EACH)).await;
    running.until((2 * EACH * KEYS) as usize).await;
    running.stop().await;
    merge_all(client).await;
    put(client, &records(KEYS, 3 * EACH..4 * EACH)).await;
    running = start(source, state.path(), &seen);
    split_all(client).await;
    put(client, &records(KEYS, 4 * EACH..5 * EACH)).await;
    running.until((5 * EACH * KEYS) as usize).await;
    running.stop().await;
    assert_exact(&seen, KEYS, 5 * EACH);
}

#[tokio::test(flavor = "multi_thread")]
async fn reshards_under_load_keep_the_order_of_each_key() {
    let stand = Stand::embedded(2).await;
    let source = Kinesis::stream("usage").sdk_config(sdk_config(stand.endpoint(), None));
    keeps_order(source.discovery_interval(Duration::from_millis(300)), stand.client()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reshards_under_load_keep_the_order_of_each_key_with_fan_out() {
    let stand = Stand::embedded(2).await;
    let source = Kinesis::stream("usage").sdk_config(sdk_config(stand.endpoint(), None));
    let source = source.read_mode(ReadMode::FanOut { consumer: "ours".to_owned() });
    keeps_order(source.discovery_interval(Duration::from_millis(300)), stand.client()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reshards_under_load_keep_the_order_of_each_key_on_a_second_emulator() {
    let Some(server) = KinesisLocal::start().await else { return };
    let stand = Stand::at(server.plain_endpoint(), 2).await;
    let source = Kinesis::stream("usage").sdk_config(sdk_config(server.plain_endpoint(), None));
    keeps_order(source.discovery_interval(Duration::from_millis(300)), stand.client()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reshards_while_calls_break_in_every_way_keep_the_order_of_each_key() {
    let stand = Stand::embedded(2).await;
    let proxy = FaultProxy::start(stand.endpoint()).await;
    let records = Plan::random(Plan::seed(), &RATES).only(&["GetRecords"]);
    proxy.inject(move |request: &Request| match records.fault(request) {
        Fault::Pass => beside(request),
        fault => fault,
    });
    let source = Kinesis::stream("usage").sdk_config(sdk_config(proxy.endpoint(), None));
    keeps_order(source.discovery_interval(Duration::from_millis(300)), stand.client()).await;
    let seen = proxy.seen();
    for operation in ["ListShards", "GetShardIterator", "GetRecords"] {
        assert!(seen.faults_of(operation) >= 5, "too little broke to prove anything: {seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reshards_while_subscriptions_break_keep_the_order_of_each_key() {
    let stand = Stand::embedded(2).await;
    let proxy = FaultProxy::start(stand.endpoint()).await;
    proxy.inject(|request: &Request| {
        if request.operation != "SubscribeToShard" {
            return beside(request);
        }
        // Before anything is said: a shard that has ended says all in its first event.
        let early = |how| Fault::EndStreamEarly { after: 0, how };
        let every_second = request.shard.as_ref().is_some_and(|shard| shard.ends_with(['0', '2', '4', '6', '8']));
        match request.nth_of_shard {
            1 if every_second => early(End::Reset),
            2 if every_second => Fault::Throttle,
            3 if every_second => early(End::MidFrame),
            4 if every_second => early(End::Exception("InternalFailureException")),
            // A shard ends as it does on AWS.
            _ => Fault::NullAtEnd,
        }
    });
    let source = Kinesis::stream("usage").sdk_config(sdk_config(proxy.endpoint(), None));
    let source = source.read_mode(ReadMode::FanOut { consumer: "ours".to_owned() });
    keeps_order(source.discovery_interval(Duration::from_millis(300)), stand.client()).await;
    let seen = proxy.seen();
    assert!(seen.of("SubscribeToShard", Fault::NullAtEnd) >= 10 && seen.calls("GetRecords") == 0, "{seen}");
    assert!(seen.faults_of("SubscribeToShard") >= 20 && seen.faults_of("ListShards") >= 5, "{seen}");
}
