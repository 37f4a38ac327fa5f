use std::time::Instant;

use shardflow::retry::WallClock;

use super::*;
use crate::kinesis::position::{Sequence, ShardPosition};
use crate::zookeeper::testing::{HeldClock, LossyWay, ROOT, Somebody, ZooKeeper, nodes_at, until};
use crate::zookeeper::{ForeignWrites, TakeOver, take_over};
use zookeeper_client::{Acls, Client, CreateMode};

fn path(suffix: &str) -> String {
    format!("{ROOT}/{suffix}")
}

fn state_path(shard: usize) -> String {
    path(&format!("shardId-{shard:012}/state"))
}

fn checkpoint(number: u64) -> String {
    format!(r#"{{"checkpoint":"{number}"}}"#)
}

/// Shards 0, 1, … of which everything up to this number is done; 0: nothing was read yet.
fn commit(numbers: &[u64]) -> BTreeMap<String, ShardState> {
    let state = |number: &u64| {
        let after = ShardPosition::After(Sequence { number: number.to_string(), sub: None });
        let position = if *number == 0 { ShardPosition::TrimHorizon } else { after };
        ShardState { position, ..ShardState::default() }
    };
    numbers.iter().enumerate().map(|(shard, number)| (format!("shardId-{shard:012}"), state(number))).collect()
}

fn start(settings: &SpoutNodes) -> Mirror {
    Mirror::start(settings, "usage", &Handle::current(), WallClock).unwrap()
}

fn foreign_writes(mirror: &Mirror) -> u64 {
    mirror.counts().foreign_writes.load(Ordering::Relaxed)
}

async fn has_counted(what: &str, counter: &AtomicU64, least: u64) {
    until(what, async || (counter.load(Ordering::Relaxed) >= least).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_are_written_as_the_spout_writes_them_and_can_be_taken_over_again() {
    let Some(server) = ZooKeeper::start() else { return };
    let somebody = Somebody::at(&server).await;
    let settings = nodes_at(&server.address());
    let mirror = start(&settings);
    mirror.committed(commit(&[41, 0, 43]));
    mirror.stop().await;
    assert_eq!(somebody.read(&state_path(0)).await.unwrap().0, checkpoint(41));
    assert_eq!(somebody.read(&state_path(1)).await, None, "nothing was read of it");
    let list = r#"{"shardList":["shardId-000000000000","shardId-000000000001","shardId-000000000002"]}"#;
    assert_eq!(somebody.read(&path("shardList")).await.unwrap(), (list.to_owned(), 0));
    assert_eq!(somebody.read(&path("shardId-000000000002")).await.unwrap().0, "");

    let taken = take_over(&settings.take_over(TakeOver::Force), "usage", &WallClock).await.unwrap().unwrap();
    let stream = commit(&[0, 0, 0]).into_keys().map(|id| (id, Vec::new())).collect();
    let starts = taken.starts(&stream, &ShardPosition::TrimHorizon);
    assert_eq!(starts.values().map(ToString::to_string).collect::<Vec<_>>(), ["after:41", "trim-horizon", "after:43"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_latest_commit_is_written_and_only_once_an_interval() {
    let Some(server) = ZooKeeper::start() else { return };
    let somebody = Somebody::at(&server).await;
    let clock = HeldClock::new();
    let mirror = Mirror::start(&nodes_at(&server.address()), "usage", &Handle::current(), clock.clone()).unwrap();
    mirror.committed(commit(&[1]));
    clock.somebody_sleeps().await;
    assert_eq!(somebody.read(&state_path(0)).await.unwrap(), (checkpoint(1), 0));
    for number in 2..100 {
        mirror.committed(commit(&[number]));
    }
    assert_eq!(somebody.read(&state_path(0)).await.unwrap(), (checkpoint(1), 0), "the interval is not over");
    clock.end_a_sleep();
    clock.somebody_sleeps().await;
    assert_eq!(somebody.read(&state_path(0)).await.unwrap(), (checkpoint(99), 1), "written once");
    mirror.committed(commit(&[100]));
    mirror.stop().await;
    assert_eq!(somebody.read(&state_path(0)).await.unwrap(), (checkpoint(100), 2), "the end does not wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_comes_back_is_caught_up_with() {
    let Some(mut server) = ZooKeeper::start() else { return };
    let settings = nodes_at(&server.address()).session_timeout(Duration::from_millis(500));
    let mirror = start(&settings);
    mirror.committed(commit(&[1]));
    Somebody::at(&server).await.sees(&state_path(0), &checkpoint(1)).await;
    // Short outages, which the session may outlive, and long ones, which it does not.
    let mut number = 1;
    for failures in [0, 3] {
        server.kill();
        let before = mirror.counts().failures.load(Ordering::Relaxed);
        let began = Instant::now();
        for _ in 0..1000 {
            number += 1;
            mirror.committed(commit(&[number]));
        }
        assert!(began.elapsed() < Duration::from_secs(1), "the job must not wait");
        has_counted("failed writes", &mirror.counts().failures, before + failures).await;
        server.restart();
        Somebody::at(&server).await.sees(&state_path(0), &checkpoint(number)).await;
    }
    mirror.committed(commit(&[number + 1]));
    assert_eq!(foreign_writes(&mirror), 0, "what was written was the mirror's own");
    mirror.stop().await;
    Somebody::at(&server).await.sees(&state_path(0), &checkpoint(number + 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_own_write_whose_answer_was_lost_is_not_taken_for_a_foreign_one() {
    let Some(server) = ZooKeeper::start() else { return };
    let (somebody, way) = (Somebody::at(&server).await, LossyWay::to(&server).await);
    let mirror = start(&nodes_at(&way.address));
    for number in 1..=10 {
        // That of a creation first, then those of replacements.
        let shards = 1 + number / 2;
        tokio::join!(way.lose_an_answer(), async { mirror.committed(commit(&vec![10 * number; shards as usize])) });
        // What is tried again is not what was tried.
        mirror.committed(commit(&vec![10 * number + 1; shards as usize]));
        let all: Vec<String> = (0..shards).map(|shard| format!("\"shardId-{shard:012}\"")).collect();
        somebody.sees(&state_path(0), &checkpoint(10 * number + 1)).await;
        somebody.sees(&path("shardList"), &format!(r#"{{"shardList":[{}]}}"#, all.join(","))).await;
    }
    let counts = Arc::clone(mirror.counts());
    mirror.stop().await;
    assert!(counts.failures.load(Ordering::Relaxed) >= 10);
    assert_eq!(counts.foreign_writes.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_foreign_write_it_stands_back_and_leaves_the_shard_list_too() {
    let Some(server) = ZooKeeper::start() else { return };
    let somebody = Somebody::at(&server).await;
    let mirror = start(&nodes_at(&server.address()));
    mirror.committed(commit(&[10, 10]));
    let list_before =
        somebody.sees(&path("shardList"), r#"{"shardList":["shardId-000000000000","shardId-000000000001"]}"#).await;
    somebody.write(&state_path(0), &checkpoint(7)).await;
    mirror.committed(commit(&[20, 20, 20]));
    somebody.sees(&state_path(1), &checkpoint(20)).await;
    has_counted("the foreign write", &mirror.counts().foreign_writes, 1).await;
    mirror.committed(commit(&[30, 30, 30]));
    let counts = Arc::clone(mirror.counts());
    mirror.stop().await;
    assert_eq!(somebody.read(&state_path(0)).await.unwrap().0, checkpoint(7));
    assert_eq!(somebody.read(&state_path(1)).await.unwrap().0, checkpoint(30), "the others go on");
    assert_eq!(somebody.read(&path("shardList")).await.unwrap().1, list_before);
    assert_eq!(counts.foreign_writes.load(Ordering::Relaxed), 1, "told of once");

    // The next start has a fresh look, and still moves forward only.
    let mirror = start(&nodes_at(&server.address()));
    mirror.committed(commit(&[6, 31]));
    mirror.stop().await;
    assert_eq!(somebody.read(&state_path(0)).await.unwrap().0, checkpoint(7));
    assert_eq!(somebody.read(&state_path(1)).await.unwrap().0, checkpoint(31));
}

#[tokio::test(flavor = "multi_thread")]
async fn adopting_a_foreign_write_goes_on_from_it_and_never_backwards() {
    let Some(server) = ZooKeeper::start() else { return };
    let somebody = Somebody::at(&server).await;
    let mirror = start(&nodes_at(&server.address()).foreign_writes(ForeignWrites::Adopt));
    mirror.committed(commit(&[10]));
    somebody.sees(&state_path(0), &checkpoint(10)).await;
    somebody.write(&state_path(0), r#"{"checkpoint":"50","by":"me"}"#).await;
    mirror.committed(commit(&[20]));
    has_counted("the foreign write", &mirror.counts().foreign_writes, 1).await;
    mirror.committed(commit(&[60]));
    somebody.sees(&state_path(0), r#"{"checkpoint":"60","by":"me"}"#).await;
    somebody.0.delete(&state_path(0), None).await.unwrap();
    mirror.committed(commit(&[70]));
    somebody.sees(&state_path(0), &checkpoint(70)).await;
    assert_eq!(foreign_writes(&mirror), 2);
    mirror.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_racing_writer_no_checkpoint_is_ever_set_back_or_lost() {
    let Some(server) = ZooKeeper::start() else { return };
    let somebody = Somebody::at(&server).await;
    let mirror = start(&nodes_at(&server.address()).foreign_writes(ForeignWrites::Adopt));
    mirror.committed(commit(&[1]));
    somebody.sees(&state_path(0), &checkpoint(1)).await;
    let racer = somebody.clone();
    let race = tokio::spawn(async move {
        let (mut last, mut won) = (0, 0);
        while won < 300 {
            let (data, version) = racer.read(&state_path(0)).await.unwrap();
            let number: u64 =
                data.strip_prefix(r#"{"checkpoint":""#).unwrap().strip_suffix("\"}").unwrap().parse().unwrap();
            assert!(number >= last, "from {last} back to {number}");
            last = number;
            let next = checkpoint(number + 1);
            match racer.0.set_data(&state_path(0), next.as_bytes(), Some(version)).await {
                Ok(_) => (last, won) = (number + 1, won + 1),
                Err(error) => assert_eq!(error, zookeeper_client::Error::BadVersion),
            }
        }
        last
    });
    let mut number = 1;
    while !race.is_finished() {
        number += 1;
        mirror.committed(commit(&[number]));
        tokio::task::yield_now().await;
    }
    let last = race.await.unwrap().max(number + 1);
    mirror.committed(commit(&[last]));
    assert!(foreign_writes(&mirror) > 0);
    mirror.stop().await;
    assert_eq!(somebody.read(&state_path(0)).await.unwrap().0, checkpoint(last));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_node_is_left_as_it_is_and_the_others_are_written() {
    let Some(server) = ZooKeeper::start() else { return };
    let somebody = Somebody::at(&server).await;
    somebody.write(&state_path(0), "what is this").await;
    let mirror = start(&nodes_at(&server.address()));
    mirror.committed(commit(&[10, 10]));
    somebody.sees(&state_path(1), &checkpoint(10)).await;
    let counts = Arc::clone(mirror.counts());
    mirror.stop().await;
    assert_eq!(somebody.read(&state_path(0)).await.unwrap().0, "what is this");
    assert_eq!(counts.foreign_writes.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_may_not_be_written_does_not_hold_up_the_others() {
    let Some(server) = ZooKeeper::start() else { return };
    let somebody = Somebody::at(&server).await;
    somebody.write(&state_path(0), &checkpoint(1)).await;
    let owner = Client::connector().with_auth("digest", b"storm:secret").connect(&server.address()).await.unwrap();
    owner.set_acl(&state_path(0), &Acls::creator_all(), None).await.unwrap();
    let settings = nodes_at(&server.address());
    let mirror = start(&settings);
    mirror.committed(commit(&[10, 10]));
    somebody.sees(&state_path(1), &checkpoint(10)).await;
    has_counted("the refusal", &mirror.counts().failures, 1).await;
    drop(mirror);

    let mirror = start(&settings.digest("storm", "secret"));
    mirror.committed(commit(&[11, 11]));
    mirror.stop().await;
    assert_eq!(Somebody(owner).read(&state_path(0)).await.unwrap().0, checkpoint(11));
}

#[tokio::test(flavor = "multi_thread")]
async fn new_nodes_get_the_access_list_of_the_node_above_them() {
    let Some(server) = ZooKeeper::start() else { return };
    let owner = Client::connector().with_auth("digest", b"storm:secret").connect(&server.address()).await.unwrap();
    owner.create("/kinesis_storm_spout", b"", &CreateMode::Persistent.with_acls(Acls::creator_all())).await.unwrap();
    let mirror = start(&nodes_at(&server.address()).digest("storm", "secret"));
    mirror.committed(commit(&[10]));
    mirror.stop().await;
    let (above, _) = owner.get_acl("/kinesis_storm_spout").await.unwrap();
    assert_eq!(owner.get_acl(&state_path(0)).await.unwrap().0, above);
    assert!(Somebody::at(&server).await.0.get_data(&state_path(0)).await.is_err(), "closed to everybody else");
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_node_of_the_connect_string_paths_are_as_anywhere() {
    let Some(server) = ZooKeeper::start() else { return };
    let somebody = Somebody::at(&server).await;
    somebody.write("/storm", "").await;
    let settings = nodes_at(&format!("{}/storm", server.address()));
    let mirror = start(&settings);
    mirror.committed(commit(&[10]));
    mirror.stop().await;
    assert_eq!(somebody.read(&format!("/storm{}", state_path(0))).await.unwrap().0, checkpoint(10));
}

#[tokio::test]
async fn without_a_server_commits_return_at_once_and_stopping_ends_after_the_connect_timeout() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mirror = start(&nodes_at(&nobody).connect_timeout(Duration::from_millis(200)));
    mirror.committed(commit(&[10]));
    has_counted("failed writes", &mirror.counts().failures, 2).await;
    let began = Instant::now();
    mirror.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_job_that_never_committed_stops_at_once_and_asks_no_server() {
    let mirror = start(&nodes_at("127.0.0.1:1"));
    let counts = Arc::clone(mirror.counts());
    mirror.stop().await;
    assert_eq!(counts.failures.load(Ordering::Relaxed), 0);
}
