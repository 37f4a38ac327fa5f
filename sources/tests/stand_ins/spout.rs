//! Jobs that live with the nodes of a Kinesis spout, in a real ZooKeeper.

use std::time::{Duration, Instant};

use aws_sdk_kinesis::types::ShardIteratorType;
use shardflow::testing::Collected;
use shardflow_sources::Kinesis;
use shardflow_sources::zookeeper::{SpoutNodes, TakeOver};
use zookeeper_client::{Acls, Client, CreateMode};

use crate::job::{Numbered, put, records, start};
use shardflow_stand_ins::sdk::sdk_config;
use shardflow_stand_ins::stand::Stand;
use shardflow_stand_ins::zookeeper::ZooKeeper;

const KEYS: u64 = 8;
const ROOT: &str = "/kinesis_storm_spout/metering/usage";

/// The sequence numbers of a shard.
async fn sequences(stand: &Stand, shard: &str) -> Vec<String> {
    let call = stand.client().get_shard_iterator().stream_name("usage").shard_id(shard);
    let iterator = call.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
    let answer = stand.client().get_records().set_shard_iterator(iterator.shard_iterator).send().await.unwrap();
    answer.records().iter().map(|record| record.sequence_number().to_owned()).collect()
}

/// Writes a node, and those above it.
async fn write(nodes: &Client, path: &str, data: &str) {
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    nodes.mkdir(path.rsplit_once('/').unwrap().0, &options).await.unwrap();
    nodes.create(path, data.as_bytes(), &options).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spouts_nodes_are_taken_over_at_the_right_records_and_kept_up_to_date() {
    let Some(server) = ZooKeeper::start() else { return };
    let nodes = Client::connect(&server.address()).await.unwrap();
    let stand = Stand::embedded(2).await;
    put(stand.client(), &records(KEYS, 0..10)).await;
    let shards = ["shardId-000000000000", "shardId-000000000001"];
    write(&nodes, &format!("{ROOT}/shardList"), &format!(r#"{{"shardList":["{}","{}"]}}"#, shards[0], shards[1])).await;
    let mut left = 0;
    for (shard, done) in shards.iter().zip([7, 9]) {
        let sequences = sequences(&stand, shard).await;
        left += sequences.len() - done;
        let state = format!(r#"{{"checkpoint":"{}"}}"#, sequences[done - 1]);
        write(&nodes, &format!("{ROOT}/{shard}/state"), &state).await;
    }
    let spout = SpoutNodes::of_topology("metering").connect(server.address()).take_over(TakeOver::WhenIdle);
    let spout = spout.watch_time(Duration::from_millis(500)).mirror_interval(Duration::from_millis(50));
    let source = Kinesis::stream("usage").sdk_config(sdk_config(stand.endpoint(), None)).spout(spout);
    let (state, seen) = (tempfile::tempdir().unwrap(), Collected::<Numbered>::new());
    let running = start(source, state.path(), &seen);
    running.until(left).await;
    put(stand.client(), &records(KEYS, 10..11)).await;
    running.until(left + KEYS as usize).await;
    running.stop().await;
    assert_eq!(seen.values().len(), left + KEYS as usize, "nothing that the spout has processed comes again");
    let deadline = Instant::now() + Duration::from_secs(10);
    for shard in shards {
        let expected = format!(r#"{{"checkpoint":"{}"}}"#, sequences(&stand, shard).await.last().unwrap());
        loop {
            let (data, _) = nodes.get_data(&format!("{ROOT}/{shard}/state")).await.unwrap();
            if data == expected.as_bytes() {
                break;
            }
            assert!(Instant::now() < deadline, "{shard}: {} is not {expected}", String::from_utf8_lossy(&data));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
