//! Keepers of one table in memory, on a clock that the test moves.

use super::*;
use crate::kcl::checkpoint::Checkpoint;
use crate::kcl::row::Lease;
use crate::kcl::testing::{FAILOVER, Link, MIRROR, Manual, Memory, read_to, settle, terms};

const SECOND: Duration = Duration::from_secs(1);

fn states(shards: &[(&str, u64)]) -> States {
    shards.iter().map(|(shard, number)| ((*shard).to_owned(), read_to(*number, &[]))).collect()
}

fn lease(key: &str, owner: &str) -> Lease {
    Lease::new(key, Checkpoint::TrimHorizon).taken_by(owner)
}

fn at(number: u64) -> Checkpoint {
    Checkpoint::After { number: number.to_string(), sub: 0 }
}

async fn start(store: &Memory, clock: &Manual, owner: &str) -> Keeper<Manual> {
    try_start(store, clock, owner).await.unwrap()
}

async fn try_start(store: &Memory, clock: &Manual, owner: &str) -> Result<Keeper<Manual>> {
    Keeper::start(store.clone(), clock.clone(), terms(owner), states(&[("a", 5), ("b", 0)]), &Handle::current()).await
}

fn why(keeper: &Keeper<Manual>) -> String {
    keeper.may_commit().map_or_else(|error| error.to_string(), |()| "may".to_owned())
}

#[tokio::test]
async fn a_job_that_meets_nobody_may_commit_at_once_and_keeps_its_leases() {
    let (store, clock) = (Memory::new([]), Manual::new());
    let keeper = start(&store, &clock, "job/1").await;
    keeper.ready().await.unwrap();
    for _ in 0..60 {
        clock.pass(SECOND).await;
        assert_eq!(why(&keeper), "may");
    }
    assert_eq!(store.row("a").owner.as_deref(), Some("job/1"));
    assert_eq!(store.row("a").checkpoint, at(5));
    assert!((15..=25).contains(&store.row("b").counter), "renewed at a third of the failover time");
}

#[tokio::test]
async fn the_older_of_two_copies_stops_before_the_newer_begins() {
    let (store, clock) = (Memory::new([]), Manual::new());
    let older = start(&store, &clock, "job/1").await;
    older.ready().await.unwrap();
    clock.pass(SECOND).await;
    let newer = start(&store.elsewhere(), &clock, "job/2").await;
    assert_eq!(why(&older), "may", "it has not noticed, and need not have");
    assert!(why(&newer).contains("may still be used by \"job/1\""), "{}", why(&newer));
    clock.pass(4 * SECOND).await;
    assert!(why(&older).ends_with("of lease table \"usage\": it was taken by \"job/2\""), "{}", why(&older));
    assert!(newer.may_commit().is_err());
    clock.pass(6 * SECOND).await;
    newer.ready().await.unwrap();
    clock.pass(60 * SECOND).await;
    assert_eq!(why(&newer), "may");
}

#[tokio::test]
async fn an_older_copy_that_hears_nothing_stops_by_its_own_clock_before_the_newer_begins() {
    let (store, clock) = (Memory::new([]), Manual::new());
    let older = start(&store, &clock, "job/1").await;
    store.set_link(Link::Down);
    let newer = start(&store.elsewhere(), &clock, "job/2").await;
    while newer.may_commit().is_err() {
        clock.pass(SECOND / 10).await;
        assert!(older.may_commit().is_err() || newer.may_commit().is_err());
    }
    assert!(why(&older).contains("it could not be renewed for 10s"), "{}", why(&older));
    assert!(why(&older).ends_with("connection refused"), "{}", why(&older));
}

#[tokio::test]
async fn a_start_waits_for_an_owner_from_whom_it_took_a_lease_without_hearing_of_it() {
    let (store, clock) = (Memory::new([lease("a", "worker-1")]), Manual::new());
    store.set_link(Link::Deaf);
    let (store_of_task, clock_of_task) = (store.clone(), clock.clone());
    let starting = tokio::spawn(async move { start(&store_of_task, &clock_of_task, "job/2").await });
    clock.pass(3 * SECOND).await;
    assert_eq!(store.row("a").owner.as_deref(), Some("job/2"));
    store.set_link(Link::Up);
    clock.pass(5 * SECOND).await;
    let keeper = starting.await.unwrap();
    assert!(why(&keeper).contains("\"worker-1\""), "{}", why(&keeper));
    clock.pass(10 * SECOND).await;
    assert_eq!(why(&keeper), "may");
}

#[tokio::test]
async fn the_leases_of_a_dead_owner_are_used_at_once() {
    let store = Memory::new([lease("a", "dead/1"), lease("b", "dead/2"), Lease::new("c", Checkpoint::ShardEnd)]);
    let keeper = start(&store, &Manual::new(), "job/2").await;
    keeper.may_commit().unwrap();
    assert_eq!(store.row("c").owner.as_deref(), Some("job/2"), "whatever the table holds");
}

#[tokio::test]
async fn what_an_earlier_run_took_and_died_over_is_waited_for_by_the_next() {
    for (ran, is_disputed) in [(SECOND, true), (8 * SECOND, true), (20 * SECOND, false)] {
        let (store, clock) = (Memory::new([lease("a", "worker-1")]), Manual::new());
        let earlier = start(&store, &clock, "dead/1").await;
        earlier.committed(states(&[("a", 9), ("b", 9)]));
        clock.pass(ran).await;
        drop(earlier);
        let keeper = start(&store, &clock, "job/2").await;
        assert_eq!(keeper.may_commit().is_err(), is_disputed, "after {ran:?}: {}", why(&keeper));
        clock.pass(FAILOVER + SECOND).await;
        assert_eq!(why(&keeper), "may");
    }
}

#[tokio::test]
async fn an_owner_that_is_asked_to_hand_over_still_counts() {
    let handing_over = Lease { checkpoint_owner: Some("worker-1".to_owned()), ..lease("a", "dead/1") };
    let keeper = start(&Memory::new([handing_over]), &Manual::new(), "job/2").await;
    assert!(why(&keeper).contains("\"worker-1\""), "{}", why(&keeper));
}

#[tokio::test]
async fn an_outage_shorter_than_the_failover_time_is_survived_and_a_longer_one_is_not() {
    let (store, clock) = (Memory::new([]), Manual::new());
    let keeper = start(&store, &clock, "job/1").await;
    store.set_link(Link::Down);
    clock.pass(9 * SECOND).await;
    assert_eq!(why(&keeper), "may");
    store.set_link(Link::Up);
    clock.pass(20 * SECOND).await;
    assert_eq!(why(&keeper), "may");
    store.set_link(Link::Down);
    clock.pass(10 * SECOND).await;
    assert!(why(&keeper).contains("could not be renewed"), "{}", why(&keeper));
    let counter = store.row("a").counter;
    store.set_link(Link::Up);
    clock.pass(20 * SECOND).await;
    assert!(keeper.may_commit().is_err(), "for good");
    assert_eq!(store.row("a").counter, counter, "what expired is not renewed");
}

#[tokio::test]
async fn a_lease_counts_from_when_its_renewal_began_and_not_from_the_answer() {
    let (store, clock) = (Memory::new([]), Manual::new());
    let keeper = start(&store, &clock, "job/1").await;
    // A renewal begins after 3.4 s at the latest, and its answer comes 5 s later.
    store.answer_after(5 * SECOND, &clock);
    clock.pass(8 * SECOND).await;
    store.set_link(Link::Down);
    clock.pass(5 * SECOND).await;
    assert_eq!(why(&keeper), "may", "it is 13 s by now");
    clock.pass(SECOND / 2).await;
    assert!(keeper.may_commit().is_err());
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_no_lost_lease() {
    let (store, clock) = (Memory::new([]), Manual::new());
    let keeper = start(&store, &clock, "job/1").await;
    for number in 6..16 {
        store.set_link(Link::Deaf);
        keeper.committed(states(&[("a", number), ("b", number)]));
        clock.pass(5 * SECOND).await;
        store.set_link(Link::Up);
        clock.pass(2 * SECOND).await;
        assert_eq!(why(&keeper), "may");
    }
    assert_eq!(store.row("a").checkpoint, at(15));
}

#[tokio::test]
async fn a_renewal_goes_on_from_a_checkpoint_whose_answer_was_lost() {
    let (store, clock) = (Memory::new([]), Manual::new());
    let keeper = start(&store, &clock, "job/1").await;
    // Long after the last mirroring, just after a renewal: the next call is a checkpoint.
    clock.pass(MIRROR + 2 * SECOND).await;
    store.set_link(Link::Deaf);
    keeper.committed(states(&[("a", 9), ("b", 9)]));
    settle().await;
    assert_eq!(store.row("a").checkpoint, at(9), "it got through");
    // Nothing gets through until the lease has to be renewed, from the row as it was before.
    store.set_link(Link::Down);
    clock.pass(4 * SECOND).await;
    store.set_link(Link::Up);
    clock.pass(20 * SECOND).await;
    assert_eq!(why(&keeper), "may");
}

#[tokio::test]
async fn of_two_copies_that_start_at_once_one_is_left_at_most() {
    let (store, clock) = (Memory::new([lease("a", "gone"), lease("b", "gone")]), Manual::new());
    let elsewhere = store.elsewhere();
    let (one, other) = tokio::join!(try_start(&store, &clock, "job/1"), try_start(&elsewhere, &clock, "job/2"));
    for _ in 0..30 {
        let may = [&one, &other].into_iter().flatten().filter(|keeper| keeper.may_commit().is_ok()).count();
        assert!(may <= 1);
        clock.pass(SECOND).await;
    }
}

#[tokio::test]
async fn of_two_copies_that_start_at_once_the_one_that_knows_the_other_as_older_is_left() {
    let (store, clock) = (Memory::new([lease("a", "gone"), lease("b", "gone")]), Manual::new());
    let elsewhere = store.elsewhere();
    let (newer, older) = tokio::join!(try_start(&store, &clock, "job/2"), try_start(&elsewhere, &clock, "dead/1"));
    let error = older.err().unwrap().to_string();
    assert!(error.ends_with("\"job/2\" is taking it"), "{error}");
    clock.pass(11 * SECOND).await;
    newer.unwrap().may_commit().unwrap();
}

#[tokio::test]
async fn a_lease_that_a_leader_gives_to_another_worker_is_lost() {
    let (store, clock) = (Memory::new([]), Manual::new());
    let keeper = start(&store, &clock, "job/1").await;
    let given = Lease { checkpoint_owner: Some("job/1".to_owned()), owner: Some("w".to_owned()), ..store.row("b") };
    store.put(given);
    clock.pass(4 * SECOND).await;
    assert_eq!(why(&keeper), "could not keep lease \"b\" of lease table \"usage\": it was taken by \"w\"");
}

#[tokio::test]
async fn a_lease_that_was_deleted_is_lost() {
    let (store, clock) = (Memory::new([]), Manual::new());
    let keeper = start(&store, &clock, "job/1").await;
    store.delete("a");
    clock.pass(4 * SECOND).await;
    assert!(why(&keeper).ends_with("somebody has deleted or freed it"), "{}", why(&keeper));
}

#[tokio::test]
async fn missing_permissions_stop_the_job() {
    let (store, clock) = (Memory::new([]), Manual::new());
    let keeper = start(&store, &clock, "job/1").await;
    store.set_link(Link::Forbidden);
    clock.pass(4 * SECOND).await;
    assert_eq!(why(&keeper), "could not keep the leases of lease table \"usage\": AccessDeniedException");
    assert!(keeper.stop().await.unwrap_err().to_string().contains("AccessDeniedException"));
}

#[tokio::test]
async fn commits_are_mirrored_the_latest_wins_and_not_too_often() {
    let (store, clock) = (Memory::new([]), Manual::new());
    let keeper = start(&store, &clock, "job/1").await;
    clock.pass(MIRROR).await;
    store.checkpoints();
    for number in 6..106 {
        keeper.committed(states(&[("a", number), ("b", 0)]));
        clock.pass(SECOND / 10).await;
    }
    let written = store.checkpoints();
    assert!(written.len() == 2 || written.len() == 3, "{written:?}");
    clock.pass(MIRROR).await;
    assert_eq!(store.row("a").checkpoint, at(105));
}

#[tokio::test]
async fn new_shards_get_leases_and_ended_ones_lose_theirs() {
    let (store, clock) = (Memory::new([]), Manual::new());
    let keeper = start(&store, &clock, "job/1").await;
    let mut next = states(&[("a", 9), ("b", 3)]);
    next.get_mut("a").unwrap().ended = true;
    for child in ["c", "d"] {
        next.insert(child.to_owned(), read_to(0, &["a"]));
    }
    keeper.committed(next.clone());
    clock.pass(MIRROR + SECOND).await;
    assert_eq!(store.row("a").checkpoint, Checkpoint::ShardEnd);
    assert_eq!(store.row("c").owner.as_deref(), Some("job/1"));
    for child in ["c", "d"] {
        next.insert(child.to_owned(), read_to(20, &["a"]));
    }
    keeper.committed(next);
    clock.pass(MIRROR + SECOND).await;
    assert_eq!(store.keys(), ["b", "c", "d"]);
    clock.pass(30 * SECOND).await;
    assert_eq!(why(&keeper), "may");
}

#[tokio::test]
async fn a_new_shards_lease_that_is_there_already_is_taken_if_it_is_free_and_lost_if_it_is_not() {
    for (owner, is_lost) in [(None, false), (Some("dead/1"), false), (Some("worker-1"), true)] {
        let (store, clock) = (Memory::new([]), Manual::new());
        let keeper = start(&store, &clock, "job/1").await;
        let free = Lease::new("c", Checkpoint::TrimHorizon);
        store.put(owner.map_or_else(|| free.clone(), |owner| free.taken_by(owner)));
        keeper.committed(states(&[("a", 5), ("b", 0), ("c", 4)]));
        clock.pass(3 * MIRROR).await;
        assert_eq!(keeper.may_commit().is_err(), is_lost, "{owner:?}: {}", why(&keeper));
        if !is_lost {
            assert_eq!(store.row("c").owner.as_deref(), Some("job/1"));
            assert_eq!(store.row("c").checkpoint, at(4));
        }
    }
}

#[tokio::test]
async fn a_job_that_stops_writes_its_last_positions_and_frees_its_leases() {
    let (store, clock) = (Memory::new([]), Manual::new());
    let keeper = start(&store, &clock, "job/1").await;
    keeper.committed(states(&[("a", 7), ("b", 8)]));
    keeper.stop().await.unwrap();
    for (key, number) in [("a", 7), ("b", 8)] {
        assert_eq!((store.row(key).owner, store.row(key).checkpoint), (None, at(number)));
    }
}

#[tokio::test]
async fn a_job_that_stops_during_an_outage_says_that_the_mirror_is_old() {
    let (store, clock) = (Memory::new([]), Manual::new());
    let keeper = start(&store, &clock, "job/1").await;
    keeper.committed(states(&[("a", 7), ("b", 8)]));
    store.set_link(Link::Down);
    let stopping = tokio::spawn(keeper.stop());
    clock.pass(3 * FAILOVER).await;
    let error = stopping.await.unwrap().unwrap_err().to_string();
    assert!(error.starts_with("could not"), "{error}");
    assert_eq!(store.row("a").checkpoint, at(5));
}

#[tokio::test]
async fn a_job_that_has_lost_a_lease_frees_the_others_and_mirrors_nothing() {
    let (store, clock) = (Memory::new([]), Manual::new());
    let keeper = start(&store, &clock, "job/1").await;
    store.put(store.row("a").taken_by("worker-1"));
    clock.pass(4 * SECOND).await;
    keeper.committed(states(&[("a", 7), ("b", 8)]));
    keeper.stop().await.unwrap();
    assert_eq!(store.row("a").owner.as_deref(), Some("worker-1"));
    assert_eq!((store.row("b").owner, store.row("b").checkpoint), (None, Checkpoint::TrimHorizon));
}

#[tokio::test]
async fn a_start_without_shards_or_in_a_table_of_several_streams_is_refused() {
    let (store, clock) = (Memory::new([]), Manual::new());
    let none = Keeper::start(store.clone(), clock.clone(), terms("job/1"), States::new(), &Handle::current()).await;
    assert!(none.err().unwrap().to_string().contains("there is no shard"));
    store.put(Lease { stream: Some("1:usage:2".to_owned()), ..lease("1:usage:2:shardId-0", "w") });
    let error = try_start(&store, &clock, "job/1").await.err().unwrap();
    assert_eq!(error.kind(), shardflow::ErrorKind::Config);
    assert!(error.to_string().contains("is of stream \"1:usage:2\" among several"), "{error}");
}
