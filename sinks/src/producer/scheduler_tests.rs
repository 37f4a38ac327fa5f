//! The scheduler by itself: what goes when, and, against a stream that fails at random, that nothing is lost and order is kept.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use shardflow::Outcome;
use shardflow::retry::Failed;
use shardflow_aws::failure::{Failure, Remedy};
use shardflow_aws::hash::hash_of;

use super::super::item::{Answer, At, Fate};
use super::super::shards::{Range, Shard};
use super::*;

#[path = "simulated.rs"]
mod simulated;

use simulated::{Course, Simulation};

pub(super) const LIMITS: Limits = Limits {
    call_records: 500,
    call_bytes: 5 << 20,
    calls: 4,
    linger: Duration::from_millis(100),
    give_up_after: Duration::from_secs(60),
    // As if shards took whatever comes.
    shard_percent: u32::MAX,
};

fn record(key: &str, data: &str) -> UserRecord {
    UserRecord { partition_key: key.to_owned(), data: data.into(), ..UserRecord::default() }
}

fn put(scheduler: &mut Scheduler<u64>, key: &str, id: u64, now: Instant) -> bool {
    scheduler.put(record(key, &id.to_string()), hash_of(key), now, id)
}

fn put_all(scheduler: &mut Scheduler<u64>, records: u64, now: Instant) {
    for id in 0..records {
        put(scheduler, "k", id, now);
    }
}

fn ids(call: &Call<u64>) -> Vec<u64> {
    call.entries.iter().flat_map(|entry| entry.items.iter().map(|item| item.ticket.reply)).collect()
}

fn only(mut calls: Vec<Call<u64>>) -> Call<u64> {
    assert_eq!(calls.len(), 1);
    calls.remove(0)
}

fn failure(failed: Failed) -> Failure {
    Failure { remedy: Remedy::Retry(failed), text: "not now".to_owned() }
}

fn at(sequence: u64) -> Result<At, Failure> {
    Ok(At { shard: "s".into(), sequence: sequence.to_string().into() })
}

fn all(call: &Call<u64>) -> Answer {
    Answer::Each(call.entries.iter().map(|entry| at(entry.number())).collect())
}

fn one_shard() -> ShardMap {
    let range = Range { first: 0, last: u128::MAX };
    ShardMap::new(vec![Shard { id: "s".into(), range, is_open: true }]).unwrap()
}

#[test]
fn a_record_lingers_for_others_and_they_go_together() {
    let (mut scheduler, start) = (Scheduler::new(LIMITS, false, None), Instant::now());
    assert!(put(&mut scheduler, "a", 0, start), "the first sets the time");
    assert!(!put(&mut scheduler, "b", 1, start + Duration::from_millis(60)));
    let step = scheduler.step(start + Duration::from_millis(99));
    assert!(step.calls.is_empty());
    assert_eq!(step.wake, Some(start + LIMITS.linger));
    let step = scheduler.step(start + LIMITS.linger);
    assert_eq!(ids(&only(step.calls)), [0, 1]);
    assert_eq!(step.wake, None);
}

#[test]
fn a_full_call_goes_at_once_and_the_rest_lingers() {
    let (mut scheduler, now) = (Scheduler::new(LIMITS, false, None), Instant::now());
    let looks: Vec<bool> = (0..700).map(|id| put(&mut scheduler, "k", id, now)).collect();
    assert!(looks[0] && !looks[1] && !looks[498] && looks[499]);
    let call = only(scheduler.step(now).calls);
    assert_eq!(call.entries.len(), 500);
    let bytes = Limits { call_bytes: 10, ..LIMITS };
    let mut scheduler = Scheduler::new(bytes, false, None);
    scheduler.put(record("k", "1234567"), 0, now, 0);
    scheduler.put(record("k", "1"), 0, now, 1);
    assert_eq!(ids(&only(scheduler.step(now).calls)), [0, 1]);
    scheduler.put(record("k", "too large for any call"), 0, now, 2);
    scheduler.put(record("k", ""), 0, now, 3);
    let calls = scheduler.step(now).calls;
    assert_eq!(ids(&only(calls)), [2], "alone, and what is behind it lingers");
}

#[test]
fn a_flush_a_press_and_the_end_wait_for_nothing() {
    for how in 0..3 {
        let (mut scheduler, now) = (Scheduler::new(LIMITS, false, None), Instant::now());
        put(&mut scheduler, "k", 0, now);
        match how {
            0 => {
                scheduler.hurry();
            }
            1 => scheduler.press(true),
            _ => scheduler.close(),
        }
        let step = scheduler.step(now);
        assert!(!step.is_done);
        let call = only(step.calls);
        let answer = all(&call);
        assert_eq!(scheduler.answered(call, answer, now, 0.5).settled.len(), 1);
        assert_eq!(scheduler.step(now).is_done, how == 2);
    }
}

#[test]
fn what_is_put_after_a_flush_lingers_again() {
    let (mut scheduler, now) = (Scheduler::new(LIMITS, false, None), Instant::now());
    put(&mut scheduler, "k", 0, now);
    let before = scheduler.hurry();
    let call = only(scheduler.step(now).calls);
    put(&mut scheduler, "k", 1, now);
    assert!(scheduler.step(now).calls.is_empty() && !scheduler.has_settled(before));
    let answer = all(&call);
    scheduler.answered(call, answer, now, 0.5);
    assert!(scheduler.has_settled(before));
}

#[test]
fn only_what_failed_goes_again_after_a_wait_that_grows() {
    let (mut scheduler, mut now) = (Scheduler::new(LIMITS, false, None), Instant::now());
    put_all(&mut scheduler, 4, now);
    scheduler.hurry();
    let call = only(scheduler.step(now).calls);
    let throttled = || Err(failure(Failed::Throttled));
    let answered = scheduler.answered(call, Answer::Each(vec![at(0), throttled(), at(2), throttled()]), now, 1.0);
    let settled: Vec<u64> = answered.settled.iter().map(|settled| settled.reply).collect();
    assert_eq!((settled, answered.retried.throttled), (vec![0, 2], 2));
    for wait in [200, 400, 800] {
        let step = scheduler.step(now);
        assert!(step.calls.is_empty());
        let next = now + Duration::from_millis(wait);
        assert_eq!(step.wake, Some(next));
        now = next;
        let call = only(scheduler.step(now).calls);
        assert_eq!(ids(&call), [1, 3]);
        scheduler.answered(call, Answer::Each(vec![throttled(), throttled()]), now, 1.0);
    }
}

#[test]
fn throttling_is_never_given_up_on_and_other_failures_are_when_they_last() {
    let start = Instant::now();
    for (failed, maybe_there, ends) in [
        (Failed::Throttled, false, None),
        (Failed::Transient, false, Some(Outcome::Determinate)),
        (Failed::Transient, true, Some(Outcome::Indeterminate)),
    ] {
        let mut scheduler = Scheduler::new(LIMITS, true, None);
        put(&mut scheduler, "k", 0, start);
        put(&mut scheduler, "k", 1, start);
        scheduler.hurry();
        let mut now = start;
        let mut outcome = None;
        while outcome.is_none() && now < start + Duration::from_secs(3_600) {
            let step = scheduler.step(now);
            let Some(call) = step.calls.into_iter().next() else {
                now = step.wake.unwrap();
                continue;
            };
            assert_eq!(ids(&call), [0], "the second waits for the first");
            let answer = Answer::Failed { failure: failure(failed), maybe_there, blames_a_record: false };
            let settled = scheduler.answered(call, answer, now, 0.5).settled;
            outcome = settled.first().map(|settled| match &settled.fate {
                Fate::Failed(trouble) => trouble.outcome,
                fate => panic!("{fate:?}"),
            });
        }
        assert_eq!(outcome, ends);
        if ends.is_some() {
            assert!(now >= start + LIMITS.give_up_after);
            now += Duration::from_secs(10);
            assert_eq!(ids(&only(scheduler.step(now).calls)), [1], "the second goes on");
        }
    }
}

#[test]
fn what_cannot_pass_ends_at_once() {
    let (mut scheduler, now) = (Scheduler::new(LIMITS, false, None), Instant::now());
    put(&mut scheduler, "k", 0, now);
    scheduler.hurry();
    let call = only(scheduler.step(now).calls);
    let denied = Failure { remedy: Remedy::None, text: "AccessDeniedException: no".to_owned() };
    let answer = Answer::Failed { failure: denied, maybe_there: false, blames_a_record: false };
    let settled = scheduler.answered(call, answer, now, 0.5).settled;
    assert!(matches!(&settled[0].fate, Fate::Failed(trouble) if trouble.text.contains("AccessDenied")));
}

#[test]
fn the_record_that_a_call_is_refused_for_is_found_and_the_others_are_put() {
    let (mut scheduler, now) = (Scheduler::new(LIMITS, false, None), Instant::now());
    put_all(&mut scheduler, 300, now);
    scheduler.hurry();
    let (mut refused, mut placed, mut calls) = (Vec::new(), 0, 0);
    loop {
        let step = scheduler.step(now);
        if step.calls.is_empty() {
            break;
        }
        for call in step.calls {
            calls += 1;
            let is_refused = ids(&call).contains(&77) || ids(&call).contains(&200);
            let text = "ValidationException: a record is too large".to_owned();
            let answer = if is_refused {
                let failure = Failure { remedy: Remedy::None, text };
                Answer::Failed { failure, maybe_there: false, blames_a_record: true }
            } else {
                all(&call)
            };
            for settled in scheduler.answered(call, answer, now, 0.5).settled {
                match settled.fate {
                    Fate::Refused(record) => refused.push((settled.reply, record.reason.contains("too large"))),
                    Fate::Placed(_) => placed += 1,
                    Fate::Failed(trouble) => panic!("{trouble}"),
                }
            }
        }
    }
    refused.sort_unstable();
    assert_eq!((refused, placed), (vec![(77, true), (200, true)], 298));
    assert!(calls < 60, "{calls}");
}

#[test]
fn a_key_goes_once_at_a_time_where_order_is_kept_and_an_aggregate_holds_many_of_it() {
    let now = Instant::now();
    let keys = ["a", "a", "b", "a", "b"];
    let fill = |scheduler: &mut Scheduler<u64>| {
        for (key, id) in keys.iter().zip(0..) {
            put(scheduler, key, id, now);
        }
        scheduler.hurry();
    };
    let mut plain = Scheduler::new(LIMITS, true, None);
    fill(&mut plain);
    let call = only(plain.step(now).calls);
    assert_eq!(ids(&call), [0, 2]);
    assert!(plain.step(now).calls.is_empty(), "both keys are on their way");
    let answer = all(&call);
    plain.answered(call, answer, now, 0.5);
    assert_eq!(ids(&only(plain.step(now).calls)), [1, 4]);
    let mut packed = Scheduler::new(LIMITS, true, Some((Aggregation::default(), one_shard())));
    fill(&mut packed);
    let call = only(packed.step(now).calls);
    assert_eq!((ids(&call), call.entries.len()), (vec![0, 1, 2, 3, 4], 1));
    put(&mut packed, "a", 5, now);
    packed.hurry();
    assert!(packed.step(now).calls.is_empty(), "the shard's aggregate is on its way");
    let answer = all(&call);
    let settled = packed.answered(call, answer, now, 0.5).settled;
    let places: Vec<_> = settled
        .iter()
        .map(|settled| match &settled.fate {
            Fate::Placed(placed) => placed.sub_sequence,
            fate => panic!("{fate:?}"),
        })
        .collect();
    assert_eq!(places, (0..5).map(Some).collect::<Vec<_>>());
    let call = only(packed.step(now).calls);
    assert_eq!((ids(&call), call.entries[0].is_aggregate), (vec![5], false));
}

#[test]
fn an_aggregate_waits_until_it_is_full_or_due() {
    let (mut scheduler, start) = (
        Scheduler::new(
            Limits { calls: 100, ..LIMITS },
            false,
            Some((Aggregation { bytes: 200, records: usize::MAX }, one_shard())),
        ),
        Instant::now(),
    );
    for id in 0..100 {
        put(&mut scheduler, "k", id, start + Duration::from_millis(id));
    }
    assert!(scheduler.step(start + Duration::from_millis(99)).calls.is_empty(), "there is no full call");
    let call = only(scheduler.step(start + Duration::from_millis(100)).calls);
    let sizes: Vec<usize> = call.entries.iter().map(|entry| entry.items.len()).collect();
    let packed: usize = sizes.iter().sum();
    assert!(sizes.iter().all(|size| (21..=24).contains(size)), "each is full: {sizes:?}");
    assert!((76..100).contains(&packed), "full ones go along, the rest lingers: {sizes:?}");
}

/// A shard with 60 records of 10,000 bytes that are packed by tens, and go at so many percent of what it takes.
fn of_one_shard(percent: u32, now: Instant) -> Scheduler<u64> {
    let most = Aggregation { bytes: 110_000, records: 10 };
    let limits = Limits { shard_percent: percent, ..LIMITS };
    let mut scheduler = Scheduler::new(limits, false, Some((most, one_shard())));
    for id in 0..60 {
        scheduler.put(record("k", &"x".repeat(10_000)), hash_of("k"), now, id);
    }
    scheduler.close();
    scheduler
}

#[test]
fn packed_records_go_to_a_shard_as_fast_as_it_takes_them() {
    let start = Instant::now();
    let (mut scheduler, mut now, mut sent) = (of_one_shard(20, start), start, Vec::new());
    while sent.len() < 6 {
        let step = scheduler.step(now);
        for call in step.calls {
            sent.extend(call.entries.iter().map(|_| (now - start).as_millis()));
            let answer = all(&call);
            scheduler.answered(call, answer, now, 0.0);
        }
        if sent.len() < 6 {
            let wake = step.wake.unwrap();
            assert!(wake > now, "it would look again and again");
            assert!(!put(&mut scheduler, "k", 99, now), "nor does a put let it look before that");
            now = wake;
        }
    }
    // As many as it takes in a second at once, then one whenever the last has been taken, of some 477 ms each.
    assert_eq!(sent, [0, 0, 1_000, 1_477, 1_954, 2_431]);
}

#[test]
fn a_record_does_not_wait_for_the_pace_of_another_shard() {
    let half = u128::MAX / 2;
    let shard = |id: &str, first, last| Shard { id: id.into(), range: Range { first, last }, is_open: true };
    let map = ShardMap::new(vec![shard("low", 0, half), shard("high", half + 1, u128::MAX)]).unwrap();
    let limits = Limits { shard_percent: 100, ..LIMITS };
    let (mut scheduler, start) = (Scheduler::new(limits, false, Some((Aggregation::default(), map))), Instant::now());
    let large = || record("k", &"x".repeat((1 << 20) - 1));
    scheduler.put(large(), 1, start, 0);
    scheduler.put(large(), 1, start, 1);
    // Larger than any aggregate, so it goes alone; the shard takes the second a second later.
    let lingered = start + LIMITS.linger;
    let step = scheduler.step(lingered);
    assert_eq!((ids(&only(step.calls)), step.wake), (vec![0], Some(lingered + Duration::from_secs(1))));
    let later = lingered + Duration::from_millis(10);
    assert!(scheduler.put(record("k", "small"), u128::MAX, later, 2));
    assert!(!scheduler.put(record("k", "small"), u128::MAX, later, 3), "only the first sets the time");
    let step = scheduler.step(later);
    assert_eq!((step.calls.len(), step.wake), (0, Some(later + LIMITS.linger)));
    assert_eq!(ids(&only(scheduler.step(later + LIMITS.linger).calls)), [2, 3]);
}

#[test]
fn what_a_shard_has_refused_goes_before_anything_new() {
    let start = Instant::now();
    let (mut scheduler, mut now) = (of_one_shard(30, start), start);
    let refused = MOST_THROTTLED + 1;
    for wait in [200, 400, 800] {
        let call = only(scheduler.step(now).calls);
        assert_eq!(call.entries.len(), refused);
        let answer = Answer::Each(call.entries.iter().map(|_| Err(failure(Failed::Throttled))).collect());
        scheduler.answered(call, answer, now, 1.0);
        now += Duration::from_millis(wait);
    }
    // Its pace would let more go by then.
    assert!(scheduler.step(start + Duration::from_millis(1_300)).calls.is_empty());
    let call = only(scheduler.step(now).calls);
    let (first, rest) = call.entries.split_at(refused);
    assert!(first.iter().all(|entry| entry.backoff.is_some()), "{call:?}");
    assert!(!rest.is_empty() && rest.iter().all(|entry| entry.backoff.is_none()), "{call:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_fails_every_record_is_put_and_where_that_is_kept_in_its_order(
        seed: u64, is_ordered: bool, packs: bool, records in 1u64..200, keys in 1u64..8,
    ) {
        let course = Course { seed, is_ordered, packs, records, keys, is_by_hash: true };
        Simulation::new(course).run();
    }

    #[test]
    fn a_stream_that_places_by_chance_gets_every_record_too(
        seed: u64, is_ordered: bool, packs: bool, records in 1u64..100,
    ) {
        let course = Course { seed, is_ordered, packs, records, keys: 5, is_by_hash: false };
        Simulation::new(course).run();
    }
}
