//! What an answer from another shard leads to.

use super::super::item::Ticket;
use super::super::shards::Shard;
use super::*;
use shardflow_aws::kpl::UserRecord;

fn shard(id: &str, first: u128, last: u128, is_open: bool) -> Shard {
    Shard { id: id.into(), range: Range { first, last }, is_open }
}

fn before() -> ShardMap {
    ShardMap::new(vec![shard("parent", 0, u128::MAX, true)]).unwrap()
}

fn after() -> ShardMap {
    let parent = shard("parent", 0, u128::MAX, false);
    ShardMap::new(vec![parent, shard("low", 0, 99, true), shard("high", 100, u128::MAX, true)]).unwrap()
}

/// An aggregate of records of these hash keys.
fn entry(hashes: &[u128]) -> Entry<u64> {
    let ticket = |(hash, number): (&u128, u64)| Ticket {
        number,
        era: 0,
        put_at: Instant::now(),
        hash: *hash,
        maybe_there: false,
        reply: number,
    };
    let item = |ticket| Item { record: UserRecord::default(), ticket };
    let items = hashes.iter().zip(0..).map(ticket).map(item).collect();
    Entry { predicted: Some("parent".into()), ..Entry::new(0, items, 1, true) }
}

fn at(shard: &str) -> At {
    At { shard: shard.into(), sequence: "7".into() }
}

#[test]
fn what_lies_where_it_was_predicted_is_placed_and_nothing_is_listed() {
    let mut placing = Placing::new(before());
    assert!(placing.landed(entry(&[5, 500]), at("parent")).is_some());
    assert!(!placing.is_stale() && placing.lists_at(Instant::now()).is_none());
}

#[test]
fn after_a_split_records_of_the_shard_are_placed_and_the_others_go_again() {
    let (mut placing, now) = (Placing::new(before()), Instant::now());
    assert!(placing.landed(entry(&[5, 500, 6]), at("low")).is_none(), "in doubt");
    assert!(placing.is_stale());
    assert_eq!(placing.lists_at(now), Some(now));
    placing.asked(now);
    assert!(placing.lists_at(now).is_none() && placing.resolve().is_none());
    placing.listed(Some(after()));
    let Resolved { placed, again, .. } = placing.resolve().unwrap();
    let placed: Vec<_> = placed.iter().map(|(item, placed)| (item.ticket.reply, placed.sub_sequence)).collect();
    assert_eq!(placed, [(0, Some(0)), (2, Some(2))]);
    assert_eq!(again.iter().map(|item| (item.ticket.reply, item.ticket.maybe_there)).collect::<Vec<_>>(), [(1, true)]);
    assert!(!placing.is_stale() && placing.is_by_hash);
    assert_eq!(placing.predict(500).1.as_deref(), Some("high"));
}

#[test]
fn an_aggregate_of_one_hash_key_is_where_it_belongs_and_the_shards_are_listed_all_the_same() {
    let mut placing = Placing::new(before());
    assert!(placing.landed(entry(&[5, 5]), at("low")).is_some());
    assert!(placing.is_stale());
}

#[test]
fn shards_are_listed_once_a_second_until_the_listing_knows_the_shard() {
    let (mut placing, start) = (Placing::new(before()), Instant::now());
    placing.landed(entry(&[5, 500]), at("low"));
    let mut now = start;
    for _ in 0..MOST_TRIES {
        assert_eq!(placing.lists_at(now), Some(now));
        placing.asked(now);
        placing.listed(Some(before()));
        assert!(placing.resolve().is_none() && placing.is_stale());
        let next = now + LISTING_INTERVAL;
        assert_eq!(placing.lists_at(now), Some(next));
        now = next;
    }
    placing.asked(now);
    placing.listed(Some(before()));
    // Nobody knows that shard: only the record that the aggregate was sent by lies there for sure.
    assert_eq!(placing.resolve().map(|resolved| (resolved.placed.len(), resolved.again.len())), Some((1, 1)));
    assert!(placing.is_blind());
}

#[test]
fn where_the_shards_cannot_be_listed_each_record_goes_alone_until_they_can() {
    let (mut placing, now) = (Placing::new(before()), Instant::now());
    placing.landed(entry(&[5, 500, 5]), at("low"));
    placing.asked(now);
    placing.listed(None);
    let Resolved { placed, again, .. } = placing.resolve().unwrap();
    let placed: Vec<u64> = placed.iter().map(|(item, _)| item.ticket.reply).collect();
    assert_eq!((placed, again.len()), (vec![0, 2], 1));
    assert!(placing.is_blind() && !placing.is_stale());
    // Alone, wherever it lies is where it belongs.
    assert!(placing.landed(entry(&[500]), at("high")).is_some() && !placing.is_stale());
    assert_eq!(placing.lists_at(now), Some(now + BLIND_INTERVAL));
    placing.asked(now + BLIND_INTERVAL);
    placing.listed(Some(after()));
    assert!(placing.is_stale(), "nothing goes until everything is laid out for the new shards");
    let Resolved { placed, again, .. } = placing.resolve().unwrap();
    assert!(placed.is_empty() && again.is_empty() && !placing.is_blind() && !placing.is_stale());
    assert_eq!(placing.predict(500).1.as_deref(), Some("high"));
}

#[test]
fn a_stream_that_does_not_place_by_hash_is_found_out_and_its_answers_are_taken_as_they_are() {
    let mut placing = Placing::new(before());
    placing.landed(entry(&[5, 500]), at("high"));
    placing.asked(Instant::now());
    placing.listed(Some(after()));
    // It was sent to hash key 5 and lies in the shard of 100 and more.
    let Resolved { placed, again, unpredictable } = placing.resolve().unwrap();
    assert_eq!((placed.len(), again.len(), unpredictable.as_deref()), (2, 0, Some("high")));
    assert!(!placing.is_by_hash);
    assert!(placing.landed(entry(&[5, 500]), at("low")).is_some() && !placing.is_stale());
}
