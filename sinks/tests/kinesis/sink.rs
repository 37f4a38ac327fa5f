//! The sink against the port of sinks: it conforms, and nothing refused or failed goes unseen.

use std::time::Duration;

use serde::Serialize;
use shardflow::sink::{Refused, Sink, SinkContext, StagedHandle};
use shardflow::testing::Collected;
use shardflow::testing::sink::{Driver, Promise, conforms, permit};
use shardflow::vocabulary::Incarnation;
use shardflow::{Epoch, ErrorKind, Outcome};
use shardflow_sinks::kinesis::data_of;
use shardflow_sinks::producer::Aggregation;
use shardflow_sinks::{KinesisSink, kinesis};
use tokio::runtime::Runtime;

use crate::sdk_config;
use crate::support::streams::{STREAM, Stream, assert_in_order, by_key};
use shardflow_stand_ins::fault_proxy::{Fault, FaultProxy, Plan};

#[derive(Debug, Clone, Serialize)]
struct Charge {
    n: u64,
}

fn charges(endpoint: &str) -> KinesisSink<Charge> {
    let sink = kinesis(STREAM).partition_key(|charge: &Charge| format!("key-{}", charge.n % 7));
    sink.sdk_config(sdk_config(endpoint, None)).linger(Duration::from_millis(1))
}

/// A stream of its own runtime, for tests that are not async as the engine's threads are not.
struct Place {
    runtime: Runtime,
    stream: Stream,
    proxy: FaultProxy,
}

impl Place {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let (stream, proxy) = runtime.block_on(async {
            let stream = Stream::embedded(2).await;
            let proxy = FaultProxy::start(&stream.endpoint).await;
            (stream, proxy)
        });
        Self { runtime, stream, proxy }
    }

    fn context(&self) -> SinkContext {
        SinkContext {
            job: "job".to_owned(),
            step: "charges".into(),
            incarnation: Incarnation::new(2),
            committed: Some(Epoch::new(7)),
            workers: 1,
            folder: std::env::temp_dir(),
            runtime: self.runtime.handle().clone(),
        }
    }

    fn visible(&self) -> Vec<u64> {
        let seen = self.runtime.block_on(self.stream.read());
        seen.iter()
            .map(|seen| serde_json::from_slice::<serde_json::Value>(&seen.data).unwrap()["n"].as_u64().unwrap())
            .collect()
    }

    fn driver<'a>(&'a self, sink: impl Sink<Charge>) -> Driver<'a, Charge> {
        Driver::new(Promise::AtLeastOnce, Box::new(sink), |n| Charge { n }, || self.visible())
    }
}

#[test]
fn the_sink_conforms() {
    conforms(
        Promise::OnceUntilACrash,
        Place::new,
        |place| Box::new(charges(&place.stream.endpoint)),
        |n| Charge { n },
        Place::visible,
    );
}

#[test]
fn it_conforms_packed_and_ordered_while_calls_fail_in_every_way() {
    let seed = Plan::seed();
    conforms(
        Promise::AtLeastOnce,
        || {
            let place = Place::new();
            let plan = Plan::random(
                seed,
                &[
                    (Fault::SomeFail { every: 2 }, 0.08),
                    (Fault::Throttle, 0.03),
                    (Fault::Error500, 0.03),
                    (Fault::ResetBefore, 0.02),
                    (Fault::ResetAfter, 0.04),
                ],
            );
            place.proxy.inject(plan.only(&["PutRecords"]).rule());
            place
        },
        |place| {
            let aggregation = Aggregation { bytes: 400, records: 10 };
            Box::new(charges(place.proxy.endpoint()).ordered().aggregate(aggregation).rejected_to(Collected::new()))
        },
        |n| Charge { n },
        Place::visible,
    );
}

#[test]
fn an_epoch_waits_for_its_records_and_not_for_the_linger() {
    let place = Place::new();
    let mut job = place.driver(charges(&place.stream.endpoint).linger(Duration::from_secs(3_000)));
    job.start(2);
    for worker in [0, 1] {
        job.stage(worker, 50);
        job.prepare();
        job.persist();
        job.commit();
        job.assert_all_visible();
    }
}

#[test]
fn what_is_refused_goes_to_the_rejected_output_once_and_does_not_hold_up_the_rest() {
    let place = Place::new();
    let rejected = Collected::<Refused>::new();
    let sink = kinesis(STREAM)
        .partition_key(|charge: &Charge| if charge.n == 3 { String::new() } else { "k".to_owned() })
        .explicit_hash_key(|charge| (charge.n == 4).then(|| "x".to_owned()))
        .encoded_by(|charge| if charge.n == 5 { Err("no form") } else { Ok(charge.n.to_string()) })
        .sdk_config(sdk_config(&place.stream.endpoint, None))
        .ordered()
        .rejected_to(rejected.clone());
    let visible =
        || place.runtime.block_on(place.stream.read()).iter().map(|seen| seen.text().parse().unwrap()).collect();
    let mut job = Driver::new(Promise::AtLeastOnce, Box::new(sink), |n| Charge { n }, visible);
    job.start(1);
    job.stage(0, 10);
    job.prepare();
    job.persist();
    job.commit();
    // As after a crash in between.
    job.commit();
    assert_eq!(job.visible(), [0, 1, 2, 6, 7, 8, 9]);
    let mut refused = rejected.values();
    refused.sort_by(|left, right| left.record.cmp(&right.record));
    let told: Vec<String> = refused.iter().map(|refused| format!("{}: {}", refused.record, refused.error)).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(told[0], "(partition key \"k\", without data): no form");
    assert!(told[1].starts_with("3: its partition key has 0 characters"), "{told:?}");
    assert!(told[2].starts_with("4: its hash key \"x\" is no decimal number"), "{told:?}");
}

#[test]
fn binary_data_comes_back_from_the_rejected_output_byte_by_byte() {
    let place = Place::new();
    let rejected = Collected::<Refused>::new();
    // Every byte there is, what is no UTF-8, and text that could be taken for something else.
    let data = |n: u64| match n {
        0 => (0..=255).collect(),
        1 => vec![0xff; 100],
        2 => b"base64:/wA=".repeat(2),
        3 => b"(partition key \"k\", without data)".to_vec(),
        _ => "{\"text\":\"\u{e4}\"}".to_owned().into_bytes(),
    };
    let sink = kinesis(STREAM)
        .partition_key(|_: &Charge| "k")
        .encoded_by(move |charge| Ok::<Vec<u8>, String>(data(charge.n)))
        .sdk_config(sdk_config(&place.stream.endpoint, None))
        .producer(|settings| settings.record_bytes(5))
        .rejected_to(rejected.clone());
    let mut job = Driver::new(Promise::AtLeastOnce, Box::new(sink), |n| Charge { n }, Vec::new);
    job.start(1);
    job.stage(0, 5);
    job.prepare();
    job.persist();
    job.commit();
    let refused = rejected.values();
    let restored: Vec<_> = refused.iter().map(|refused| data_of(&refused.record).unwrap()).collect();
    assert_eq!(restored, (0..5).map(data).collect::<Vec<_>>());
    assert_eq!(refused[4].record, "{\"text\":\"\u{e4}\"}");
}

#[test]
fn without_a_rejected_output_a_refused_record_stops_the_job() {
    let place = Place::new();
    let sink = charges(&place.stream.endpoint).producer(|settings| settings.record_bytes(10));
    let mut job = place.driver(sink);
    job.start(1);
    job.stage(0, 20);
    job.prepare();
    let error = job.try_persist().unwrap_err();
    assert_eq!((error.kind(), error.step()), (ErrorKind::Sink, Some("results")));
    let text = error.to_string();
    assert!(text.contains("rejected_to") && text.contains("more than 10"), "{text}");
}

#[test]
fn what_cannot_pass_stops_the_job_and_says_whether_records_may_be_there() {
    for (fault, outcome) in
        [(Fault::Refused("AccessDeniedException"), Outcome::Determinate), (Fault::ResetAfter, Outcome::Indeterminate)]
    {
        let place = Place::new();
        let mut job = place.driver(charges(place.proxy.endpoint()).give_up_after(Duration::ZERO));
        job.start(1);
        place.proxy.inject(move |_| fault);
        job.stage(0, 5);
        job.prepare();
        let error = job.try_persist().unwrap_err();
        assert_eq!((error.outcome(), error.step()), (outcome, Some("results")));
        assert!(error.to_string().contains("could not write to stream \"usage\""), "{error}");
        // It is known before the next epoch is over.
        let error = job.try_stage(0, 1).unwrap_err();
        assert_eq!(error.step(), Some("results"));
    }
}

#[test]
fn a_stream_that_is_not_there_stops_the_start_and_names_the_step() {
    let place = Place::new();
    let sink = kinesis("other").partition_key(|charge: &Charge| charge.n.to_string());
    let mut job = place.driver(sink.sdk_config(sdk_config(&place.stream.endpoint, None)));
    let error = job.try_start(1).unwrap_err();
    assert_eq!((error.kind(), error.step()), (ErrorKind::Config, Some("results")));
}

#[test]
fn a_program_without_the_rejected_output_does_not_lose_what_was_refused() {
    let place = Place::new();
    let context = place.context();
    let mut committer = charges(&place.stream.endpoint).committer(&context).unwrap();
    committer.recover(Some(&permit(Epoch::new(7))), &[]).unwrap();
    let handle = StagedHandle { epoch: Epoch::new(7), worker: 0, handle: vec![1] };
    let error = committer.recover(Some(&permit(Epoch::new(7))), &[handle]).unwrap_err();
    assert_eq!((error.kind(), error.step()), (ErrorKind::Config, Some("charges")));
}

/// As at the end of a job that ends well.
#[test]
fn an_epoch_that_is_still_waiting_outlives_its_writer_and_one_that_is_given_up_ends_with_it() {
    let place = Place::new();
    let context = place.context();
    let sink = charges(place.proxy.endpoint()).linger(Duration::from_secs(3_000));
    let mut writer = sink.writer(&context, 0).unwrap();
    place.proxy.inject(|request| if request.nth == 1 { Fault::Throttle } else { Fault::Pass });
    (0..5).for_each(|n| writer.stage(&Charge { n }).unwrap());
    let prepared = writer.prepare(Epoch::new(1)).unwrap().unwrap();
    drop(writer);
    assert_eq!(prepared.finish().unwrap(), None);
    assert_eq!(place.visible().len(), 5);
    let mut writer = sink.writer(&context, 0).unwrap();
    place.proxy.inject(|_| Fault::Throttle);
    writer.stage(&Charge { n: 6 }).unwrap();
    let prepared = writer.prepare(Epoch::new(2)).unwrap();
    drop((writer, prepared));
    place.proxy.inject(|_| Fault::Pass);
    assert_eq!(place.visible().len(), 5);
}

#[test]
fn a_job_that_has_failed_writes_no_more() {
    let place = Place::new();
    let mut job = place.driver(charges(place.proxy.endpoint()));
    job.start(1);
    place.proxy.inject(|_| Fault::Throttle);
    job.stage(0, 5);
    job.prepare();
    while place.proxy.seen().calls("PutRecords") == 0 {
        std::thread::yield_now();
    }
    job.crash();
    let calls = place.proxy.seen().calls("PutRecords");
    place.proxy.inject(|_| Fault::Pass);
    // That nothing comes can only be waited for: longer than a record waits that was throttled once or twice.
    std::thread::sleep(Duration::from_millis(900));
    assert!(place.proxy.seen().calls("PutRecords") <= calls + 1 && place.visible().is_empty());
}

#[test]
fn order_by_key_is_kept_through_failures() {
    let place = Place::new();
    let sink = kinesis(STREAM)
        .partition_key(|charge: &Charge| format!("key-{}", charge.n % 10))
        .encoded_by(|charge| Ok::<_, String>((charge.n / 10).to_string()))
        .sdk_config(sdk_config(place.proxy.endpoint(), None))
        .linger(Duration::from_millis(1))
        .producer(|settings| settings.call_records(8))
        .ordered();
    place.proxy.inject(|request| match (request.operation.as_str(), request.nth % 4) {
        ("PutRecords", 1) => Fault::SomeFail { every: 2 },
        ("PutRecords", 3) => Fault::ResetAfter,
        _ => Fault::Pass,
    });
    let mut job = Driver::new(Promise::AtLeastOnce, Box::new(sink), |n| Charge { n }, Vec::new);
    job.start(1);
    for _ in 0..4 {
        job.stage(0, 50);
        job.prepare();
        job.persist();
        job.commit();
    }
    assert_in_order(&by_key(&place.runtime.block_on(place.stream.read())), 20);
}
