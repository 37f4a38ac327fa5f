//! The queue by itself: what goes together, what waits, and that nothing is lost.

use proptest::prelude::*;
use shardflow::retry::Failed;

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

fn record(id: u64, key: &str, bytes: usize) -> PutRecord {
    PutRecord::new(id, key.to_owned(), None, vec![0; bytes], CALL_BYTES).unwrap()
}

fn ids(taken: &[Waiting]) -> Vec<u64> {
    taken.iter().map(|waiting| waiting.record.id()).collect()
}

fn keys(taken: &[Waiting]) -> Vec<String> {
    taken.iter().map(|waiting| waiting.record.partition_key().to_owned()).collect()
}

fn throttled() -> Failure {
    Failure { remedy: Remedy::Retry(Failed::Throttled), text: "slow down".to_owned() }
}

#[test]
fn a_call_holds_no_more_records_and_bytes_than_the_service_takes() {
    let now = Instant::now();
    let mut queue = Queue::new(false);
    queue.add((0..700).map(|id| record(id, "k", 1)).collect());
    assert_eq!(queue.take(now, usize::MAX).len(), 500);
    assert_eq!(queue.take(now, 150).len(), 150);
    assert_eq!((queue.take(now, usize::MAX).len(), queue.is_empty()), (50, true));
    queue.add(vec![record(0, "k", CALL_BYTES - 1), record(1, "k", 0), record(2, "k", 0)]);
    assert_eq!(ids(&queue.take(now, usize::MAX)), [0]);
    assert_eq!(ids(&queue.take(now, usize::MAX)), [1, 2]);
}

#[test]
fn room_ends_with_records_and_with_bytes() {
    let mut queue = Queue::new(false);
    queue.add((0..4_999).map(|id| record(id, "k", 0)).collect());
    assert!(queue.has_room());
    queue.add(vec![record(5_000, "k", 0)]);
    assert!(!queue.has_room());
    let mut queue = Queue::new(false);
    queue.add((0..4).map(|id| record(id, "k", CALL_BYTES - 1)).collect());
    assert!(!queue.has_room());
}

#[test]
fn where_order_is_kept_a_key_goes_once_at_a_time() {
    let now = Instant::now();
    let mut queue = Queue::new(true);
    queue.add(vec![record(0, "a", 1), record(1, "a", 1), record(2, "b", 1), record(3, "a", 1)]);
    let first = queue.take(now, usize::MAX);
    assert_eq!(ids(&first), [0, 2]);
    assert!(queue.take(now, usize::MAX).is_empty(), "both keys are under way");
    queue.answered(["b"].into_iter(), Vec::new());
    assert!(queue.take(now, usize::MAX).is_empty());
    queue.answered(["a"].into_iter(), Vec::new());
    assert_eq!(ids(&queue.take(now, usize::MAX)), [1]);
}

#[test]
fn where_order_is_kept_a_refused_record_holds_back_those_of_its_key_and_no_others() {
    let now = Instant::now();
    let mut queue = Queue::new(true);
    queue.add(vec![record(0, "a", 1), record(1, "a", 1), record(2, "b", 1)]);
    let mut sent = queue.take(now, 1);
    sent[0].failed(&throttled(), now, 1.0, PATIENCE).unwrap();
    queue.answered(["a"].into_iter(), sent);
    assert_eq!(ids(&queue.take(now, usize::MAX)), [2]);
    let later = queue.ready_at().unwrap();
    assert_eq!(later - now, Duration::from_millis(200));
    assert_eq!(ids(&queue.take(later, usize::MAX)), [0]);
}

#[test]
fn what_cannot_pass_or_lasts_is_hopeless_and_throttling_is_not() {
    let now = Instant::now();
    let mut waiting = Waiting::new(record(0, "a", 1));
    let lasts = Failure { remedy: Remedy::Retry(Failed::Transient), text: String::new() };
    waiting.failed(&lasts, now, 0.5, PATIENCE).unwrap();
    assert_eq!(waiting.failed(&lasts, now + PATIENCE, 0.5, PATIENCE), Err(Hopeless));
    let mut waiting = Waiting::new(record(0, "a", 1));
    for hour in 0..100 {
        waiting.failed(&throttled(), now + Duration::from_secs(3600 * hour), 0.5, PATIENCE).unwrap();
    }
    let never = Failure { remedy: Remedy::None, text: String::new() };
    assert_eq!(waiting.failed(&never, now, 0.5, PATIENCE), Err(Hopeless));
}

proptest! {
    /// A service that refuses at random and answers out of order.
    #[test]
    fn every_record_is_put_once_and_each_keys_in_order_where_that_is_kept(
        ordered: bool,
        chosen in proptest::collection::vec(0u8..6, 1..300),
        chances in proptest::collection::vec((any::<bool>(), 0usize..4, 1usize..40), 1..400),
    ) {
        let mut now = Instant::now();
        let mut queue = Queue::new(ordered);
        let records = chosen.iter().zip(0..).map(|(key, id)| record(id, &key.to_string(), 1));
        queue.add(records.collect());
        let (mut calls, mut put) = (Vec::new(), Vec::new());
        let mut chances = chances.into_iter().cycle();
        let mut steps = 0;
        while !(queue.is_empty() && calls.is_empty()) {
            steps += 1;
            prop_assert!(steps < 20_000, "it does not end");
            let (refuses, pick, most) = chances.next().unwrap();
            let batch = queue.take(now, most);
            if !batch.is_empty() && calls.len() < 4 {
                calls.push(batch);
            } else if !batch.is_empty() {
                queue.answered(keys(&batch).iter().map(String::as_str), batch);
            }
            if calls.is_empty() {
                now = queue.ready_at().unwrap_or(now);
                continue;
            }
            let sent = calls.remove(pick % calls.len());
            let of = keys(&sent);
            let mut again = Vec::new();
            for (place, mut waiting) in sent.into_iter().enumerate() {
                // A refusal now and then, and none for ever: the dice of a service that always refuses would not end.
                if refuses && (place + steps) % 3 == 0 {
                    waiting.failed(&throttled(), now, 0.0, PATIENCE).unwrap();
                    again.push(waiting);
                } else {
                    put.push((waiting.record.partition_key().to_owned(), waiting.record.id()));
                }
            }
            queue.answered(of.iter().map(String::as_str), again);
        }
        if ordered {
            for key in 0..6u8 {
                let of_key: Vec<u64> = put.iter().filter(|(k, _)| *k == key.to_string()).map(|(_, id)| *id).collect();
                prop_assert!(of_key.is_sorted(), "{key}: {of_key:?}");
            }
        }
        let mut all: Vec<u64> = put.into_iter().map(|(_, id)| id).collect();
        all.sort_unstable();
        prop_assert_eq!(all, (0..chosen.len() as u64).collect::<Vec<_>>());
        prop_assert_eq!(queue.bytes, 0);
    }
}
