//! The object sink on S3 as ministack plays it, plain and behind a proxy that breaks what passes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crate::common::{assert_manifested, numbers, path, visible, wait};
use crate::wide::{assert_parted, through_faults, wide, wide_numbers};
use object_store::aws::AmazonS3Builder;
use object_store::multipart::MultipartStore;
use object_store::signer::{Method, SignedUrlOptions, Signer};
use object_store::{ObjectStore, PutPayload, aws::AmazonS3};
use shardflow::sink::Sink;
use shardflow::testing::sink::{Driver, Promise, conforms};
use shardflow_sinks::{Ndjson, ObjectSink, objects};
use shardflow_stand_ins::fault_proxy::{Fault, FaultProxy};
use shardflow_stand_ins::ministack::Ministack;

const BUCKET: &str = "results";

/// A client that asks the server itself.
fn client(server: &Ministack, bucket: &str) -> AmazonS3 {
    let s3 = AmazonS3Builder::new().with_bucket_name(bucket).with_region("us-east-1").with_endpoint(server.endpoint());
    s3.with_access_key_id("test").with_secret_access_key("test").with_allow_http(true).build().unwrap()
}

async fn make(server: &Ministack, bucket: &str) {
    let url = format!("{}/{bucket}", server.endpoint());
    let answer = reqwest::Client::new().put(url).send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}

/// A running server with a bucket; `None` where it is not installed.
fn server() -> Option<Ministack> {
    wait(async {
        let server = Ministack::start().await?;
        make(&server, BUCKET).await;
        Some(server)
    })
}

/// A sink that shows each epoch at once.
fn sink(endpoint: &str, bucket: &str) -> ObjectSink<u64> {
    objects(format!("s3://{bucket}/out/numbers"))
        .endpoint(endpoint)
        .region("us-east-1")
        .option("aws_access_key_id", "test")
        .option("aws_secret_access_key", "test")
        .roll_after(Duration::ZERO)
}

/// Uploads in parts that were begun and neither completed nor aborted.
fn open_uploads(server: &Ministack) -> usize {
    open_uploads_in(server, BUCKET)
}

fn open_uploads_in(server: &Ministack, bucket: &str) -> usize {
    let s3 = client(server, bucket);
    wait(async {
        let root = object_store::path::Path::default();
        let options = SignedUrlOptions::new().with_query([("uploads", "")]);
        let url = s3.signed_url_opts(Method::GET, &root, Duration::from_secs(60), &options);
        let answer = reqwest::get(url.await.unwrap()).await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        answer.text().await.unwrap().matches("<UploadId>").count()
    })
}

#[test]
fn it_conforms_on_s3() {
    let Some(server) = server() else { return };
    let buckets = AtomicU64::new(0);
    let place = || {
        let bucket = format!("bucket-{}", buckets.fetch_add(1, Ordering::Relaxed));
        wait(make(&server, &bucket));
        bucket
    };
    conforms(
        Promise::ExactlyOnce,
        place,
        |bucket| Box::new(sink(&server.endpoint(), bucket).format(Ndjson.gzip())) as Box<dyn Sink<u64>>,
        |number| number,
        |bucket| numbers(&client(&server, bucket)),
    );
}

fn wide_sink(endpoint: &str) -> ObjectSink<String> {
    wide_sink_in(endpoint, BUCKET)
}

fn wide_sink_in(endpoint: &str, bucket: &str) -> ObjectSink<String> {
    objects(format!("s3://{bucket}/wide"))
        .endpoint(endpoint)
        .region("us-east-1")
        .option("aws_access_key_id", "test")
        .option("aws_secret_access_key", "test")
        .roll_after(Duration::ZERO)
        .part_bytes(5 << 20)
}

#[test]
fn large_objects_go_in_parts_and_what_a_crash_leaves_of_them_is_aborted() {
    let Some(server) = server() else { return };
    let s3 = client(&server, BUCKET);
    let left = "wide/day=1/conformance.results-i00001-w00-s000000-f0000000001-e0000000001-p000.ndjson";
    let foreign = "wide/other.results-i00001-w00-s000000-f0000000001-e0000000001-p000.ndjson";
    for name in [left, foreign] {
        wait(async {
            let upload = s3.create_multipart(&path(name)).await.unwrap();
            s3.put_part(&path(name), &upload, 0, PutPayload::from(vec![1; 5 << 20])).await.unwrap();
        });
    }
    assert_eq!(open_uploads(&server), 2);
    let visible = || wide_numbers(&s3);
    let mut job = Driver::new(Promise::ExactlyOnce, Box::new(wide_sink(&server.endpoint())), wide, visible);
    job.start(1);
    assert_eq!(open_uploads(&server), 1, "that of another job stays");
    job.stage(0, 600);
    job.finish();
    job.start(1);
    assert_eq!(open_uploads(&server), 1);
    assert_manifested(&s3);
    assert_parted(&s3);
}

/// What became of the second of two jobs that began with one state, and what is there of the first one's object, and after it.
struct Twins {
    second: shardflow::Result<()>,
    firsts: BTreeMap<String, Vec<u8>>,
    left: BTreeMap<String, Vec<u8>>,
}

/// Runs two jobs of one name and state. The second has sent all parts of its object, and is held right before it completes it
/// until the first has committed an object of the same name; then its completion meets `fault`.
fn twins(server: &Ministack, bucket: &str, record: impl Fn(u64) -> String, fault: Fault) -> Twins {
    wait(make(server, bucket));
    let s3 = client(server, bucket);
    // On a runtime of its own: it is held there, and the first job goes on.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let proxy = runtime.block_on(FaultProxy::start(&server.endpoint()));
    let (ready, is_ready) = mpsc::channel();
    let (go, goes) = mpsc::channel();
    let (done, is_done) = mpsc::channel();
    let s3 = &s3;
    thread::scope(|scope| {
        let first = scope.spawn(move || {
            let sink = wide_sink_in(&server.endpoint(), bucket);
            let mut first = Driver::new(Promise::ExactlyOnce, Box::new(sink), wide, || wide_numbers(s3));
            first.start(1);
            first.stage(0, 600);
            first.prepare();
            first.persist();
            ready.send(()).unwrap();
            goes.recv().unwrap();
            first.commit();
            first.assert_all_visible();
            let firsts = visible(s3);
            done.send(()).unwrap();
            firsts
        });
        let sink = wide_sink_in(proxy.endpoint(), bucket);
        let mut second = Driver::new(Promise::ExactlyOnce, Box::new(sink), record, Vec::new);
        second.try_start(1).unwrap();
        second.stage(0, 600);
        second.prepare();
        second.persist();
        is_ready.recv().unwrap();
        // Its first POST begins the upload, its second completes it.
        let (posts, turn) = (AtomicU64::new(0), Mutex::new((go, is_done)));
        proxy.inject(move |request| {
            let post = if request.operation == "POST" { posts.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
            if post == 2 {
                let (go, is_done) = &*turn.lock().unwrap();
                go.send(()).unwrap();
                is_done.recv().unwrap();
            }
            if post >= 2 { fault } else { Fault::Pass }
        });
        let second = second.try_commit();
        let firsts = first.join().unwrap();
        Twins { second, firsts, left: visible(s3) }
    })
}

#[test]
fn of_twins_neither_writes_over_an_object_in_parts_that_the_other_has_committed() {
    let Some(server) = server() else { return };
    let other = |number| wide(number).replace('x', "y");
    let Twins { second, firsts, left } = twins(&server, "other", other, Fault::Pass);
    let error = second.unwrap_err().to_string();
    assert!(error.contains("is there already, with other content of the same size"), "{error}");
    assert!(left == firsts, "it was written over");
    // A zombie that ships what its successor has shipped is done, and has changed nothing.
    let Twins { second, firsts, left } = twins(&server, "same", wide, Fault::Pass);
    second.unwrap();
    assert!(left == firsts, "it was written over");
    for bucket in ["other", "same"] {
        assert_eq!(open_uploads_in(&server, bucket), 0, "what was refused is aborted");
    }
    // It is the condition that does it: without it, the second writes over the first, and fails at its manifest, which is put.
    let Twins { second, firsts, left } = twins(&server, "without", other, Fault::Unconditional);
    assert!(second.unwrap_err().to_string().contains("_manifests/"));
    assert!(left != firsts, "something else than the condition protects it");
}

#[test]
fn where_a_store_ignores_the_condition_of_a_completion_names_are_looked_at_right_before() {
    let Some(server) = server() else { return };
    let s3 = client(&server, BUCKET);
    let proxy = wait(FaultProxy::start(&server.endpoint()));
    for (fault, looks) in [(Fault::Pass, 1), (Fault::Unconditional, 2)] {
        proxy.inject(move |request| if request.operation == "POST" { fault } else { Fault::Pass });
        let sink = wide_sink(proxy.endpoint());
        let mut job = Driver::new(Promise::ExactlyOnce, Box::new(sink), wide, || wide_numbers(&s3));
        job.start(1);
        job.stage(0, 600);
        job.prepare();
        job.persist();
        let before = proxy.seen().calls("HEAD");
        job.commit();
        job.assert_all_visible();
        assert_eq!(proxy.seen().calls("HEAD") - before, looks, "{fault:?}");
        assert_eq!(open_uploads(&server), 0, "{fault:?}");
        wait(empty(&s3));
    }
}

#[test]
fn faults_on_the_way_to_s3_leave_exact_results() {
    let Some(server) = server() else { return };
    let s3 = client(&server, BUCKET);
    let proxy = wait(FaultProxy::start(&server.endpoint()));
    let mut job = Driver::new(Promise::ExactlyOnce, Box::new(wide_sink(proxy.endpoint())), wide, || wide_numbers(&s3));
    through_faults(&mut job, &proxy, &s3);
    proxy.inject(|_| Fault::Pass);
    job.start(1);
    job.finish();
    assert_eq!(open_uploads(&server), 0);
}

#[test]
fn each_fault_alone_leaves_exact_results() {
    let Some(server) = server() else { return };
    let s3 = client(&server, BUCKET);
    let proxy = wait(FaultProxy::start(&server.endpoint()));
    let mut job = Driver::new(Promise::ExactlyOnce, Box::new(wide_sink(proxy.endpoint())), wide, || wide_numbers(&s3));
    for fault in
        [Fault::Error503, Fault::Error500, Fault::ResetBefore, Fault::ResetAfter, Fault::ResetMidBody, Fault::Truncated]
    {
        // Every second call of each kind: a call that is made again gets through.
        proxy.inject(move |request| if request.nth % 2 == 1 { fault } else { Fault::Pass });
        job.start(1);
        job.stage(0, 5);
        job.finish();
        job.start(1);
        job.stage(0, 600);
        job.finish();
    }
    let seen = proxy.seen();
    eprintln!("{seen}");
    for operation in ["PUT", "POST", "GET", "HEAD"] {
        assert!(seen.faults_of(operation) > 0, "no {operation} was broken: {seen}");
    }
    assert_manifested(&s3);
}

#[test]
fn a_bucket_that_is_not_there_stops_the_start() {
    let Some(server) = server() else { return };
    let mut job: Driver<'_, u64> =
        Driver::new(Promise::ExactlyOnce, Box::new(sink(&server.endpoint(), "absent")), |number| number, Vec::new);
    let error = job.try_start(1).unwrap_err();
    assert!(error.to_string().contains("s3://absent") && error.to_string().contains("NoSuchBucket"), "{error}");
}

#[test]
fn a_store_that_silently_ignores_put_if_absent_is_found_out_at_the_start() {
    let Some(server) = server() else { return };
    let s3 = client(&server, BUCKET);
    let proxy = wait(FaultProxy::start(&server.endpoint()));
    proxy.inject(|_| Fault::Unconditional);
    let job =
        |sink: ObjectSink<u64>| Driver::new(Promise::ExactlyOnce, Box::new(sink), |number| number, || numbers(&s3));
    let error = job(sink(proxy.endpoint(), BUCKET)).try_start(1).unwrap_err().to_string();
    assert!(error.contains("s3://results") && error.contains("without_put_if_absent"), "{error}");
    let mut goes_on = job(sink(proxy.endpoint(), BUCKET).without_put_if_absent());
    goes_on.start(1);
    goes_on.stage(0, 5);
    goes_on.finish();
    assert_eq!(numbers(&s3).len(), 5);
}

#[test]
fn credentials_of_the_sdk_are_used() {
    let Some(server) = server() else { return };
    let credentials = aws_credential_types::Credentials::new("test", "test", None, None, "test");
    let config = aws_config::SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new("us-east-1"))
        .endpoint_url(server.endpoint())
        .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(credentials))
        .build();
    let s3 = Arc::new(client(&server, BUCKET)) as Arc<dyn ObjectStore>;
    let sink = objects(format!("s3://{BUCKET}/sdk")).sdk_config(config).roll_after(Duration::ZERO);
    let mut job = crate::common::job(&s3, sink);
    job.start(1);
    job.stage(0, 5);
    job.finish();
    assert_eq!(numbers(s3.as_ref()).len(), 5);
}

#[test]
fn calls_that_take_too_long_are_made_again_and_what_they_did_is_not_done_twice() {
    let Some(server) = server() else { return };
    let s3 = client(&server, BUCKET);
    let proxy = wait(FaultProxy::start(&server.endpoint()));
    let sink = || sink(proxy.endpoint(), BUCKET).option("timeout", "300ms");
    // The server has done the work, and its answer is slower than the client's patience; or the call comes too late.
    for fault in [Fault::SlowBytes, Fault::Delay(Duration::from_millis(600))] {
        proxy.inject(move |request| if request.nth % 2 == 1 { fault } else { Fault::Pass });
        let mut job = Driver::new(Promise::ExactlyOnce, Box::new(sink()), |number| number, || numbers(&s3));
        job.start(1);
        for _ in 0..2 {
            job.stage(0, 20);
            job.prepare();
            job.persist();
            job.commit();
            job.assert_all_visible();
        }
        proxy.inject(|_| Fault::Pass);
        job.start(1);
        job.finish();
        wait(empty(&s3));
    }
    let seen = proxy.seen();
    eprintln!("{seen}");
    assert!(seen.faults_of("PUT") > 4, "{seen}");
}

async fn empty(s3: &AmazonS3) {
    use futures::StreamExt;
    let names = s3.list(None).map(|found| found.map(|found| found.location)).boxed();
    let removed: Vec<_> = s3.delete_stream(names).collect().await;
    assert!(removed.iter().all(Result::is_ok));
}
