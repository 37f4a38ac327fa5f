//! Rows as the library writes them, read and written.

use aws_sdk_dynamodb::primitives::Blob;
use proptest::prelude::*;

use super::*;

const SEQUENCE: &str = "49590338271490256608559692538361571095921575989136588898";

/// A row with everything that the library may put there.
fn full() -> Item {
    let names = |names: &[&str]| AttributeValue::Ss(names.iter().map(ToString::to_string).collect());
    [
        ("leaseKey", text("shardId-000000000002")),
        ("leaseOwner", text("worker-1")),
        ("checkpointOwner", text("worker-0")),
        ("leaseCounter", number(41)),
        ("ownerSwitchesSinceCheckpoint", number(2)),
        ("checkpoint", text(SEQUENCE)),
        ("checkpointSubSequenceNumber", number(5)),
        ("pendingCheckpoint", text("9")),
        ("pendingCheckpointSubSequenceNumber", number(0)),
        ("pendingCheckpointState", AttributeValue::B(Blob::new(b"state"))),
        ("parentShardId", names(&["shardId-000000000000", "shardId-000000000001"])),
        ("childShardIds", names(&["shardId-000000000003"])),
        ("startingHashKey", text("0")),
        ("endingHashKey", text("340282366920938463463374607431768211455")),
        ("throughputKBps", AttributeValue::N("1.5".to_owned())),
        ("entityType", text("LEASE")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn read(item: &Item) -> Lease {
    Lease::read(item).unwrap().expect("a lease")
}

#[test]
fn every_attribute_of_a_row_is_understood() {
    let lease = read(&full());
    assert_eq!(lease.key, "shardId-000000000002");
    assert_eq!((lease.owner.as_deref(), lease.checkpoint_owner.as_deref()), (Some("worker-1"), Some("worker-0")));
    assert_eq!(lease.reader(), Some("worker-0"), "who hands over still reads");
    assert_eq!((lease.counter, lease.switches), (41, 2));
    assert_eq!(lease.checkpoint, Checkpoint::After { number: SEQUENCE.to_owned(), sub: 5 });
    assert_eq!(lease.parents.len(), 2);
    assert_eq!(lease.children, BTreeSet::from(["shardId-000000000003".to_owned()]));
    assert_eq!(lease.hash_range, Some((0, u128::MAX)));
}

#[test]
fn rows_of_other_kinds_are_skipped() {
    for kind in ["STREAM", "LEADER", "CLIENT_VERSION_MIGRATION", "TABLE_MIGRATION", "WORKER_METRIC_STATS", "NEW"] {
        let item = Item::from([(KEY.to_owned(), text("x")), (KIND.to_owned(), text(kind))]);
        assert_eq!(Lease::read(&item), Ok(None), "{kind}");
    }
    let mut old = full();
    old.remove("entityType");
    assert_eq!(read(&old), read(&full()), "old versions name no kind");
}

#[test]
fn rows_of_old_versions_lack_much_and_are_leases_all_the_same() {
    let item = [("leaseKey", text("a")), ("leaseCounter", number(0)), ("checkpoint", text("LATEST"))];
    let item = item.map(|(name, value)| (name.to_owned(), value)).into();
    assert_eq!(read(&item), Lease::new("a", Checkpoint::Latest));
}

#[test]
fn what_cannot_be_understood_is_named_with_its_row() {
    for (name, value, expected) in [
        ("leaseCounter", text("1"), "attribute \"leaseCounter\" of row \"shardId-000000000002\" is no number"),
        ("leaseCounter", AttributeValue::N("-1".to_owned()), "is -1, not a whole number from 0 on"),
        ("checkpoint", number(5), "attribute \"checkpoint\" of row \"shardId-000000000002\" is no string"),
        ("checkpoint", text("SOON"), "is \"SOON\", neither a number nor a known word"),
        ("parentShardId", text("a"), "attribute \"parentShardId\" of row \"shardId-000000000002\" is no string set"),
        ("endingHashKey", text("1e9"), "is \"1e9\", not a hash key below 2^128"),
        ("leaseOwner", AttributeValue::Null(true), "attribute \"leaseOwner\""),
    ] {
        let mut item = full();
        item.insert(name.to_owned(), value);
        let error = Lease::read(&item).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    for name in ["leaseCounter", "checkpoint"] {
        let mut item = full();
        item.remove(name);
        assert!(Lease::read(&item).unwrap_err().contains("is missing"), "{name}");
    }
}

#[test]
fn a_new_row_has_each_attribute_in_the_type_that_the_library_reads() {
    let mut lease = Lease::new("shardId-3", Checkpoint::TrimHorizon).taken_by("job/1/7");
    lease.parents = BTreeSet::from(["shardId-1".to_owned()]);
    lease.hash_range = Some((0, 9));
    let expected = [
        ("leaseKey", text("shardId-3")),
        ("leaseOwner", text("job/1/7")),
        ("leaseCounter", number(1)),
        ("ownerSwitchesSinceCheckpoint", number(0)),
        ("checkpoint", text("TRIM_HORIZON")),
        ("checkpointSubSequenceNumber", number(0)),
        ("parentShardId", AttributeValue::Ss(vec!["shardId-1".to_owned()])),
        ("startingHashKey", text("0")),
        ("endingHashKey", text("9")),
        ("entityType", text("LEASE")),
    ];
    assert_eq!(lease.item(), expected.map(|(name, value)| (name.to_owned(), value)).into());
}

#[test]
fn taking_counts_the_switch_and_ends_a_hand_over() {
    let taken = read(&full()).taken_by("job/1/7");
    assert_eq!((taken.owner.as_deref(), taken.checkpoint_owner), (Some("job/1/7"), None));
    assert_eq!((taken.counter, taken.switches), (42, 3));
    let free = Lease::new("a", Checkpoint::TrimHorizon);
    assert_eq!(free.taken_by("job/1/7").switches, 0, "nobody had it");
}

#[test]
fn a_renewal_writes_the_counter_alone_and_relies_on_owner_and_counter() {
    let seen = read(&full()).taken_by("job/1/7");
    let update = seen.update_to(&seen.renewed());
    assert_eq!(update.writes, [("leaseCounter", Some(number(43)))]);
    let owner = ("leaseOwner", Some(text("job/1/7")));
    assert_eq!(update.expects, [("leaseCounter", Some(number(42))), owner, ("checkpointOwner", None)]);
}

#[test]
fn a_checkpoint_drops_the_pending_one_and_the_count_of_switches() {
    let seen = read(&full());
    let then = seen.advanced(Checkpoint::ShardEnd, &BTreeSet::from(["x".to_owned(), "y".to_owned()]));
    let update = seen.update_to(&then);
    assert_eq!(
        update.writes,
        [
            ("leaseCounter", Some(number(42))),
            ("ownerSwitchesSinceCheckpoint", Some(number(0))),
            ("childShardIds", Some(AttributeValue::Ss(vec!["x".to_owned(), "y".to_owned()]))),
            ("checkpoint", Some(text("SHARD_END"))),
            ("checkpointSubSequenceNumber", Some(number(0))),
            ("pendingCheckpoint", None),
            ("pendingCheckpointSubSequenceNumber", None),
            ("pendingCheckpointState", None),
        ]
    );
}

#[test]
fn giving_up_removes_the_owner_and_moves_the_counter() {
    let held = Lease::new("a", Checkpoint::TrimHorizon).taken_by("job/1/7");
    let update = held.update_to(&held.released());
    assert_eq!(update.writes, [("leaseCounter", Some(number(2))), ("leaseOwner", None)]);
}

fn any_checkpoint() -> impl Strategy<Value = Checkpoint> {
    prop_oneof![
        Just(Checkpoint::AtTimestamp),
        Just(Checkpoint::TrimHorizon),
        Just(Checkpoint::Latest),
        Just(Checkpoint::ShardEnd),
        ("[0-9]{1,60}", any::<u64>()).prop_map(|(number, sub)| Checkpoint::After { number, sub }),
    ]
}

prop_compose! {
    fn any_lease()(
        key in "[a-z]{1,8}", owners in any::<(Option<u8>, Option<u8>)>(), counts in any::<(u64, u64)>(),
        checkpoint in any_checkpoint(), parents in proptest::collection::btree_set("[a-z]{1,4}", 0..3),
        children in proptest::collection::btree_set("[a-z]{1,4}", 0..3), hash_range in any::<Option<(u128, u128)>>(),
    ) -> Lease {
        let name = |number: Option<u8>| number.map(|number| number.to_string());
        let (owner, checkpoint_owner) = (name(owners.0), name(owners.1));
        let (counter, switches) = counts;
        Lease { key, owner, checkpoint_owner, counter, switches, checkpoint, parents, children, hash_range, stream: None }
    }
}

proptest! {
    #[test]
    fn what_is_created_is_read_back(lease in any_lease()) {
        prop_assert_eq!(read(&lease.item()), lease);
    }

    #[test]
    fn an_update_makes_the_row_what_was_meant_and_leaves_the_rest(seen in any_lease(), to in any_checkpoint()) {
        let mut item = seen.item();
        item.insert("somethingNew".to_owned(), text("kept"));
        for then in [seen.renewed(), seen.taken_by("me"), seen.released(), seen.advanced(to.clone(), &seen.parents)] {
            let mut changed = item.clone();
            for (name, value) in seen.update_to(&then).writes {
                match value {
                    Some(value) => changed.insert(name.to_owned(), value),
                    None => changed.remove(name),
                };
            }
            prop_assert_eq!(read(&changed), then);
            prop_assert_eq!(changed.get("somethingNew"), Some(&text("kept")));
        }
    }
}
