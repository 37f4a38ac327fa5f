use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use shardflow::retry::WallClock;

use super::*;
use crate::kinesis::position::ShardPosition;
use crate::zookeeper::testing::{ROOT, SkippingClock, Somebody, ZooKeeper, nodes_at};
use shardflow::ErrorKind;

const LIST: &str = "/kinesis_storm_spout/metering/usage/shardList";
const STATE: &str = "/kinesis_storm_spout/metering/usage/shardId-000000000000/state";

/// What a topology with two shards leaves behind when its machine is switched off. One shard never had a record.
async fn left_behind(server: &ZooKeeper) -> Somebody {
    let spout = Somebody::at(server).await;
    spout.write(LIST, r#"{"shardList":["shardId-000000000000","shardId-000000000001"]}"#).await;
    spout.write(STATE, r#"{"checkpoint":"4957"}"#).await;
    spout
}

fn nothing_happens() -> SkippingClock {
    SkippingClock::new(|_| async {})
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_an_idle_topology_are_taken_over_after_the_watch() {
    let Some(server) = ZooKeeper::start() else { return };
    left_behind(&server).await;
    let (settings, clock) = (nodes_at(&server.address()).take_over(TakeOver::WhenIdle), nothing_happens());
    let taken = take_over(&settings, "usage", &clock).await.unwrap().unwrap();
    assert!(clock.slept() >= Duration::from_secs(70), "{:?}", clock.slept());
    let shards = [("shardId-000000000000", None), ("shardId-000000000001", None), ("shardId-000000000002", Some(1))];
    let name = |index: usize| format!("shardId-{index:012}");
    let stream = shards.map(|(id, parent)| (id.to_owned(), parent.map(name).into_iter().collect())).into();
    let starts = taken.starts(&stream, &ShardPosition::Time(5));
    let starts: Vec<String> = starts.values().map(ToString::to_string).collect();
    assert_eq!(starts, ["after:4957", "at:5", "trim-horizon"]);
    assert!(taken.gone(&stream).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_a_topology_that_was_deactivated_have_no_list_and_are_taken_over() {
    let Some(server) = ZooKeeper::start() else { return };
    left_behind(&server).await.0.delete(LIST, None).await.unwrap();
    let settings = nodes_at(&server.address()).take_over(TakeOver::WhenIdle);
    let taken = take_over(&settings, "usage", &nothing_happens()).await.unwrap().unwrap();
    assert_eq!(taken.list, None);
    assert_eq!(taken.states.keys().collect::<Vec<_>>(), ["shardId-000000000000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topology_that_writes_during_the_watch_is_refused_and_can_be_forced() {
    let Some(server) = ZooKeeper::start() else { return };
    let spout = left_behind(&server).await;
    let settings = nodes_at(&server.address()).take_over(TakeOver::WhenIdle);
    // The same bytes again: it is the write that counts. Late, as a spout that writes every 60 s.
    let writer = spout.clone();
    let clock = SkippingClock::new(move |sleep| {
        let writer = writer.clone();
        async move {
            if sleep == 60 {
                writer.write(STATE, r#"{"checkpoint":"4957"}"#).await;
            }
        }
    });
    let error = take_over(&settings, "usage", &clock).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("\"metering\": it is still running"), "{error}");
    assert!(error.to_string().contains(STATE), "{error}");

    let forced = take_over(&settings.take_over(TakeOver::Force), "usage", &WallClock).await.unwrap().unwrap();
    assert_eq!(forced.states.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_deleted_and_created_again_is_a_sign_of_life() {
    let Some(server) = ZooKeeper::start() else { return };
    let spout = left_behind(&server).await;
    let settings = nodes_at(&server.address()).take_over(TakeOver::WhenIdle);
    let clock = SkippingClock::new(move |sleep| {
        let spout = spout.clone();
        async move {
            if sleep == 3 {
                // What `storm rebalance` does. The new node has version 0, as the old one had.
                let (list, _) = spout.read(LIST).await.unwrap();
                spout.0.delete(LIST, None).await.unwrap();
                spout.write(LIST, &list).await;
            }
        }
    });
    let error = take_over(&settings, "usage", &clock).await.unwrap_err();
    assert!(error.to_string().contains(LIST), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn time_in_which_the_server_is_away_does_not_count() {
    let Some(server) = ZooKeeper::start() else { return };
    left_behind(&server).await;
    let settings = nodes_at(&server.address()).take_over(TakeOver::WhenIdle).watch_time(Duration::from_secs(20));
    let settings = settings.session_timeout(Duration::from_millis(500)).connect_timeout(Duration::from_secs(60));
    let server = Arc::new(Mutex::new(server));
    let clock = SkippingClock::new(move |sleep| {
        let server = Arc::clone(&server);
        let act = move || {
            let mut server = server.lock().unwrap();
            match sleep {
                15 => server.kill(),
                // The sleep after the first failed look.
                16 => server.restart(),
                _ => {}
            }
        };
        async move { tokio::task::spawn_blocking(act).await.unwrap() }
    });
    take_over(&settings, "usage", &clock).await.unwrap().unwrap();
    assert!(clock.slept() >= Duration::from_secs(15 + 20), "{:?}", clock.slept());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_without_nodes_is_a_bad_setting_that_is_named() {
    let Some(server) = ZooKeeper::start() else { return };
    left_behind(&server).await;
    let settings = nodes_at(&server.address()).take_over(TakeOver::WhenIdle);
    let error = take_over(&settings, "usages", &nothing_happens()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("there is no node \"/kinesis_storm_spout/metering/usages\""), "{error}");
    let error = take_over(&settings.prefix("/p"), "usage", &nothing_happens()).await.unwrap_err();
    assert!(error.to_string().contains("prefix"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_node_is_named_before_the_watch() {
    let Some(server) = ZooKeeper::start() else { return };
    let spout = left_behind(&server).await;
    spout.write(STATE, "4957").await;
    let (settings, clock) = (nodes_at(&server.address()).take_over(TakeOver::WhenIdle), nothing_happens());
    let error = take_over(&settings, "usage", &clock).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().starts_with(&format!("could not read the node \"{STATE}\": ")), "{error}");
    assert_eq!(clock.slept(), Duration::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_may_not_be_read_is_refused_at_once_and_a_digest_opens_it() {
    let Some(server) = ZooKeeper::start() else { return };
    left_behind(&server).await;
    let owner = zookeeper_client::Client::connector().with_auth("digest", b"storm:secret");
    let owner = owner.connect(&server.address()).await.unwrap();
    owner.set_acl(STATE, &zookeeper_client::Acls::creator_all(), None).await.unwrap();
    let settings = nodes_at(&server.address()).take_over(TakeOver::Force);
    let error = take_over(&settings, "usage", &nothing_happens()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("not authorized"), "{error}");
    let taken = take_over(&settings.digest("storm", "secret"), "usage", &nothing_happens()).await.unwrap().unwrap();
    assert_eq!(taken.list.unwrap(), BTreeSet::from([0, 1].map(|index| format!("shardId-{index:012}"))));
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_said_so_within_the_connect_timeout() {
    let settings = nodes_at(&nobody()).take_over(TakeOver::Force).connect_timeout(Duration::from_millis(300));
    let error = take_over(&settings, "usage", &WallClock).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source);
    assert!(error.to_string().contains("within 300ms: could not connect to ZooKeeper at"), "{error}");
}

#[tokio::test]
async fn without_taking_over_no_server_is_asked() {
    assert_eq!(take_over(&nodes_at(&nobody()), "usage", &WallClock).await.unwrap(), None);
}

#[tokio::test]
async fn a_connect_string_that_cannot_be_read_is_a_bad_setting() {
    let settings = nodes_at("zk1:port").take_over(TakeOver::Force);
    assert_eq!(take_over(&settings, "usage", &WallClock).await.unwrap_err().kind(), ErrorKind::Config);
}

/// An address at which nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn the_root_of_the_tests_is_that_of_the_settings() {
    assert_eq!(nodes_at("").paths("usage").unwrap().root(), ROOT);
}
