//! Putting through a proxy that breaks what passes.

use std::time::Duration;

use shardflow::Outcome;
use shardflow_sinks::ProducerSettings;
use shardflow_sinks::producer::{Aggregation, NotPut, Producer, Record};

use crate::support::streams::{Stream, assert_in_order, by_key};
use crate::{assert_where_receipts_say, put_numbers, settings};
use shardflow_stand_ins::fault_proxy::{Fault, FaultProxy, Plan, Request, Seen};

/// Records of each key.
const EACH: u64 = 16;

type Set = fn(ProducerSettings) -> ProducerSettings;

/// With order and without, packed and not.
const WAYS: [(&str, Set); 4] = [
    ("plain", |settings| settings),
    ("ordered", ProducerSettings::ordered),
    ("packed", |settings| settings.aggregate(Aggregation { bytes: 500, records: 40 })),
    ("ordered and packed", |settings| settings.ordered().aggregate(Aggregation { bytes: 500, records: 40 })),
];

/// Puts through a proxy that breaks calls by `rule`, in each way; gives for each how many faults there were, and whether
/// something was repeated.
async fn through(rule: impl Fn(&Request) -> Fault + Clone + Send + Sync + 'static) -> Vec<(u64, bool)> {
    let ways = through_patient(PATIENT, rule).await;
    ways.into_iter().map(|(seen, is_repeated)| (seen.faults_of("PutRecords"), is_repeated)).collect()
}

/// The time that a call may take where it is not what is tested.
const PATIENT: Duration = Duration::from_secs(30);

/// As [`through`], with calls that may take so long. Gives all that the proxy saw.
async fn through_patient(
    patience: Duration,
    rule: impl Fn(&Request) -> Fault + Clone + Send + Sync + 'static,
) -> Vec<(Seen, bool)> {
    let mut all = Vec::new();
    for (way, set) in WAYS {
        let stream = Stream::embedded(3).await;
        let proxy = FaultProxy::start(&stream.endpoint).await;
        let settings = set(settings(proxy.endpoint())).linger(Duration::from_millis(2)).calls(4).call_records(30);
        let settings = settings.call_timeout(patience);
        let producer = Producer::open(settings).await.unwrap();
        proxy.inject(rule.clone());
        let placed = put_numbers(&producer, 20, EACH).await;
        proxy.inject(|_| Fault::Pass);
        producer.close().await.unwrap();
        let seen = stream.read().await;
        assert_where_receipts_say(&placed, &seen);
        if way.contains("ordered") {
            assert_in_order(&by_key(&seen), EACH);
        }
        println!("{way}: {}", proxy.seen());
        all.push((proxy.seen(), seen.len() > placed.len()));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_call_that_fails_in_part_only_what_failed_goes_again() {
    for (faults, repeats) in
        through(|request| if request.nth % 2 == 1 { Fault::SomeFail { every: 3 } } else { Fault::Pass }).await
    {
        assert!(faults > 0 && !repeats);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_throttled_or_fail_go_again_and_put_nothing_twice() {
    for fault in [Fault::Throttle, Fault::Error500, Fault::Error503, Fault::ResetBefore] {
        for (faults, repeats) in through(move |request| if request.nth % 3 == 1 { fault } else { Fault::Pass }).await {
            assert!(faults > 0 && !repeats, "{fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_whose_answers_are_lost_go_again_and_receipts_tell_that_records_may_be_repeated() {
    for fault in [Fault::ResetAfter, Fault::Truncated, Fault::ResetMidBody] {
        for (faults, repeats) in through(move |request| if request.nth % 3 == 1 { fault } else { Fault::Pass }).await {
            assert!(faults > 0 && repeats, "{fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_done_and_not_answered_in_time_goes_again_and_receipts_tell_that_records_may_be_repeated() {
    let fault = Fault::Hold(Duration::from_secs(600));
    let rule = move |request: &Request| match request.operation == "PutRecords" && request.nth <= 2 {
        true => fault,
        false => Fault::Pass,
    };
    for (seen, is_repeated) in through_patient(Duration::from_secs(1), rule).await {
        assert_eq!((seen.of("PutRecords", fault), seen.done("PutRecords", fault)), (2, 2));
        assert!(is_repeated, "what was put is put again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_calls_nothing_is_lost_and_order_is_kept() {
    let plan = Plan::random(
        Plan::seed(),
        &[
            (Fault::SomeFail { every: 2 }, 0.2),
            (Fault::SomeFail { every: 5 }, 0.1),
            (Fault::Throttle, 0.1),
            (Fault::Error500, 0.05),
            (Fault::Error503, 0.05),
            (Fault::ResetBefore, 0.05),
            (Fault::ResetAfter, 0.05),
            (Fault::Truncated, 0.05),
            (Fault::SlowBytes, 0.05),
        ],
    )
    .only(&["PutRecords"]);
    let seen = through(move |request| plan.fault(request)).await;
    assert!(seen.iter().map(|(faults, _)| faults).sum::<u64>() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_for_too_long_is_told_with_whether_it_may_be_there() {
    let stream = Stream::embedded(1).await;
    for (fault, outcome) in [
        (Fault::ResetAfter, Outcome::Indeterminate),
        (Fault::Error500, Outcome::Indeterminate),
        (Fault::Refused("AccessDeniedException"), Outcome::Determinate),
    ] {
        let proxy = FaultProxy::start(&stream.endpoint).await;
        let settings = settings(proxy.endpoint()).give_up_after(Duration::ZERO).ordered();
        let producer = Producer::open(settings).await.unwrap();
        // Throttling is not given up on, other failures are.
        proxy.inject(move |request| if request.nth == 1 { Fault::Throttle } else { fault });
        let (first, second) = (producer.put(Record::new("k", "1")).await, producer.put(Record::new("k", "2")).await);
        let refused = matches!(fault, Fault::Refused(_));
        // Where the service is down, the second is given up before it was ever sent.
        let of_second = if refused { outcome } else { Outcome::Determinate };
        for (receipt, outcome) in [(first, outcome), (second, of_second)] {
            match receipt.await {
                Err(NotPut::Failed(trouble)) => assert_eq!(trouble.outcome, outcome, "{fault:?}: {trouble}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
