//! The fault proxy: each fault reaches an SDK client as what it says it is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::get_records::{GetRecordsError, GetRecordsOutput};
use aws_sdk_kinesis::operation::get_shard_iterator::GetShardIteratorOutput;
use aws_sdk_kinesis::types::ShardIteratorType;
use proptest::prelude::*;

use shardflow_stand_ins::fault_proxy::events::{self, Frames};
use shardflow_stand_ins::fault_proxy::{End, Fault, FaultProxy, Plan, Request};
use shardflow_stand_ins::stand::{Stand, put, quiet, read_all};

const SHARD: &str = "shardId-000000000000";

/// An embedded Kinesis with ten records in one shard, and a client of it behind a proxy; without retries, so that each fault
/// is seen.
async fn behind(tls: bool) -> (Stand, FaultProxy, Client) {
    let stand = Stand::embedded(1).await;
    put(stand.client(), 0..10).await;
    let endpoint = stand.endpoint();
    let proxy = if tls { FaultProxy::start_tls(endpoint).await } else { FaultProxy::start(endpoint).await };
    let client = Client::new(&quiet(proxy.endpoint(), proxy.certificate()));
    (stand, proxy, client)
}

/// Lets `fault` happen to every call of `operation`.
fn to(operation: &'static str, fault: Fault) -> impl Fn(&Request) -> Fault + Send + Sync + 'static {
    move |request| if request.operation == operation { fault } else { Fault::Pass }
}

async fn iterator(client: &Client) -> GetShardIteratorOutput {
    let call = client.get_shard_iterator().stream_name("usage").shard_id(SHARD);
    call.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap()
}

/// What `GetRecords` gives, at most `limit` records.
async fn records(client: &Client, iterator: &str, limit: i32) -> Result<GetRecordsOutput, SdkError<GetRecordsError>> {
    client.get_records().shard_iterator(iterator).limit(limit).send().await
}

fn texts(answer: &GetRecordsOutput) -> Vec<String> {
    answer.records().iter().map(|record| String::from_utf8(record.data().as_ref().to_vec()).unwrap()).collect()
}

fn from(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn what_passes_is_not_changed() {
    for tls in [false, true] {
        let (_stand, proxy, client) = behind(tls).await;
        let first = iterator(&client).await;
        let answer = records(&client, first.shard_iterator().unwrap(), 100).await.unwrap();
        assert_eq!(texts(&answer), from(0..10));
        assert_eq!(proxy.seen().of("GetRecords", Fault::Pass), 1);
        assert_eq!(proxy.seen().faults(), 0);
    }
}

#[tokio::test]
async fn refusals_carry_the_services_codes_and_the_server_is_not_asked() {
    for tls in [false, true] {
        let (stand, proxy, client) = behind(tls).await;
        for (fault, code, status) in [
            (Fault::Throttle, Some("ProvisionedThroughputExceededException"), 400),
            (Fault::Error500, Some("InternalFailure"), 500),
            (Fault::Expired, Some("ExpiredIteratorException"), 400),
        ] {
            proxy.inject(to("PutRecord", fault));
            let error = client.put_record().stream_name("usage").partition_key("k").data(b"no".to_vec().into());
            let error = error.send().await.unwrap_err();
            assert_eq!(error.raw_response().unwrap().status().as_u16(), status);
            assert_eq!(error.code(), code);
            assert_eq!(proxy.seen().of("PutRecord", fault), 1);
        }
        proxy.inject(to("PutRecord", Fault::Error503));
        let call = client.put_record().stream_name("usage").partition_key("k").data(b"no".to_vec().into());
        let error = call.send().await.unwrap_err();
        assert_eq!(error.raw_response().unwrap().status().as_u16(), 503);
        assert_eq!(read_all(stand.client()).await, from(0..10));
    }
}

#[tokio::test]
async fn a_reset_before_the_call_leaves_the_work_undone_and_one_after_it_does_not() {
    for tls in [false, true] {
        let (stand, proxy, client) = behind(tls).await;
        for (fault, text) in [(Fault::ResetBefore, "undone"), (Fault::ResetAfter, "done")] {
            proxy.inject(to("PutRecord", fault));
            let call =
                client.put_record().stream_name("usage").partition_key("k").data(text.as_bytes().to_vec().into());
            let error = call.send().await.unwrap_err();
            assert!(matches!(error, SdkError::DispatchFailure(_)), "{}", DisplayErrorContext(&error));
            assert_eq!(tls, !DisplayErrorContext(&error).to_string().contains("eset by peer"), "{error:?}");
            assert_eq!(proxy.seen().of("PutRecord", fault), 1);
        }
        assert_eq!(read_all(stand.client()).await, [from(0..10), vec!["done".to_owned()]].concat());
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_a_delayed_call_along_and_not_one_whose_answer_is_held() {
    for tls in [false, true] {
        let (stand, proxy, client) = behind(tls).await;
        let long = Duration::from_secs(600);
        for (fault, text) in [(Fault::Delay(long), "undone"), (Fault::Hold(long), "done")] {
            proxy.inject(to("PutRecord", fault));
            let call =
                client.put_record().stream_name("usage").partition_key("k").data(text.as_bytes().to_vec().into());
            let has_come = async {
                let is_held = matches!(fault, Fault::Hold(_));
                let come = || {
                    if is_held { proxy.seen().done("PutRecord", fault) } else { proxy.seen().of("PutRecord", fault) }
                };
                while come() == 0 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                answer = call.send() => panic!("{answer:?}"),
                () = has_come => {}
            }
        }
        assert_eq!(proxy.seen().done("PutRecord", Fault::Delay(long)), 0);
        assert_eq!(read_all(stand.client()).await, [from(0..10), vec!["done".to_owned()]].concat());
    }
}

#[tokio::test]
async fn half_answers_are_errors_of_the_response() {
    for tls in [false, true] {
        let (_stand, proxy, client) = behind(tls).await;
        let first = iterator(&client).await;
        for fault in [Fault::ResetMidBody, Fault::Truncated] {
            proxy.inject(to("GetRecords", fault));
            let error = records(&client, first.shard_iterator().unwrap(), 100).await.unwrap_err();
            // The head had arrived: the SDK knows of a response, unless the reset overtook it.
            let of_response = matches!(error, SdkError::ResponseError(_));
            assert!(of_response || matches!(error, SdkError::DispatchFailure(_)), "{}", DisplayErrorContext(&error));
        }
        proxy.inject(|_| Fault::Pass);
        assert_eq!(texts(&records(&client, first.shard_iterator().unwrap(), 100).await.unwrap()), from(0..10));
    }
}

#[tokio::test]
async fn slow_and_late_answers_are_whole() {
    let (_stand, proxy, client) = behind(false).await;
    let first = iterator(&client).await;
    let late = Duration::from_millis(150);
    for (fault, least) in [(Fault::SlowBytes, 200), (Fault::Delay(late), 150), (Fault::Hold(late), 150)] {
        proxy.inject(to("GetRecords", fault));
        let start = Instant::now();
        let answer = records(&client, first.shard_iterator().unwrap(), 100).await.unwrap();
        assert_eq!(texts(&answer), from(0..10));
        assert!(start.elapsed() >= Duration::from_millis(least));
    }
}

#[tokio::test]
async fn a_duplicate_repeats_the_last_records_of_its_shard_and_an_iterator_that_leads_back() {
    let (_stand, proxy, client) = behind(false).await;
    proxy.inject(|request| if request.nth == 2 { Fault::Pass } else { Fault::Duplicate });
    let first = iterator(&client).await;
    let one = records(&client, first.shard_iterator().unwrap(), 2).await.unwrap();
    let two = records(&client, one.next_shard_iterator().unwrap(), 2).await.unwrap();
    let again = records(&client, two.next_shard_iterator().unwrap(), 2).await.unwrap();
    assert_eq!([texts(&one), texts(&two), texts(&again)].concat(), ["0", "1", "2", "3", "2", "3"]);
    assert_eq!(again.next_shard_iterator(), two.next_shard_iterator());
    // A reader that starts again has nothing to be repeated.
    let anew = records(&client, iterator(&client).await.shard_iterator().unwrap(), 2).await.unwrap();
    assert_eq!(texts(&anew), ["0", "1"]);
    assert_eq!(proxy.seen().of("GetRecords", Fault::Duplicate), 1);
    assert_eq!(proxy.seen().of("GetRecords", Fault::Pass), 3);
}

#[tokio::test]
async fn a_rule_sees_the_operation_the_count_and_the_shard_behind_an_iterator() {
    let (_stand, proxy, client) = behind(false).await;
    let wrong = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&wrong);
    proxy.inject(move |request| {
        let expected = request.shard.as_deref() == Some(SHARD) && request.nth_of_shard == request.nth;
        counted.fetch_add(usize::from(!expected), Ordering::SeqCst);
        Fault::Pass
    });
    let mut next = iterator(&client).await.shard_iterator().unwrap().to_owned();
    for _ in 0..3 {
        next = records(&client, &next, 1).await.unwrap().next_shard_iterator().unwrap().to_owned();
    }
    assert_eq!(wrong.load(Ordering::SeqCst), 0);
    assert_eq!(proxy.seen().calls("GetRecords"), 3);
}

#[tokio::test]
async fn resetting_the_connections_breaks_what_is_under_way_and_nothing_later() {
    for tls in [false, true] {
        let (_stand, proxy, client) = behind(tls).await;
        let first = iterator(&client).await;
        let first = first.shard_iterator().unwrap();
        proxy.inject(to("GetRecords", Fault::Delay(Duration::from_secs(60))));
        let under_way = records(&client, first, 100);
        let reset = async {
            while proxy.seen().calls("GetRecords") == 0 {
                tokio::task::yield_now().await;
            }
            proxy.reset_connections();
        };
        let (answer, ()) = tokio::join!(under_way, reset);
        let error = answer.unwrap_err();
        assert!(matches!(error, SdkError::DispatchFailure(_)), "{}", DisplayErrorContext(&error));
        proxy.inject(|_| Fault::Pass);
        assert_eq!(texts(&records(&client, first, 100).await.unwrap()), from(0..10));
    }
}

/// The reader repeats a call that failed and drops what it has seen.
#[tokio::test]
async fn a_careful_reader_gets_every_record_once_through_random_faults() {
    let (_stand, proxy, client) = behind(false).await;
    put(&client, 10..60).await;
    let early = [Fault::Throttle, Fault::Error500, Fault::Error503, Fault::ResetBefore, Fault::ResetAfter]
        .map(|fault| (fault, 0.08));
    let late = [Fault::ResetMidBody, Fault::Truncated, Fault::Duplicate, Fault::SlowBytes].map(|fault| (fault, 0.06));
    let plan = Plan::random(Plan::seed(), &[&early[..], &late[..]].concat()).only(&["GetRecords"]);
    let first = iterator(&client).await.shard_iterator().unwrap().to_owned();
    proxy.inject(plan.rule());
    let (mut next, mut seen) = (first, BTreeSet::new());
    while seen.len() < 60 {
        let Ok(answer) = records(&client, &next, 3).await else { continue };
        seen.extend(texts(&answer).into_iter().map(|text| text.parse::<u32>().unwrap()));
        next = answer.next_shard_iterator().unwrap().to_owned();
    }
    assert_eq!(seen, (0..60).collect());
    assert!(proxy.seen().faults() > 0, "{}", proxy.seen());
}

fn request(operation: &str, shard: Option<&str>, nth: u64) -> Request {
    let (operation, shard) = (operation.to_owned(), shard.map(ToOwned::to_owned));
    Request { operation, nth, shard, nth_of_shard: nth, body: serde_json::Value::Null }
}

proptest! {
    #[test]
    fn a_seed_repeats_its_faults_however_shards_interleave(seed: u64, nth in 1_u64..1000, other in 1_u64..1000) {
        let rates = [(Fault::Throttle, 0.3), (Fault::ResetAfter, 0.3)];
        let (one, two) = (Plan::random(seed, &rates), Plan::random(seed, &rates));
        let call = request("GetRecords", Some("a"), nth);
        let interleaved = Request { nth: other, ..call.clone() };
        prop_assert_eq!(one.fault(&call), two.fault(&interleaved));
    }
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in_however_the_bytes_are_cut(count in 0_usize..6, cuts in prop::collection::vec(1_usize..40, 1..8)) {
        let frame = events::exception("InternalFailureException");
        let bytes = [frame.repeat(count), frame.slice(..20).to_vec()].concat();
        let (mut frames, mut rest, mut found) = (Frames::default(), &bytes[..], 0);
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at(rest.len().min(*cut));
            frames.push(now);
            for next in frames.by_ref() {
                prop_assert_eq!(&next, &frame);
                found += 1;
            }
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!((found, frames.rest()), (count, frame.slice(..20)));
        prop_assert!(events::is_event(&frame));
    }
}

#[test]
fn faults_come_at_their_rates_and_to_the_named_operations_only() {
    let silence = Fault::EndStreamEarly { after: 1, how: End::Silence };
    let rates = [(Fault::Throttle, 0.2), (silence, 0.1)];
    let plan = Plan::random(7, &rates).only(&["GetRecords"]);
    let drawn: Vec<_> = (0..10_000).map(|nth| plan.fault(&request("GetRecords", Some("a"), nth))).collect();
    let share = |of| drawn.iter().filter(|fault| **fault == of).count();
    assert!((1_850..2_150).contains(&share(Fault::Throttle)), "{}", share(Fault::Throttle));
    assert!((880..1_120).contains(&share(silence)), "{}", share(silence));
    assert!((0..1000).all(|nth| plan.fault(&request("ListShards", None, nth)) == Fault::Pass));
}
