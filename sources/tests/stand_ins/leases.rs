//! Jobs that live with a lease table of the Kinesis Client Library, in a real DynamoDB stand-in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{Record, ShardIteratorType};
use jiff::Timestamp;
use shardflow::testing::Collected;
use shardflow_sources::kcl::{Leases, TakeOver};
use shardflow_sources::kpl::{UserRecord, aggregate};
use shardflow_sources::{Kinesis, Start};

use crate::job::{Numbered, assert_exact, put, records, start};
use crate::reshards::{split_all, split_first};
use shardflow_stand_ins::fault_proxy::{Fault, FaultProxy, Plan, Request};
use shardflow_stand_ins::kinesis_local::KinesisLocal;
use shardflow_stand_ins::ministack::Ministack;
use shardflow_stand_ins::sdk::sdk_config;
use shardflow_stand_ins::servers;
use shardflow_stand_ins::stand::Stand;

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
        Self::with(Stand::embedded(2).await).await
    }

    async fn with(stand: Stand) -> Option<Self> {
        let server = Ministack::start().await?;
        let table = Client::new(&sdk_config(&server.endpoint(), None));
        Some(Self { stand, table, server })
    }

    fn leases(&self) -> Leases {
        Self::leases_at(&self.server.endpoint())
    }

    fn leases_at(endpoint: &str) -> Leases {
        let leases = Leases::table(TABLE).sdk_config(sdk_config(endpoint, None));
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

    /// The records of a shard.
    async fn records(&self, shard: &str) -> Vec<Record> {
        let client = self.stand.client();
        let call = client.get_shard_iterator().stream_name("usage").shard_id(shard);
        let iterator = call.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
        let answer = client.get_records().set_shard_iterator(iterator.shard_iterator).send().await.unwrap();
        answer.records.clone()
    }

    /// The sequence numbers of a shard.
    async fn sequences(&self, shard: &str) -> Vec<String> {
        self.records(shard).await.iter().map(|record| record.sequence_number().to_owned()).collect()
    }

    /// The table as a fleet makes it, with nothing in it.
    async fn make_table(&self) {
        let name = AttributeDefinition::builder().attribute_name("leaseKey").attribute_type(ScalarAttributeType::S);
        let key = KeySchemaElement::builder().attribute_name("leaseKey").key_type(KeyType::Hash).build().unwrap();
        let table = self.table.create_table().table_name(TABLE).billing_mode(BillingMode::PayPerRequest);
        table.attribute_definitions(name.build().unwrap()).key_schema(key).send().await.unwrap();
    }

    /// A row as a worker of the library leaves it that has died.
    async fn leave_row(&self, shard: &str, checkpoint: &str, sub: &str) {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let number = |number: &str| AttributeValue::N(number.to_owned());
        let row = self.table.put_item().table_name(TABLE).item("leaseKey", text(shard));
        let row = row.item("leaseOwner", text("worker-1")).item("leaseCounter", number("42"));
        let row = row.item("checkpoint", text(checkpoint)).item("checkpointSubSequenceNumber", number(sub));
        row.item("ownerSwitchesSinceCheckpoint", number("0")).send().await.unwrap();
    }

    /// What boto3 makes of the rows: how many of them have each attribute. It fails at one of another type than the
    /// library's.
    async fn checked_by_boto3(&self) -> Option<BTreeMap<String, u64>> {
        let python = servers::installed("boto3", "python/bin/python")?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/lease_types.py");
        let mut command = tokio::process::Command::new(python);
        let checked = command.args([script, &self.server.endpoint(), TABLE]).output().await.unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        Some(serde_json::from_slice(&checked.stdout).unwrap())
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
    world.make_table().await;
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
        world.leave_row(shard, &sequences[done - 1], sub).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_checkpoint_begins_where_it_says() {
    const KEYS: u64 = 24;
    // The embedded stand-in reads a shard from its beginning where nothing has arrived since the time asked for.
    let Some(kinesis) = KinesisLocal::start().await else { return };
    let Some(world) = World::with(Stand::at(kinesis.plain_endpoint(), 3).await).await else { return };
    put(world.stand.client(), &records(KEYS, 0..3)).await;
    split_first(world.stand.client()).await;
    // A millisecond in which nothing arrives.
    let time = Timestamp::from_millisecond(Timestamp::now().as_millisecond() + 1).unwrap();
    while Timestamp::now() <= time + jiff::SignedDuration::from_millis(1) {
        tokio::task::yield_now().await;
    }
    put(world.stand.client(), &records(KEYS, 3..6)).await;
    world.make_table().await;
    let shard = |number: u32| format!("shardId-{number:012}");
    let checkpoints = ["SHARD_END", "LATEST", "AT_TIMESTAMP", "TRIM_HORIZON", "TRIM_HORIZON"];
    for (number, checkpoint) in (0..).zip(checkpoints) {
        world.leave_row(&shard(number), checkpoint, "0").await;
    }
    let first_of = [u64::MAX, 6, 3, 0, 0];
    let expected = || async {
        let mut expected = BTreeSet::new();
        for (number, first) in (0..).zip(first_of) {
            let records = world.records(&shard(number)).await;
            let records = records.iter().map(|record| serde_json::from_slice(record.data().as_ref()).unwrap());
            let found: Vec<Numbered> = records.collect();
            assert!(!found.is_empty(), "no record is in shard {number}");
            expected.extend(found.into_iter().filter(|record| record.1 >= first));
        }
        expected
    };
    let state = tempfile::tempdir().unwrap();
    let taking = || world.source(world.leases().take_over(TakeOver::WhenIdle));
    let refused = start(taking(), state.path(), &Collected::new()).outcome().await.unwrap_err().to_string();
    assert!(refused.contains("begins it at a time") && refused.contains(&shard(2)), "{refused}");
    let (state, seen) = (tempfile::tempdir().unwrap(), Collected::<Numbered>::new());
    let running = start(taking().start(Start::At(time)), state.path(), &seen);
    running.until(expected().await.len()).await;
    put(world.stand.client(), &records(KEYS, 6..8)).await;
    let expected = expected().await;
    running.until(expected.len()).await;
    running.stop().await;
    let values = seen.values();
    assert_eq!(values.len(), expected.len(), "no record comes twice");
    assert_eq!(values.into_iter().collect::<BTreeSet<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_finds_every_attribute_of_the_type_that_the_library_writes() {
    let Some(world) = World::start().await else { return };
    let (state, seen) = (tempfile::tempdir().unwrap(), Collected::<Numbered>::new());
    put(world.stand.client(), &records(KEYS, 0..5)).await;
    let running = start(world.source(world.leases()), state.path(), &seen);
    running.until((5 * KEYS) as usize).await;
    // Nothing comes to the children, so that the rows of their parents stay.
    split_all(world.stand.client()).await;
    let is_ended = |row: &Row| row["checkpoint"].as_s().unwrap() == "SHARD_END";
    let reshard =
        |rows: &BTreeMap<String, Row>| rows.len() == 6 && rows.values().filter(|row| is_ended(row)).count() == 2;
    world.until("both shards are at their end and all children have rows", reshard).await;
    let Some(found) = world.checked_by_boto3().await else { return };
    let expected = [
        ("checkpoint", 6),
        ("checkpointSubSequenceNumber", 6),
        ("childShardIds", 2),
        ("endingHashKey", 6),
        ("leaseCounter", 6),
        ("leaseKey", 6),
        ("ownerSwitchesSinceCheckpoint", 6),
        ("parentShardId", 4),
        ("startingHashKey", 6),
    ];
    for (attribute, rows) in expected {
        assert_eq!(found.get(attribute), Some(&rows), "{attribute}: {found:?}");
    }
    assert!(found.contains_key("leaseOwner"), "{found:?}");
    running.stop().await;
    let given_up = world.checked_by_boto3().await.unwrap();
    assert!(!given_up.contains_key("leaseOwner"), "{given_up:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_a_third_of_all_calls_fail_to_reach_is_kept_all_the_same() {
    const STEPS: u64 = 8;
    let Some(world) = World::start().await else { return };
    let proxy = FaultProxy::start(&world.server.endpoint()).await;
    let rates = [
        (Fault::Throttle, 0.04),
        (Fault::Error500, 0.04),
        (Fault::Error503, 0.04),
        (Fault::ResetBefore, 0.04),
        (Fault::ResetAfter, 0.06),
        (Fault::ResetMidBody, 0.06),
        (Fault::Truncated, 0.04),
        (Fault::SlowBytes, 0.02),
    ];
    let random = Plan::random(Plan::seed(), &rates);
    // The first call of each kind does its work, and loses its answer.
    proxy.inject(move |request: &Request| if request.nth == 1 { Fault::ResetAfter } else { random.fault(request) });
    let leases = || World::leases_at(proxy.endpoint()).failover_time(2 * FAILOVER);
    let (state, seen) = (tempfile::tempdir().unwrap(), Collected::<Numbered>::new());
    let mut running = start(world.source(leases()), state.path(), &seen);
    for step in 0..STEPS {
        put(world.stand.client(), &records(KEYS, step * 5..(step + 1) * 5)).await;
        running.until(((step + 1) * 5 * KEYS) as usize).await;
        if step == STEPS / 2 {
            running.stop().await;
            running = start(world.source(leases()), state.path(), &seen);
        }
    }
    let mut last = BTreeMap::new();
    for shard in ["shardId-000000000000", "shardId-000000000001"] {
        last.insert(shard.to_owned(), world.sequences(shard).await.last().unwrap().clone());
    }
    let is_mirrored = |rows: &BTreeMap<String, Row>| {
        last.iter().all(|(shard, last)| rows[shard]["checkpoint"].as_s().unwrap() == last)
    };
    world.until("the last records are mirrored", is_mirrored).await;
    running.stop().await;
    assert!(is_mirrored(&world.rows().await));
    assert_exact(&seen, KEYS, STEPS * 5);
    let seen = proxy.seen();
    assert!(seen.faults_of("UpdateItem") >= 2 && seen.faults_of("Scan") >= 1, "too little broke: {seen}");
    assert!(seen.faults() >= 6, "too little broke: {seen}");
}
