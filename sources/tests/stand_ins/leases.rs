//! Jobs that live with a lease table of the Kinesis Client Library, in a real DynamoDB stand-in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::ShardIteratorType;
use shardflow::testing::Collected;
use shardflow_sources::Kinesis;
use shardflow_sources::kcl::{Leases, TakeOver};
use shardflow_sources::kpl::{UserRecord, aggregate};

use crate::job::{Numbered, assert_exact, put, records, start};
use crate::support::ministack::Ministack;
use crate::support::sdk::sdk_config;
use crate::support::stand::Stand;

const KEYS: u64 = 8;
const TABLE: &str = "usage-app";
const FAILOVER: Duration = Duration::from_secs(2);

type Row = BTreeMap<String, AttributeValue>;

struct World {
    stand: Stand,
    server: Ministack,
    table: Client,
}

impl World {
    async fn start() -> Option<Self> {
        let server = Ministack::start().await?;
        let table = Client::new(&sdk_config(&server.endpoint(), None));
        Some(Self { stand: Stand::embedded(2).await, table, server })
    }

    fn leases(&self) -> Leases {
        let leases = Leases::table(TABLE).sdk_config(sdk_config(&self.server.endpoint(), None));
        leases.failover_time(FAILOVER).mirror_interval(Duration::from_millis(100))
    }

    fn source(&self, leases: Leases) -> Kinesis {
        Kinesis::stream("usage").sdk_config(sdk_config(self.stand.endpoint(), None)).leases(leases)
    }

    /// The rows by their lease keys.
    async fn rows(&self) -> BTreeMap<String, Row> {
        let answer = self.table.scan().table_name(TABLE).consistent_read(true).send().await.unwrap();
        let rows = answer.items().iter().map(|row| row.clone().into_iter().collect::<Row>());
        rows.map(|row| (row["leaseKey"].as_s().unwrap().clone(), row)).collect()
    }

    /// Waits until the rows are as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&BTreeMap<String, Row>) -> bool) -> BTreeMap<String, Row> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let rows = self.rows().await;
            if wanted(&rows) {
                return rows;
            }
            assert!(Instant::now() < deadline, "{what}: {rows:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The sequence numbers of a shard.
    async fn sequences(&self, shard: &str) -> Vec<String> {
        let client = self.stand.client();
        let call = client.get_shard_iterator().stream_name("usage").shard_id(shard);
        let iterator = call.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
        let answer = client.get_records().set_shard_iterator(iterator.shard_iterator).send().await.unwrap();
        answer.records().iter().map(|record| record.sequence_number().to_owned()).collect()
    }
}

fn is_at_a_record(row: &Row) -> bool {
    row["checkpoint"].as_s().unwrap().bytes().all(|byte| byte.is_ascii_digit())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_keeps_the_lease_table_and_hands_it_back() {
    let Some(world) = World::start().await else { return };
    let (state, seen) = (tempfile::tempdir().unwrap(), Collected::<Numbered>::new());
    put(world.stand.client(), &records(KEYS, 0..10)).await;
    let running = start(world.source(world.leases()), state.path(), &seen);
    running.until((10 * KEYS) as usize).await;
    let held =
        world.until("both shards are mirrored", |rows| rows.len() == 2 && rows.values().all(is_at_a_record)).await;
    for (shard, row) in &held {
        assert!(row["leaseOwner"].as_s().unwrap().starts_with("stand-ins/"), "{row:?}");
        assert_eq!(row["checkpoint"].as_s().unwrap(), world.sequences(shard).await.last().unwrap());
        assert_eq!(row["checkpointSubSequenceNumber"].as_n().unwrap(), "0");
        assert!(row["leaseCounter"].as_n().unwrap().parse::<u64>().unwrap() > 0);
        row["startingHashKey"].as_s().unwrap().parse::<u128>().unwrap();
    }
    running.stop().await;
    for row in world.rows().await.values() {
        assert!(!row.contains_key("leaseOwner"), "given up, so that a fleet goes on at once: {row:?}");
        assert!(is_at_a_record(row));
    }
    assert_exact(&seen, KEYS, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_copy_of_a_job_stops_the_first_before_it_commits_anything_itself() {
    let Some(world) = World::start().await else { return };
    let (first_state, first_seen) = (tempfile::tempdir().unwrap(), Collected::<Numbered>::new());
    put(world.stand.client(), &records(KEYS, 0..5)).await;
    let first = start(world.source(world.leases()), first_state.path(), &first_seen);
    first.until((5 * KEYS) as usize).await;
    let (second_state, second_seen) = (tempfile::tempdir().unwrap(), Collected::<Numbered>::new());
    let second = start(world.source(world.leases()), second_state.path(), &second_seen);
    let error = tokio::select! {
        outcome = first.outcome() => outcome.unwrap_err().to_string(),
        () = second.until(1) => panic!("the second commits while the first still runs"),
    };
    assert!(error.contains("was taken by \"stand-ins/"), "{error}");
    put(world.stand.client(), &records(KEYS, 5..10)).await;
    second.until((10 * KEYS) as usize).await;
    second.stop().await;
    assert_exact(&first_seen, KEYS, 5);
    assert_exact(&second_seen, KEYS, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_written_by_hand_is_taken_over_at_the_right_records() {
    let Some(world) = World::start().await else { return };
    put(world.stand.client(), &records(KEYS, 0..10)).await;
    let name =
        |name: &str, kind| AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().unwrap();
    let key = KeySchemaElement::builder().attribute_name("leaseKey").key_type(KeyType::Hash).build().unwrap();
    let table = world.table.create_table().table_name(TABLE).billing_mode(BillingMode::PayPerRequest);
    let table = table.attribute_definitions(name("leaseKey", ScalarAttributeType::S)).key_schema(key);
    table.send().await.unwrap();
    // An aggregate of five, of which a worker has processed three, at the end of the second shard.
    let user = |number: u64| UserRecord {
        partition_key: "whole".to_owned(),
        data: serde_json::to_vec(&("whole", number)).unwrap(),
        ..UserRecord::default()
    };
    let call = world.stand.client().put_record().stream_name("usage").partition_key("whole");
    let call =
        call.explicit_hash_key(u128::MAX.to_string()).data(Blob::new(aggregate(&(0..5).map(user).collect::<Vec<_>>())));
    call.send().await.unwrap();
    // As a worker leaves it that has read some of the first shard and all of the second so far, but for two in the aggregate.
    let mut left = 2;
    for (shard, done, sub) in [("shardId-000000000000", 7, "0"), ("shardId-000000000001", usize::MAX, "2")] {
        let sequences = world.sequences(shard).await;
        let done = done.min(sequences.len());
        left += sequences.len() - done;
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let number = |number: &str| AttributeValue::N(number.to_owned());
        let row = world.table.put_item().table_name(TABLE).item("leaseKey", text(shard));
        let row = row.item("leaseOwner", text("worker-1")).item("leaseCounter", number("42"));
        let row = row.item("checkpoint", text(&sequences[done - 1])).item("checkpointSubSequenceNumber", number(sub));
        row.item("ownerSwitchesSinceCheckpoint", number("0")).send().await.unwrap();
    }
    let state = tempfile::tempdir().unwrap();
    let refused = start(world.source(world.leases()), state.path(), &Collected::new()).outcome().await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("take over") && refused.contains("worker-1"), "{refused}");
    let (state, seen) = (tempfile::tempdir().unwrap(), Collected::<Numbered>::new());
    let running = start(world.source(world.leases().take_over(TakeOver::WhenIdle)), state.path(), &seen);
    running.until(left).await;
    put(world.stand.client(), &records(KEYS, 10..11)).await;
    running.until(left + KEYS as usize).await;
    running.stop().await;
    let values = seen.values();
    assert_eq!(values.len(), left + KEYS as usize, "nothing that the fleet has processed comes again");
    assert_eq!(values.iter().collect::<BTreeSet<_>>().len(), values.len());
    assert_eq!(values.iter().filter(|(_, number)| *number == 10).count() as u64, KEYS);
    let of_the_aggregate: Vec<u64> =
        values.iter().filter(|(key, _)| key == "whole").map(|(_, number)| *number).collect();
    assert_eq!(of_the_aggregate, [3, 4]);
}
