//! Nothing secret is told: not in `Debug`, errors, handles, spooled files, objects, nor in what is logged at any level.
#![cfg(feature = "objects")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at what must not happen")]

#[path = "objects/common/mod.rs"]
mod common;

use std::io::Write;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use common::wait;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use shardflow::sink::{Prepared, Sink, SinkContext};
use shardflow::testing::sink::permit;
use shardflow::vocabulary::Incarnation;
use shardflow::{Epoch, Result};
use shardflow_sinks::{ObjectSink, objects};
use shardflow_stand_ins::fault_proxy::{Fault, FaultProxy};
use shardflow_stand_ins::ministack::Ministack;
use tracing_subscriber::EnvFilter;

const KEY: &str = "KEYOFTHETEST";
const SECRET: &str = "SECRETKEYOFTHETEST";
const TOKEN: &str = "SESSIONTOKENOFTHETEST";

/// Everything that was logged.
static LOGGED: LazyLock<Arc<Mutex<Vec<u8>>>> = LazyLock::new(Arc::default);

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn client(endpoint: &str) -> AmazonS3 {
    let s3 = AmazonS3Builder::new().with_bucket_name("results").with_region("us-east-1").with_endpoint(endpoint);
    s3.with_access_key_id("test").with_secret_access_key("test").with_allow_http(true).build().unwrap()
}

fn sink(endpoint: &str, give_up: Duration) -> ObjectSink<String> {
    objects("s3://results/out")
        .endpoint(endpoint)
        .region("us-east-1")
        .option("aws_access_key_id", KEY)
        .option("aws_secret_access_key", SECRET)
        .option("aws_token", TOKEN)
        .option("timeout", "1 second")
        .part_bytes(5 << 20)
        .give_up_after(give_up)
        .roll_after(Duration::ZERO)
}

/// Runs one epoch with an object in parts; gives its handle.
fn run(sink: &ObjectSink<String>, context: &SinkContext) -> Result<Vec<u8>> {
    let epoch = Epoch::new(context.incarnation.number());
    let mut committer = sink.committer(context)?;
    committer.recover(context.committed.map(permit).as_ref(), &[])?;
    let mut writer = sink.writer(context, 0)?;
    (0..300).try_for_each(|_| writer.stage(&"x".repeat(20_000)))?;
    let handle = match writer.prepare(epoch)?.unwrap() {
        Prepared::Staged(handle) => handle,
        Prepared::Flush(flush) => flush()?.unwrap(),
    };
    let staged = shardflow::sink::StagedHandle { epoch, worker: 0, handle: handle.clone() };
    committer.commit(&permit(epoch), &[staged])?;
    Ok(handle)
}

#[test]
fn neither_keys_nor_signatures_are_told_anywhere() {
    tracing_subscriber::fmt().with_env_filter(EnvFilter::new("trace")).with_writer(|| Log).init();
    let Some(server) = wait(Ministack::start()) else { return };
    wait(async {
        let answer = reqwest::Client::new().put(format!("{}/results", server.endpoint())).send().await.unwrap();
        assert!(answer.status().is_success());
        // A leftover, so that a start lists by a signed URL and aborts.
        let path = Path::from("out/job.charges-i00000-w00-s000000-f0000000001-e0000000001-p000.ndjson");
        client(&server.endpoint()).create_multipart(&path).await.unwrap();
    });
    let proxy = wait(FaultProxy::start(&server.endpoint()));
    let folder = tempfile::tempdir().unwrap();
    let mut context = shardflow::testing::sink::context("job", "charges");
    context.folder = folder.path().join("sink");
    let mut told = String::new();
    // It gets through, in spite of each kind of fault.
    let faults = [Fault::Error503, Fault::ResetAfter, Fault::Truncated, Fault::Error500, Fault::ResetBefore];
    proxy.inject(move |request| {
        let nth = request.nth as usize;
        if nth.is_multiple_of(3) { faults[nth / 3 % faults.len()] } else { Fault::Pass }
    });
    let patient = sink(proxy.endpoint(), Duration::from_secs(60));
    let handle = run(&patient, &context).unwrap();
    told.push_str(&format!("{patient:?} {} ", String::from_utf8_lossy(&handle)));
    // And it gives up, with each of them alone.
    for (incarnation, fault) in (2..).zip([
        Fault::Error503,
        Fault::Error500,
        Fault::ResetAfter,
        Fault::Truncated,
        Fault::Refused("AccessDenied"),
        Fault::SlowBytes,
    ]) {
        proxy.inject(move |_| fault);
        context.incarnation = Incarnation::new(incarnation);
        context.committed = Some(Epoch::new(1));
        let hasty = sink(proxy.endpoint(), Duration::ZERO);
        match run(&hasty, &context) {
            Ok(_) => assert_eq!(fault, Fault::SlowBytes),
            Err(error) => told.push_str(&format!("{error} {error:?} ")),
        }
    }
    // What it gets through at its start it is refused when it ships.
    proxy.inject(|request| if request.operation == "POST" { Fault::Refused("AccessDenied") } else { Fault::Pass });
    (context.incarnation, context.committed) = (Incarnation::new(8), Some(Epoch::new(7)));
    let error = run(&sink(proxy.endpoint(), Duration::ZERO), &context).unwrap_err();
    told.push_str(&format!("{error} {error:?} "));
    let objects = common::everything(&client(&server.endpoint()));
    let spooled = common::files_below(folder.path()).into_iter().map(|path| std::fs::read(path).unwrap());
    for bytes in objects.into_values().chain(spooled) {
        told.push_str(&String::from_utf8_lossy(&bytes));
    }
    let logged = String::from_utf8_lossy(&LOGGED.lock().unwrap()).into_owned();
    let ours: String = logged.lines().filter(|line| line.contains("shardflow")).take(20).collect();
    assert!(
        logged.contains("uploads that earlier starts"),
        "what is logged was not seen: {} bytes, {ours}",
        logged.len()
    );
    let failures: Vec<&str> = logged.lines().filter(|line| line.contains("could not ship committed records")).collect();
    let tells =
        |line: &&str| line.contains("ERROR") && line.contains("charges") && line.contains("out/job.charges-i0000");
    assert!(failures.iter().any(tells), "a shipment that failed was not logged with its step and object: {failures:?}");
    assert!(told.contains("could not") && told.contains("s3://results"), "errors were seen");
    for secret in [KEY, SECRET, TOKEN, "X-Amz-Signature=", "X-Amz-Credential="] {
        assert!(!told.contains(secret), "{secret} is told");
        let at = logged.find(secret);
        let line = at
            .map(|at| logged[..at].rfind('\n').map_or(0, |start| start + 1))
            .map(|start| logged[start..].lines().next());
        assert!(at.is_none(), "{secret} is logged: {line:?}");
    }
}
