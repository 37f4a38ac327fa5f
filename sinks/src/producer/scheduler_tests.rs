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
    record_bytes: 1 << 20,
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

/// Plays a service that answers every call like this, until a record has come to its end or an hour is over. Gives the time, and
/// the ends.
fn fails_until_the_end(
    scheduler: &mut Scheduler<u64>,
    start: Instant,
    answer: &Answer,
) -> (Instant, Vec<(u64, Outcome)>) {
    let (mut now, mut ends) = (start, Vec::new());
    let end = |Settled { reply, fate, .. }| match fate {
        Fate::Failed(trouble) => (reply, trouble.outcome),
        fate => panic!("{fate:?}"),
    };
    while ends.is_empty() && now < start + Duration::from_secs(3_600) {
        let step = scheduler.step(now);
        ends.extend(step.settled.into_iter().map(end));
        for call in step.calls {
            let settled = scheduler.answered(call, answer.clone(), now, 0.5).settled;
            ends.extend(settled.into_iter().map(end));
        }
        if let Some(wake) = step.wake {
            now = now.max(wake);
        }
        now += Duration::from_millis(1);
    }
    ends.sort_unstable_by_key(|(id, _)| *id);
    (now, ends)
}

#[test]
fn throttling_is_never_given_up_on_and_other_failures_are_when_they_last() {
    let start = Instant::now();
    for (failed, maybe_there, ends) in [
        (Failed::Throttled, false, vec![]),
        (Failed::Transient, false, vec![(0, Outcome::Determinate), (1, Outcome::Determinate)]),
        // The second waits for the first, and was never sent.
        (Failed::Transient, true, vec![(0, Outcome::Indeterminate), (1, Outcome::Determinate)]),
    ] {
        let mut scheduler = Scheduler::new(LIMITS, true, None);
        put(&mut scheduler, "k", 0, start);
        put(&mut scheduler, "k", 1, start);
        scheduler.hurry();
        let answer = Answer::Failed { failure: failure(failed), maybe_there, blames_a_record: false };
        let (now, ended) = fails_until_the_end(&mut scheduler, start, &answer);
        assert_eq!(ended, ends);
        if !ends.is_empty() {
            assert!(now >= start + LIMITS.give_up_after && now < start + LIMITS.give_up_after + Duration::from_secs(6));
            put(&mut scheduler, "k", 2, now);
            let now = scheduler.step(now).wake.unwrap_or(now).max(now + LIMITS.linger);
            assert_eq!(ids(&only(scheduler.step(now).calls)), [2], "what is put later has its own time");
        }
    }
}

#[test]
fn in_an_outage_nothing_waits_for_longer_than_it_should_however_much_there_is() {
    for aggregation in [None, Some((Aggregation { bytes: 1_000, records: usize::MAX }, one_shard()))] {
        let (mut scheduler, start) = (Scheduler::new(LIMITS, false, aggregation), Instant::now());
        put_all(&mut scheduler, 20_000, start);
        scheduler.hurry();
        let answer = Answer::Failed { failure: failure(Failed::Transient), maybe_there: false, blames_a_record: false };
        let (mut now, mut ended) = (start, 0);
        while ended < 20_000 {
            let (later, ends) = fails_until_the_end(&mut scheduler, now, &answer);
            (now, ended) = (later, ended + ends.len());
            assert!(now < start + LIMITS.give_up_after + Duration::from_secs(6), "{ended} have ended");
        }
        assert!(now >= start + LIMITS.give_up_after);
    }
}

#[test]
fn also_without_patience_a_service_that_is_back_is_found() {
    let limits = Limits { give_up_after: Duration::ZERO, ..LIMITS };
    let (mut scheduler, now) = (Scheduler::new(limits, false, None), Instant::now());
    put(&mut scheduler, "k", 0, now);
    scheduler.hurry();
    let call = only(scheduler.step(now).calls);
    let down = Answer::Failed { failure: failure(Failed::Transient), maybe_there: false, blames_a_record: false };
    assert!(scheduler.answered(call, down, now, 1.0).settled.is_empty());
    put(&mut scheduler, "k", 1, now);
    assert!(scheduler.step(now).settled.is_empty());
    let later = now + Duration::from_millis(1);
    assert_eq!(scheduler.step(later).settled.len(), 2, "nothing may go yet, and there is no patience to wait for that");
    let next = scheduler.health.not_before().unwrap();
    put(&mut scheduler, "k", 2, next);
    scheduler.hurry();
    assert_eq!(ids(&only(scheduler.step(next).calls)), [2]);
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
    // A quarter of what others wait: a shard counts by the second.
    for wait in [50, 100, 200] {
        let call = only(scheduler.step(now).calls);
        assert_eq!(call.entries.len(), refused);
        let answer = Answer::Each(call.entries.iter().map(|_| Err(failure(Failed::Throttled))).collect());
        scheduler.answered(call, answer, now, 1.0);
        now += Duration::from_millis(wait);
        assert_eq!(scheduler.step(now - Duration::from_millis(1)).wake, Some(now));
    }
    let call = only(scheduler.step(now).calls);
    let (first, rest) = call.entries.split_at(refused);
    assert!(first.iter().all(|entry| entry.backoff.is_some()), "{call:?}");
    assert!(rest.len() <= 1 && rest.iter().all(|entry| entry.backoff.is_none()), "{call:?}");
}

/// Two shards, each with half of the hash keys, that records are packed for.
fn of_two_shards(limits: Limits) -> Scheduler<u64> {
    let half = u128::MAX / 2;
    let shard = |id: &str, first, last| Shard { id: id.into(), range: Range { first, last }, is_open: true };
    let map = ShardMap::new(vec![shard("low", 0, half), shard("high", half + 1, u128::MAX)]).unwrap();
    Scheduler::new(limits, false, Some((Aggregation::default(), map)))
}

/// All of it lies where it should.
fn as_predicted(call: &Call<u64>) -> Answer {
    let at = |entry: &Entry<u64>| At { shard: entry.predicted.clone().unwrap(), sequence: "1".into() };
    Answer::Each(call.entries.iter().map(|entry| Ok(at(entry))).collect())
}

const LOW: u128 = 1;
const HIGH: u128 = u128::MAX - 1;

#[test]
fn a_record_lingers_no_longer_while_another_shard_has_to_wait() {
    let limits = Limits { shard_percent: 100, ..LIMITS };
    let large = || record("k", &"x".repeat((1 << 20) - 1));
    let (mut scheduler, start) = (of_two_shards(limits), Instant::now());
    scheduler.put(large(), LOW, start, 0);
    let now = start + limits.linger;
    assert_eq!(ids(&only(scheduler.step(now).calls)), [0]);
    scheduler.put(large(), LOW, now, 1);
    let now = now + limits.linger;
    // The shard takes nothing for a second.
    let step = scheduler.step(now);
    assert!(step.calls.is_empty() && step.wake.unwrap() > now + limits.linger);
    assert!(scheduler.put(record("k", "small"), HIGH, now, 2), "it sets a time of its own");
    assert_eq!(scheduler.step(now).wake, Some(now + limits.linger));
    assert_eq!(ids(&only(scheduler.step(now + limits.linger).calls)), [2]);
}

#[test]
fn records_of_other_shards_are_packed_however_much_waits_for_one_that_is_slow() {
    let limits = Limits { shard_percent: 100, calls: 100, ..LIMITS };
    let (mut scheduler, mut now) = (of_two_shards(limits), Instant::now());
    let start = now;
    let backlog = |id: u64| (record("k", &"x".repeat(40_000)), LOW, id);
    for id in 0..400 {
        let (record, hash, id) = backlog(id);
        scheduler.put(record, hash, now, id);
    }
    scheduler.press(true);
    let (mut id, mut high) = (1_000, Vec::new());
    while now < start + Duration::from_secs(3) {
        for call in scheduler.step(now).calls {
            high.extend(call.entries.iter().filter(|entry| entry.hash() == HIGH).map(|entry| entry.items.len()));
            let answer = as_predicted(&call);
            scheduler.answered(call, answer, now, 0.5);
        }
        scheduler.put(record("k", "small"), HIGH, now, id);
        id += 1;
        now += Duration::from_millis(1);
    }
    let packed: usize = high.iter().sum();
    assert!(packed > 2_700 && high.len() <= 40, "{packed} records in {} aggregates", high.len());
}

#[test]
fn who_waits_for_room_gets_it_though_nothing_else_would_go_for_long() {
    let limits = Limits { shard_percent: 100, linger: Duration::from_secs(3_600), ..LIMITS };
    let (mut scheduler, start) = (of_two_shards(limits), Instant::now());
    let large = || record("k", &"x".repeat((1 << 20) - 1));
    scheduler.put(large(), LOW, start, 0);
    scheduler.hurry();
    let call = only(scheduler.step(start).calls);
    scheduler.put(record("k", "low"), LOW, start, 1);
    scheduler.put(record("k", "high"), HIGH, start, 2);
    let answer = as_predicted(&call);
    scheduler.answered(call, answer, start, 0.5);
    assert!(scheduler.step(start).calls.is_empty());
    scheduler.press(true);
    let (mut now, mut gone) = (start, 0);
    while gone < 2 {
        let step = scheduler.step(now);
        for call in step.calls {
            gone += call.entries.len();
            let answer = as_predicted(&call);
            scheduler.answered(call, answer, now, 0.5);
        }
        now = step.wake.unwrap_or(now) + Duration::from_millis(1);
        assert!(now <= start + Duration::from_secs(2), "it lingers");
    }
}

#[test]
fn a_flush_is_not_forgotten_while_nothing_may_go() {
    let limits = Limits { linger: Duration::from_secs(600), ..LIMITS };
    let (mut scheduler, now) = (Scheduler::new(limits, false, None), Instant::now());
    put(&mut scheduler, "k", 0, now);
    scheduler.hurry();
    let call = only(scheduler.step(now).calls);
    let text = "down".to_owned();
    let failure = Failure { remedy: Remedy::Retry(Failed::Transient), text };
    // The record is refused for good, and the service is down.
    scheduler.health.failed(Failed::Transient, failure, now, now, 1.0);
    let answer = Answer::Each(vec![Err(Failure { remedy: Remedy::None, text: "no".to_owned() })]);
    scheduler.answered(call, answer, now, 0.5);
    put(&mut scheduler, "k", 1, now);
    scheduler.hurry();
    let step = scheduler.step(now);
    let next = scheduler.health.not_before();
    assert!(step.calls.is_empty() && next.is_some());
    assert_eq!(step.wake, next);
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
