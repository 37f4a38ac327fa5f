//! Kinesis and DynamoDB where the service says back all that it was sent.

use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use serde_json::json;
use shardflow::sink::{Refused, Sink, at_least_once};
use shardflow::testing::Collected;
use shardflow::testing::sink::{Driver, Promise};
use shardflow_sinks::producer::{Producer, Record};
use shardflow_sinks::{ProducerSettings, dynamodb, kinesis};
use shardflow_stand_ins::fault_proxy::{Fault, FaultProxy};
use shardflow_stand_ins::hook::{Got, Hook, status};
use tokio::runtime::Runtime;

use crate::amazon::{config, operation, records, refuses, said_back, works};
use crate::{Doc, LOG, assert_none_logged, assert_none_of, doc, runtime};

/// Key, secret and token.
const KEYS: [&str; 3] = ["AKIAPRODUCER", "hunter2-producer-key", "hunter2-producer-token"];
const SINK_KEYS: [&str; 3] = ["AKIAKINESISSINK", "hunter2-kinesis-key", "hunter2-kinesis-token"];
const TABLE_KEYS: [&str; 3] = ["AKIADYNAMODB", "hunter2-dynamodb-key", "hunter2-dynamodb-token"];

type Says = fn(&Got) -> Response<Body>;

/// The ways in which a call can fail, each with all that was sent in the answer.
const SAYS: [Says; 5] = [
    |got| refuses(400, "InvalidSignatureException", got),
    |got| refuses(403, "SignatureDoesNotMatch", got),
    |got| refuses(500, "InternalFailure", got),
    |got| status(503, &said_back(got)),
    |got| status(400, &said_back(got)),
];

/// What the network does to a call.
const NETWORK: [Fault; 3] = [Fault::ResetBefore, Fault::ResetAfter, Fault::Truncated];

/// Every record fails, for a reason that says everything back.
fn each_record_fails(got: &Got) -> Response<Body> {
    let failed = json!({"ErrorCode": "InternalFailure", "ErrorMessage": said_back(got)});
    let count = records(got);
    status(200, &json!({"FailedRecordCount": count, "Records": vec![failed; count]}).to_string())
}

/// The start works, and writing does not.
fn then(says: Says) -> impl Fn(&Got) -> Response<Body> + Send + Sync + 'static {
    move |got| if operation(got).starts_with("Describe") { works(got) } else { says(got) }
}

/// A service, and the way to it.
fn place(io: &Runtime) -> (Hook, FaultProxy) {
    io.block_on(async {
        let hook = Hook::start().await;
        let proxy = FaultProxy::start(hook.endpoint()).await;
        (hook, proxy)
    })
}

#[test]
fn a_producer_tells_no_secret_though_the_service_says_back_all_that_it_was_sent() {
    let _ = LOG.text();
    let io = runtime();
    let (hook, proxy) = place(&io);
    let settings = ProducerSettings::stream("usage")
        .sdk_config(config(proxy.endpoint(), KEYS))
        .connect_timeout(Duration::from_secs(2))
        .give_up_after(Duration::ZERO);
    let mut told = format!("{settings:?}");
    for says in SAYS {
        hook.answers(says);
        let error =
            io.block_on(Producer::open(settings.clone().connect_timeout(Duration::from_millis(500)))).unwrap_err();
        told.push_str(&format!("{error} {error:?} "));
    }
    for says in SAYS.into_iter().chain([each_record_fails as Says]) {
        hook.answers(then(says));
        let error = io.block_on(async {
            let producer = Producer::open(settings.clone()).await.unwrap();
            told.push_str(&format!("{producer:?} "));
            producer.put(Record::new("k", "1")).await.await.unwrap_err()
        });
        told.push_str(&format!("{error} {error:?} {:?} ", shardflow::Error::from(error.clone())));
    }
    hook.answers(works);
    for fault in NETWORK {
        let error = io.block_on(async {
            proxy.inject(|_| Fault::Pass);
            let producer = Producer::open(settings.clone()).await.unwrap();
            proxy.inject(move |_| fault);
            producer.put(Record::new("k", "1")).await.await.unwrap_err()
        });
        told.push_str(&format!("{error} {error:?} "));
    }
    assert!(told.contains("does not match the signature you provided"), "nothing was said back: {told}");
    assert!(hook.got().iter().any(|got| said_back(got).contains(KEYS[2])), "the token was not sent");
    assert_none_of(&KEYS, &told);
    assert!(!told.contains('\n'), "{told}");
    assert!(LOG.text().contains("aws_smithy_runtime"), "the SDK's log was not kept");
    assert_none_logged(&KEYS[1..]);
}

/// Runs an epoch of a sink for each way of failing; gives all that is told.
fn run((hook, proxy): &(Hook, FaultProxy), sink: impl Fn() -> Box<dyn Sink<Doc>>, ways: &[Says]) -> String {
    let mut told = String::new();
    let mut epoch = |fails: &dyn Fn()| {
        proxy.inject(|_| Fault::Pass);
        let mut job = Driver::new(Promise::AtLeastOnce, sink(), doc, Vec::new);
        job.start(1);
        fails();
        job.stage(0, 3);
        job.prepare();
        match job.try_persist() {
            Ok(()) => told.push_str("written "),
            Err(error) => told.push_str(&format!("{error} {error:?} ")),
        }
    };
    for says in ways {
        hook.answers(then(*says));
        epoch(&|| ());
    }
    hook.answers(works);
    for fault in NETWORK {
        epoch(&|| proxy.inject(move |_| fault));
    }
    // Once, so that it is waited out.
    epoch(&|| proxy.inject(|call| if call.nth % 2 == 1 { Fault::Throttle } else { Fault::Pass }));
    proxy.inject(|_| Fault::Pass);
    for says in SAYS {
        hook.answers(says);
        let mut job = Driver::new(Promise::AtLeastOnce, sink(), doc, Vec::new);
        if let Err(error) = job.try_start(1) {
            told.push_str(&format!("{error} {error:?} "));
        }
    }
    told
}

#[test]
fn a_stream_that_is_written_to_tells_no_secret() {
    let _ = LOG.text();
    let io = runtime();
    let place = place(&io);
    let rejected = Collected::<Refused>::new();
    let sink = kinesis("usage")
        .partition_key(|doc: &Doc| doc.id.clone())
        .sdk_config(config(place.1.endpoint(), SINK_KEYS))
        .producer(|settings| settings.connect_timeout(Duration::from_millis(500)))
        .give_up_after(Duration::ZERO)
        .rejected_to(rejected.clone());
    let ways: Vec<Says> = SAYS.into_iter().chain([each_record_fails as Says]).collect();
    let told = run(&place, || Box::new(sink.clone()), &ways);
    assert!(told.contains("does not match the signature you provided"), "nothing was said back: {told}");
    assert_none_of(&SINK_KEYS, &format!("{sink:?} {told} {:?}", rejected.values()));
    assert_none_logged(&SINK_KEYS[1..]);
}

#[test]
fn a_table_that_is_written_to_tells_no_secret() {
    let _ = LOG.text();
    let io = runtime();
    let place = place(&io);
    let rejected = Collected::<Refused>::new();
    let to = dynamodb("charges").key("id").sdk_config(config(place.1.endpoint(), TABLE_KEYS));
    let to = to.connect_timeout(Duration::from_millis(500));
    let shown = format!("{to:?}");
    let refused: Says = |got| refuses(400, "ValidationException", got);
    let ways: Vec<Says> = SAYS.into_iter().chain([refused]).collect();
    let put = || {
        let sink = at_least_once(to.clone().put()).give_up_after(Duration::ZERO).rejected_to(rejected.clone());
        Box::new(sink) as Box<dyn Sink<Doc>>
    };
    let guarded = || {
        let newest = to.clone().newest_by("version", |_: &Doc| 1_u64);
        let sink = at_least_once(newest).give_up_after(Duration::ZERO).rejected_to(rejected.clone());
        Box::new(sink) as Box<dyn Sink<Doc>>
    };
    let told = run(&place, put, &ways) + &run(&place, guarded, &ways);
    assert!(told.contains("does not match the signature you provided"), "nothing was said back: {told}");
    assert_none_of(&TABLE_KEYS, &format!("{shown} {told} {:?}", rejected.values()));
    assert!(LOG.text().contains("call failed, will be tried again"), "the sink's log was not kept");
    assert_none_logged(&TABLE_KEYS[1..]);
}
