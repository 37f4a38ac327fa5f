//! Whatever breaks between a stand-in and the source, each record is committed once, and those of a key in their order.

use std::time::Duration;

use shardflow::testing::Collected;
use shardflow_sources::{Kinesis, ReadMode};

use crate::job::{Numbered, assert_exact, put_many, records, start};
use shardflow_stand_ins::fault_proxy::{End, Fault, FaultProxy, Plan, Request};
use shardflow_stand_ins::kinesis_local::KinesisLocal;
use shardflow_stand_ins::sdk::sdk_config;
use shardflow_stand_ins::stand::Stand;

/// How often a call for records breaks in each way.
pub(crate) const RATES: [(Fault, f64); 11] = [
    (Fault::Throttle, 0.04),
    (Fault::Error500, 0.03),
    (Fault::Error503, 0.03),
    (Fault::Expired, 0.05),
    (Fault::ResetBefore, 0.03),
    (Fault::ResetAfter, 0.05),
    (Fault::ResetMidBody, 0.05),
    (Fault::Truncated, 0.05),
    (Fault::SlowBytes, 0.02),
    (Fault::Delay(Duration::from_millis(300)), 0.03),
    (Fault::Duplicate, 0.12),
];

/// The calls on the way to records, and to subscriptions.
const BESIDE: [&str; 3] = ["DescribeStreamSummary", "ListShards", "GetShardIterator"];

/// Two of three calls beside the records break, in every way in turn.
pub(crate) fn beside(request: &Request) -> Fault {
    if !BESIDE.contains(&request.operation.as_str()) {
        return Fault::Pass;
    }
    match request.nth % 12 {
        1 => Fault::Throttle,
        2 => Fault::ResetAfter,
        4 => Fault::Error500,
        5 => Fault::Truncated,
        7 => Fault::Error503,
        8 => Fault::ResetMidBody,
        10 => Fault::ResetBefore,
        11 => Fault::SlowBytes,
        _ => Fault::Pass,
    }
}

const KEYS: u64 = 20;

/// How many steps records are put in, each when all before are committed: so calls go on being made.
const STEPS: u64 = 12;

/// Records of each key in a step.
const EACH: u64 = 5;

fn source(proxy: &FaultProxy) -> Kinesis {
    Kinesis::stream("usage").sdk_config(sdk_config(proxy.endpoint(), None)).idle_gap(Duration::from_millis(200))
}

/// Runs a job on `source` while records are put, and holds that all came exactly. Halfway the job is stopped and another goes on.
async fn runs_exactly(source: Kinesis, stand: &Stand) {
    let (state, seen) = (tempfile::tempdir().unwrap(), Collected::<Numbered>::new());
    let mut running = start(source.clone(), state.path(), &seen);
    for step in 0..STEPS {
        put_many(stand.client(), &records(KEYS, step * EACH..(step + 1) * EACH)).await;
        running.until(((step + 1) * EACH * KEYS) as usize).await;
        if step == STEPS / 2 {
            running.stop().await;
            running = start(source.clone(), state.path(), &seen);
        }
    }
    running.stop().await;
    assert_exact(&seen, KEYS, STEPS * EACH);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_break_in_every_way_lose_and_double_nothing() {
    let stand = Stand::embedded(2).await;
    let proxy = FaultProxy::start(stand.endpoint()).await;
    proxy.inject(Plan::random(Plan::seed(), &RATES).only(&["GetRecords"]).rule());
    runs_exactly(source(&proxy), &stand).await;
    let seen = proxy.seen();
    assert!(seen.faults() >= 10, "too little broke to prove anything: {seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_and_iterators_that_break_in_every_way_lose_and_double_nothing() {
    let stand = Stand::embedded(2).await;
    let proxy = FaultProxy::start(stand.endpoint()).await;
    proxy.inject(|request: &Request| match request.operation.as_str() {
        // So that iterators are asked for again and again.
        "GetRecords" if request.nth_of_shard.is_multiple_of(3) => Fault::Expired,
        _ => beside(request),
    });
    runs_exactly(source(&proxy).discovery_interval(Duration::from_millis(100)), &stand).await;
    let seen = proxy.seen();
    assert!(BESIDE.iter().all(|operation| seen.faults_of(operation) >= 2), "{seen}");
    assert!(seen.faults_of("GetShardIterator") >= 8 && seen.faults_of("ListShards") >= 8, "too little broke: {seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fan_out_that_is_refused_at_the_start_or_later_goes_on_by_calls() {
    for refused in ["RegisterStreamConsumer", "SubscribeToShard"] {
        let stand = Stand::embedded(2).await;
        let proxy = FaultProxy::start(stand.endpoint()).await;
        proxy.inject(move |request: &Request| match request.operation.as_str() {
            // A few subscriptions of a shard are given, and break, before the permission is gone.
            "SubscribeToShard" if refused == "SubscribeToShard" && request.nth_of_shard <= 3 => {
                Fault::EndStreamEarly { after: 3, how: End::Reset }
            }
            operation if operation == refused => Fault::Refused("AccessDeniedException"),
            _ => Fault::Pass,
        });
        runs_exactly(source(&proxy).read_mode(ReadMode::Automatic { consumer: "ours".to_owned() }), &stand).await;
        let seen = proxy.seen();
        assert!(seen.of(refused, Fault::Refused("")) >= 1 && seen.calls("GetRecords") >= 10, "{seen}");
        assert_eq!(seen.calls("SubscribeToShard") > 0, refused == "SubscribeToShard", "{seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_that_break_in_every_way_lose_and_double_nothing() {
    let stand = Stand::embedded(2).await;
    let proxy = FaultProxy::start(stand.endpoint()).await;
    proxy.inject(|request: &Request| {
        if request.operation != "SubscribeToShard" {
            return Fault::Pass;
        }
        let early = |after, how| Fault::EndStreamEarly { after, how };
        match request.nth_of_shard % 9 {
            0 => early(2, End::Clean),
            1 => early(1, End::MidFrame),
            2 => Fault::Throttle,
            3 => early(3, End::Reset),
            4 => early(1, End::AfterPrelude),
            5 => Fault::Error500,
            6 => early(2, End::Exception("InternalFailureException")),
            7 => Fault::ResetBefore,
            _ => early(2, End::Exception("ResourceInUseException")),
        }
    });
    let fan_out = source(&proxy).read_mode(ReadMode::FanOut { consumer: "ours".to_owned() });
    runs_exactly(fan_out, &stand).await;
    let seen = proxy.seen();
    assert!(seen.faults() >= 18 && seen.calls("GetRecords") == 0, "too little broke to prove anything: {seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_emulator_is_read_exactly_by_calls_and_by_fan_out_over_http_2() {
    let Some(server) = KinesisLocal::start().await else { return };
    let stand = Stand::at(server.plain_endpoint(), 2).await;
    let config = sdk_config(server.tls_endpoint(), Some(server.certificate()));
    let seen = Collected::<Numbered>::new();
    let by_calls = Kinesis::stream("usage").sdk_config(config.clone());
    let by_fan_out = by_calls.clone().read_mode(ReadMode::FanOut { consumer: "ours".to_owned() });
    let state = tempfile::tempdir().unwrap();
    // The same job, first the one way and then the other.
    for (step, source) in (0..).zip([by_calls, by_fan_out]) {
        let running = start(source, state.path(), &seen);
        for half in 0..2 {
            let from = (2 * step + half) * EACH;
            put_many(stand.client(), &records(KEYS, from..from + EACH)).await;
            running.until(((from + EACH) * KEYS) as usize).await;
        }
        running.stop().await;
    }
    assert_exact(&seen, KEYS, 4 * EACH);
}
