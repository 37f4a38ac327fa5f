//! Leases in tables of real stand-ins. Time is the test's own where it decides something.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use shardflow::retry::WallClock;
use tokio::runtime::Handle;

use super::checkpoint::Checkpoint;
use super::emulators::{Emulator, table};
use super::row::{Item, Lease};
use super::store::{Change, Store, Written};
use super::takeover::{From, TakeOver, take_over};
use super::testing::{FAILOVER, MIRROR, Manual, metrics, read_to, terms};
use super::{IfAbsent, Keeper, Table};
use crate::kinesis::committed::States;
use crate::kinesis::position::Sequence;

const SEQUENCE: &str = "49590338271490256608559692538361571095921575989136588898";

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn number(value: &str) -> AttributeValue {
    AttributeValue::N(value.to_owned())
}

fn item<const N: usize>(attributes: [(&str, AttributeValue); N]) -> Item {
    attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn states(shards: &[(&str, u64)]) -> States {
    shards.iter().map(|(shard, number)| ((*shard).to_owned(), read_to(*number, &[]))).collect()
}

async fn keep(table: &Table, clock: &Manual, owner: &str, states: States) -> Keeper<Manual> {
    Keeper::start(table.clone(), clock.clone(), terms(owner), states, &Handle::current()).await.unwrap()
}

/// Lets the test's clock run, five times as fast as the real one, until something is so.
async fn until<F: Future<Output = bool>>(clock: &Manual, what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        clock.jump(Duration::from_millis(100));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn checkpoint(table: &Table, key: &str) -> Option<Checkpoint> {
    let rows = table.leases().await.unwrap();
    rows.into_iter().find(|row| row.key == key).map(|row| row.checkpoint)
}

fn at(number: u64) -> Checkpoint {
    Checkpoint::After { number: number.to_string(), sub: 0 }
}

/// Each attribute of what a keeper wrote, by name and type, as the library reads it.
async fn rows_are_in_the_librarys_types(emulator: &Emulator) {
    let (table, clock) = (emulator.table("types").await, Manual::new());
    let mut job = states(&[("p", 0)]);
    let keeper = keep(&table, &clock, "job/1", job.clone()).await;
    job.get_mut("p").unwrap().ended = true;
    for (child, range) in [("x", (0, u128::MAX / 2)), ("y", (u128::MAX / 2 + 1, u128::MAX))] {
        let mut state = read_to(0, &["p"]);
        state.hash_range = Some(range);
        job.insert(child.to_owned(), state);
    }
    let aggregated = Sequence { number: SEQUENCE.to_owned(), sub: Some(4) };
    job.get_mut("x").unwrap().position = crate::kinesis::position::ShardPosition::After(aggregated);
    keeper.committed(job);
    keeper.stop().await.unwrap();
    let raw = emulator.raw();
    let mut child = raw.row("types", "x").await.unwrap();
    let counter = child.remove("leaseCounter").unwrap();
    assert!(counter.as_n().unwrap().parse::<u64>().unwrap() > 0);
    let expected = item([
        ("leaseKey", text("x")),
        ("ownerSwitchesSinceCheckpoint", number("0")),
        ("checkpoint", text(SEQUENCE)),
        ("checkpointSubSequenceNumber", number("4")),
        ("parentShardId", AttributeValue::Ss(vec!["p".to_owned()])),
        ("startingHashKey", text("0")),
        ("endingHashKey", text("170141183460469231731687303715884105727")),
        ("entityType", text("LEASE")),
    ]);
    assert_eq!(child, expected);
    let mut parent = raw.row("types", "p").await.unwrap();
    let children = parent.remove("childShardIds").unwrap();
    let children: BTreeSet<&str> = children.as_ss().unwrap().iter().map(String::as_str).collect();
    assert_eq!(children, BTreeSet::from(["x", "y"]));
    assert!(parent.remove("leaseCounter").is_some());
    let expected = item([
        ("leaseKey", text("p")),
        ("ownerSwitchesSinceCheckpoint", number("0")),
        ("checkpoint", text("SHARD_END")),
        ("checkpointSubSequenceNumber", number("0")),
        ("entityType", text("LEASE")),
    ]);
    assert_eq!(parent, expected);
}

/// A table as the library leaves it, taken over, worked with and handed back.
async fn a_fleets_table_is_taken_over_and_handed_back(emulator: &Emulator) {
    let (table, clock, raw) = (emulator.table("fleet").await, Manual::new(), emulator.raw());
    let row = |key: &str, checkpoint: &str, sub: &str| {
        item([
            ("leaseKey", text(key)),
            ("leaseOwner", text("worker-1")),
            ("leaseCounter", number("7")),
            ("checkpoint", text(checkpoint)),
            ("checkpointSubSequenceNumber", number(sub)),
            ("pendingCheckpoint", text("9999")),
            ("pendingCheckpointSubSequenceNumber", number("0")),
            ("throughputKBps", number("1.5")),
            ("somethingNew", AttributeValue::M(item([("inside", text("kept"))]))),
        ])
    };
    raw.put("fleet", row("a", SEQUENCE, "3")).await;
    raw.put("fleet", row("b", "SHARD_END", "0")).await;
    raw.put("fleet", row("c", "LATEST", "0")).await;
    raw.put("fleet", item([("leaseKey", text("leader")), ("entityType", text("LEADER"))])).await;
    let metrics = metrics();
    let mut taking = Box::pin(take_over(&table, &clock, FAILOVER, TakeOver::WhenIdle, &metrics));
    let taken = loop {
        tokio::select! {
            taken = &mut taking => break taken.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(20)) => clock.jump(FAILOVER / 10),
        }
    };
    let taken: BTreeMap<String, From> = taken.into_iter().map(|taken| (taken.shard, taken.from)).collect();
    let after = From::After(Sequence { number: SEQUENCE.to_owned(), sub: Some(3) });
    assert_eq!(taken, [("a", after), ("b", From::Ended), ("c", From::Latest)].map(|(k, v)| (k.to_owned(), v)).into());

    let keeper = keep(&table, &clock, "job/1", states(&[("a", 1), ("c", 42)])).await;
    assert!(keeper.may_commit().is_err(), "worker-1 may be alive");
    keeper.stop().await.unwrap();
    let a = raw.row("fleet", "a").await.unwrap();
    assert_eq!(
        (a.get("checkpoint"), a.get("leaseOwner")),
        (Some(&text(SEQUENCE)), None),
        "not moved backwards, and free"
    );
    assert_eq!(a.get("pendingCheckpoint"), Some(&text("9999")), "no checkpoint of ours came after it");
    let c = raw.row("fleet", "c").await.unwrap();
    assert_eq!((c.get("checkpoint"), c.get("pendingCheckpoint")), (Some(&text("42")), None));
    assert_eq!(c.get("ownerSwitchesSinceCheckpoint"), Some(&number("1")), "worker-1's time is not over");
    assert_eq!(c.get("throughputKBps").unwrap().as_n().unwrap().parse(), Ok(1.5));
    assert_eq!(c.get("somethingNew"), Some(&AttributeValue::M(item([("inside", text("kept"))]))));
    assert!(raw.row("fleet", "leader").await.is_some());
}

async fn the_older_of_two_copies_stops_before_the_newer_begins(emulator: &Emulator) {
    let (table, clock) = (emulator.table("race").await, Manual::new());
    let older = keep(&table, &clock, "job/1", states(&[("a", 1), ("b", 0)])).await;
    older.may_commit().unwrap();
    let newer = keep(&emulator.table("race").await, &clock, "job/2", states(&[("a", 1), ("b", 0)])).await;
    until(&clock, "the newer copy may commit", || async {
        let may = (older.may_commit().is_ok(), newer.may_commit().is_ok());
        assert_ne!(may, (true, true), "both may commit");
        may.1
    })
    .await;
    let error = older.may_commit().unwrap_err().to_string();
    assert!(error.contains("\"job/2\""), "{error}");
    newer.ready().await.unwrap();
    newer.stop().await.unwrap();
}

async fn lost_answers_are_no_lost_leases(emulator: &Emulator) {
    emulator.table("deaf").await;
    let (proxy, clock) = (emulator.proxy().await, Manual::new());
    let table = table(&proxy.endpoint, "deaf", IfAbsent::Refuse).await.unwrap();
    proxy.lose("PutItem");
    let job = states(&[("a", 1), ("b", 0)]);
    let mut starting = Box::pin(keep(&table, &clock, "job/1", job));
    let keeper = loop {
        tokio::select! {
            keeper = &mut starting => break keeper,
            () = tokio::time::sleep(Duration::from_millis(20)) => {
                clock.jump(Duration::from_millis(100));
                if proxy.lost() > 3 {
                    proxy.lose_nothing();
                }
            }
        }
    };
    for (round, operation) in ["UpdateItem", "GetItem", "UpdateItem"].into_iter().enumerate() {
        let number = 10 + round as u64;
        let lost = proxy.lost();
        keeper.committed(states(&[("a", number), ("b", number)]));
        proxy.lose(operation);
        if operation == "UpdateItem" {
            until(&clock, "an answer was lost", || async { proxy.lost() > lost }).await;
        }
        proxy.lose_nothing();
        until(&clock, "the mirror is written", || async { checkpoint(&table, "a").await == Some(at(number)) }).await;
        keeper.may_commit().unwrap();
    }
    proxy.set_down(true);
    until(&clock, "the leases expire", || async { keeper.may_commit().is_err() }).await;
    let error = keeper.may_commit().unwrap_err().to_string();
    assert!(error.contains("could not be renewed for 10s"), "{error}");
}

async fn of_many_that_want_a_lease_one_gets_it(emulator: &Emulator) {
    let table = emulator.table("many").await;
    let free = Lease::new("a", Checkpoint::TrimHorizon);
    for round in 0..10 {
        let seen = Lease { key: format!("a{round}"), ..free.clone() };
        let created = Change { seen: None, then: Some(seen.clone()) };
        assert_eq!(table.write(&created).await.unwrap(), Written::Done);
        assert_eq!(table.write(&created).await.unwrap(), Written::Done, "the same again is the same");
        let takers = (0..16).map(|taker| {
            let (table, then) = (table.clone(), Some(seen.taken_by(&format!("w{taker}"))));
            let change = Change { seen: Some(seen.clone()), then };
            tokio::spawn(async move { table.write(&change).await.unwrap() })
        });
        let mut done = 0;
        for taker in takers.collect::<Vec<_>>() {
            done += usize::from(taker.await.unwrap() == Written::Done);
        }
        assert_eq!(done, 1);
    }
}

/// More than what one page of a scan holds.
async fn all_pages_of_a_table_are_read(emulator: &Emulator) {
    let (table, raw) = (emulator.table("pages").await, emulator.raw());
    for shard in 0..30 {
        let lease = Lease::new(&format!("shard-{shard:03}"), Checkpoint::TrimHorizon);
        let mut item = lease.item();
        item.insert("ballast".to_owned(), text(&"x".repeat(100_000)));
        raw.put("pages", item).await;
    }
    assert_eq!(table.leases().await.unwrap().len(), 30);
}

async fn what_is_no_lease_table_is_refused(emulator: &Emulator) {
    let error = |name: &'static str| {
        let endpoint = emulator.endpoint.clone();
        async move { table(&endpoint, name, IfAbsent::Refuse).await.unwrap_err().to_string() }
    };
    assert!(error("nowhere").await.ends_with("there is no such table"), "{}", error("nowhere").await);
    let attribute = AttributeDefinition::builder().attribute_name("id").attribute_type(ScalarAttributeType::S);
    let key = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash);
    let call = emulator.raw().0.create_table().table_name("other").billing_mode(BillingMode::PayPerRequest);
    let call = call.attribute_definitions(attribute.build().unwrap()).key_schema(key.build().unwrap());
    call.send().await.unwrap();
    assert!(error("other").await.contains("its key is not the string \"leaseKey\" alone"), "{}", error("other").await);
    let table = emulator.table("malformed").await;
    emulator.raw().put("malformed", item([("leaseKey", text("a")), ("leaseCounter", text("1"))])).await;
    let error = take_over(&table, &WallClock, FAILOVER, TakeOver::Force, &metrics()).await.unwrap_err().to_string();
    assert!(error.contains("\"malformed\"") && error.contains("attribute \"checkpoint\" of row \"a\""), "{error}");
}

async fn a_job_of_many_shards_is_mirrored_in_time(emulator: &Emulator) {
    let (table, clock) = (emulator.table("large").await, Manual::new());
    let shards: Vec<String> = (0..200).map(|shard| format!("shard-{shard}")).collect();
    let job = |number: u64| shards.iter().map(|shard| (shard.clone(), read_to(number, &[]))).collect::<States>();
    let keeper = keep(&table, &clock, "job/1", job(1)).await;
    keeper.committed(job(2));
    clock.jump(MIRROR);
    until(&clock, "all are mirrored", || async {
        table.leases().await.unwrap().iter().filter(|row| row.checkpoint == at(2)).count() == shards.len()
    })
    .await;
    keeper.may_commit().unwrap();
    keeper.stop().await.unwrap();
    assert!(table.leases().await.unwrap().iter().all(|row| row.owner.is_none()));
}

async fn everything(emulator: &Emulator) {
    what_is_no_lease_table_is_refused(emulator).await;
    rows_are_in_the_librarys_types(emulator).await;
    a_fleets_table_is_taken_over_and_handed_back(emulator).await;
    of_many_that_want_a_lease_one_gets_it(emulator).await;
    all_pages_of_a_table_are_read(emulator).await;
    lost_answers_are_no_lost_leases(emulator).await;
    the_older_of_two_copies_stops_before_the_newer_begins(emulator).await;
    a_job_of_many_shards_is_mirrored_in_time(emulator).await;
}

#[tokio::test]
async fn leases_are_kept_in_a_table_of_ministack() {
    let Some(emulator) = Emulator::ministack().await else { return };
    everything(&emulator).await;
}

#[tokio::test]
async fn leases_are_kept_in_a_table_of_dynalite() {
    let Some(emulator) = Emulator::dynalite().await else { return };
    everything(&emulator).await;
}
