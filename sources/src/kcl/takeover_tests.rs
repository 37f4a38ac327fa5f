//! Taking over from tables in memory.

use super::*;
use crate::kcl::testing::{FAILOVER, Manual, Memory, metrics};

fn lease(key: &str, checkpoint: Checkpoint, owner: Option<&str>) -> Lease {
    let lease = Lease::new(key, checkpoint);
    owner.map_or_else(|| lease.clone(), |owner| lease.taken_by(owner))
}

fn after(number: &str, sub: u64) -> Checkpoint {
    Checkpoint::After { number: number.to_owned(), sub }
}

fn shards(taken: &[TakenOver]) -> Vec<(&str, From)> {
    taken.iter().map(|taken| (taken.shard.as_str(), taken.from.clone())).collect()
}

/// Takes over while `worker` does something at each look of the watcher.
async fn take(store: &Memory, how: TakeOver, mut worker: impl FnMut(u32)) -> Result<Vec<TakenOver>> {
    let clock = Manual::new();
    let metrics = metrics();
    let mut taking = Box::pin(take_over(store, &clock, FAILOVER, how, &metrics));
    for tick in 0.. {
        tokio::select! {
            biased;
            taken = &mut taking => return taken,
            () = crate::kcl::testing::settle() => {}
        }
        worker(tick);
        clock.jump(FAILOVER / 10);
    }
    unreachable!("it ends at last")
}

#[tokio::test]
async fn a_fleet_that_is_gone_is_taken_over_at_its_checkpoints() {
    let store = Memory::new([
        lease("a", after("495", 7), Some("worker-1")),
        lease("b", after("496", 0), Some("worker-2")),
        lease("c", Checkpoint::TrimHorizon, None),
        lease("d", Checkpoint::Latest, None),
        lease("e", Checkpoint::AtTimestamp, None),
        lease("f", Checkpoint::ShardEnd, Some("worker-1")),
    ]);
    let mut looks = 0;
    let taken = take(&store, TakeOver::WhenIdle, |tick| looks = tick).await.unwrap();
    let record = |number: &str, sub| From::After(Sequence { number: number.to_owned(), sub: Some(sub) });
    assert_eq!(
        shards(&taken),
        [
            ("a", record("495", 7)),
            ("b", record("496", 0)),
            ("c", From::TrimHorizon),
            ("d", From::Latest),
            ("e", From::AtTimestamp),
            ("f", From::Ended)
        ]
    );
    assert!(looks >= 10, "the owners were watched for the failover time");
}

#[tokio::test]
async fn a_fleet_that_lives_is_left_alone_unless_forced() {
    let rows = ["a", "b", "c"].map(|key| lease(key, after("1", 0), Some(if key == "c" { "gone" } else { "worker-1" })));
    let store = Memory::new(rows);
    let renew = |tick: u32| {
        if tick.is_multiple_of(3) {
            store.put(store.row("a").renewed());
            store.put(store.row("b").renewed());
        }
    };
    let error = take(&store, TakeOver::WhenIdle, renew).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "could not take over from lease table \"usage\": \"worker-1\" still renew(s) the leases of \"a\", \"b\"; stop the \
         workers first, or take over by force (TakeOver::Force), which processes some records twice"
    );
    assert_eq!(take(&store, TakeOver::Force, renew).await.unwrap().len(), 3);
    assert!(take(&store, TakeOver::No, renew).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_fleet_that_stops_while_it_is_watched_is_taken_over_where_it_stopped() {
    let store = Memory::new([lease("a", after("1", 0), Some("worker-1"))]);
    let stop = |tick: u32| match tick {
        1 => store.put(store.row("a").renewed()),
        3 => store.put(store.row("a").advanced(after("9", 0), &BTreeSet::new()).released()),
        _ => {}
    };
    let taken = take(&store, TakeOver::WhenIdle, stop).await.unwrap();
    assert_eq!(shards(&taken), [("a", From::After(Sequence { number: "9".to_owned(), sub: Some(0) }))]);
}

#[tokio::test]
async fn a_worker_that_comes_while_it_is_watched_is_seen() {
    let store = Memory::new([lease("a", after("1", 0), Some("gone"))]);
    let come = |tick: u32| {
        if tick == 5 {
            store.put(store.row("a").taken_by("worker-2"));
        }
    };
    let error = take(&store, TakeOver::WhenIdle, come).await.unwrap_err().to_string();
    assert!(error.contains("\"worker-2\" still renew(s)"), "{error}");
}

#[tokio::test]
async fn an_empty_table_is_told_apart_from_an_idle_one() {
    let error = take(&Memory::new([]), TakeOver::WhenIdle, |_| ()).await.unwrap_err();
    assert_eq!(error.kind(), shardflow::ErrorKind::Config);
    assert!(error.to_string().contains("it holds no lease"), "{error}");
}
