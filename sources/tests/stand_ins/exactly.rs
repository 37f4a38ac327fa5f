//! Whatever breaks between a stand-in and the source, each record is committed once, and those of a key in their order.

use std::time::Duration;

use shardflow::testing::Collected;
use shardflow_sources::{Kinesis, ReadMode};

use crate::job::{Numbered, assert_exact, put_many, records, start};
use crate::support::fault_proxy::{End, Fault, FaultProxy, Plan, Request};
use crate::support::kinesis_local::KinesisLocal;
use crate::support::sdk::sdk_config;
use crate::support::stand::Stand;

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
    let rates = [
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
    proxy.inject(Plan::random(Plan::seed(), &rates).only(&["GetRecords"]).rule());
    runs_exactly(source(&proxy), &stand).await;
    let seen = proxy.seen();
    assert!(seen.faults() >= 10, "too little broke to prove anything: {seen}");
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
