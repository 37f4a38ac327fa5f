//! No password, and no key of the bucket that Redshift loads from, comes out anywhere: not in `Debug`, errors, logs, handles, or what the
//! server shows to others.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at what must not happen")]

#[path = "../postgres/support/mod.rs"]
mod support;

use std::fmt::Write;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use crate::support::pg_proxy::{Fault, PgProxy};
use crate::support::redshift::Shared;
use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use shardflow::sink::{Prepared, Sink, SinkContext, StagedHandle};
use shardflow::testing::sink::permit;
use shardflow::vocabulary::Incarnation;
use shardflow::{Epoch, ErrorKind};
use shardflow_sinks::{RedshiftSink, postgres, redshift};
use shardflow_stand_ins::fault_proxy::{self, FaultProxy};
use shardflow_stand_ins::ministack::Ministack;
use shardflow_stand_ins::postgres::{Database, LOCKED};
use shardflow_stand_ins::redshift::{Bucket, Copies, SYSTEM};
use tokio::runtime::Runtime;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// The password of the role that needs one.
const SECRET: &str = LOCKED.1;

/// What opens the bucket: key, secret and token.
const KEYS: [(&str, &str); 3] = [
    ("aws_access_key_id", "KEYOFTHETEST"),
    ("aws_secret_access_key", "SECRETKEYOFTHETEST"),
    ("aws_token", "SESSIONTOKENOFTHETEST"),
];

/// Everything that is logged by this process.
static LOG: LazyLock<Everything> = LazyLock::new(|| {
    let log = Everything::default();
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    log
});

/// Keeps every event and span of every crate, at every level.
#[derive(Clone, Default)]
struct Everything(Arc<Mutex<String>>);

impl Visit for Everything {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0.lock().unwrap(), "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut self.clone());
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
        self.0.lock().unwrap().push('\n');
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn context(runtime: &Runtime) -> SinkContext {
    SinkContext {
        job: "billing".to_owned(),
        step: "charges".into(),
        incarnation: Incarnation::new(1),
        committed: None,
        workers: 1,
        folder: "/nowhere".into(),
        runtime: runtime.handle().clone(),
    }
}

#[test]
fn no_password_comes_out_anywhere() {
    let log = LOG.clone();
    let Some(db) = Database::fresh() else { return };
    db.run(&format!(
        "CREATE ROLE locked LOGIN PASSWORD '{SECRET}'; CREATE TABLE numbers (n integer);
         GRANT ALL ON SCHEMA public TO locked; GRANT ALL ON numbers TO locked"
    ));
    let proxy = PgProxy::start(db.runtime.handle(), db.cluster.port());
    let at = format!("127.0.0.1:{}/{}", proxy.port(), db.name);
    let url = format!("postgres://locked:{SECRET}@{at}");
    let mut said = String::new();
    // What cannot be read, what cannot be reached, and what works.
    let bad = [
        format!("postgres://locked:{SECRET}@{at}?sslmode={SECRET}"),
        format!("postgres://locked:x@{SECRET}@{at}"),
        format!("postgres://locked:x@y/{SECRET}@{at}?{SECRET}"),
        format!("host=127.0.0.1 password=a {SECRET}"),
        format!("host=127.0.0.1 password=a {SECRET}=b"),
        format!("host=127.0.0.1 port=1 user=locked password={SECRET}"),
        format!("postgres://locked:{SECRET}@localhost:1/x"),
        url.replace(SECRET, &format!("{SECRET}wrong")),
    ];
    let runtime = Runtime::new().unwrap();
    let context = context(&runtime);
    for text in bad {
        let sink = postgres(text).table("numbers").column("n", |n: &i64| n).give_up_after(Duration::ZERO);
        let error = sink.committer(&context).err().unwrap();
        write!(said, "{sink:?} {error} {error:?}").unwrap();
    }
    for server in [postgres(&url), postgres(url.replace(SECRET, "x")).password(SECRET)] {
        let sink = server
            .table("numbers")
            .column("n", |n: &i64| n)
            .rejected_to_table("rejected")
            .copy_name(said.len().to_string());
        write!(said, "{server:?} {sink:?}").unwrap();
        let mut committer = sink.committer(&context).unwrap();
        committer.recover(None, &[]).unwrap();
        let mut writer = sink.writer(&context, 0).unwrap();
        (0..1_000).for_each(|n| writer.stage(&(n * n * n * n)).unwrap());
        let Some(Prepared::Flush(flush)) = writer.prepare(Epoch::new(1)).unwrap() else { panic!("nothing prepared") };
        let handle = flush().unwrap().unwrap();
        said.push_str(&String::from_utf8_lossy(&handle));
        proxy.once(Fault::ResetAfter, |message| message.is("COMMIT"));
        committer.commit(&permit(Epoch::new(1)), &[StagedHandle { epoch: Epoch::new(1), worker: 0, handle }]).unwrap();
    }
    let log = log.0.lock().unwrap().clone();
    assert!(log.contains("rows were refused and set aside") && log.contains("will be tried again"), "{log}");
    assert!(said.contains("database"), "{said}");
    for text in [
        said,
        log,
        db.text("SELECT string_agg(a::text, '') FROM pg_stat_activity a"),
        db.text("SELECT string_agg(r::text, '') FROM rejected r"),
    ] {
        assert!(!text.contains(SECRET), "{text}");
    }
}

/// One epoch of a thousand numbers, of which the table takes some; gives its handle.
fn load(sink: &RedshiftSink<i64>, context: &SinkContext) -> shardflow::Result<Vec<u8>> {
    let mut committer = sink.committer(context)?;
    committer.recover(None, &[])?;
    let mut writer = sink.writer(context, 0)?;
    (0..1_000).try_for_each(|n: i64| writer.stage(&(n * n * n * n)))?;
    let Some(Prepared::Flush(flush)) = writer.prepare(Epoch::new(1))? else { panic!("nothing prepared") };
    let handle = flush()?.unwrap();
    let staged = StagedHandle { epoch: Epoch::new(1), worker: 0, handle: handle.clone() };
    committer.commit(&permit(Epoch::new(1)), &[staged])?;
    Ok(handle)
}

#[test]
fn nothing_that_opens_the_bucket_comes_out_anywhere() {
    use fault_proxy::Fault;
    let log = LOG.clone();
    let Some(db) = Database::fresh() else { return };
    let Some(server) = db.runtime.block_on(Ministack::start()) else { return };
    db.run(SYSTEM);
    db.run("CREATE TABLE numbers (n integer)");
    db.runtime.block_on(Bucket::create(&server.endpoint(), "staging"));
    let proxy = db.runtime.block_on(FaultProxy::start(&server.endpoint()));
    let s3 =
        AmazonS3Builder::new().with_bucket_name("staging").with_region("us-east-1").with_endpoint(server.endpoint());
    let s3 = s3.with_access_key_id("test").with_secret_access_key("test").with_allow_http(true).build().unwrap();
    let (copies, s3): (_, Arc<dyn ObjectStore>) = (Arc::new(Copies::new(db.other())), Arc::new(s3));
    let sink = |job: &str, give_up_after: Duration| {
        let sink = redshift(db.address()).table("numbers").column("n", |n: &i64| n).rejected_to_table("rejected");
        let sink = sink.staged_in("s3://staging/red").staging_endpoint(proxy.endpoint()).region("us-east-1");
        let sink = KEYS.iter().fold(sink, |sink, (name, value)| sink.staging_option(*name, *value));
        let sink = sink.staging_option("timeout", "1 second").give_up_after(give_up_after).copy_name(job);
        sink.copy_with(Shared(Arc::clone(&copies), Arc::clone(&s3)))
    };
    let runtime = Runtime::new().unwrap();
    let context = context(&runtime);
    let mut said = String::new();
    // A secret in the wrong place, and under a name that is none.
    for name in ["aws_conditional_put", "colour"] {
        let error = sink("wrong", Duration::ZERO).staging_option(name, KEYS[1].1).committer(&context).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Config);
        write!(said, "{error} {error:?} ").unwrap();
    }
    // It gets through, in spite of each kind of fault.
    let faults = [Fault::Error503, Fault::ResetAfter, Fault::Truncated, Fault::Error500, Fault::ResetBefore];
    proxy.inject(move |request| {
        let nth = request.nth as usize;
        if nth.is_multiple_of(3) { faults[nth / 3 % faults.len()] } else { Fault::Pass }
    });
    let patient = sink("patient", Duration::from_secs(60));
    let handle = load(&patient, &context).unwrap();
    write!(said, "{patient:?} {} ", String::from_utf8_lossy(&handle)).unwrap();
    // And it gives up, with each of them alone.
    for fault in [Fault::Error503, Fault::Error500, Fault::ResetAfter, Fault::Truncated, Fault::Refused("AccessDenied")]
    {
        proxy.inject(move |_| fault);
        match load(&sink(fault.name(), Duration::ZERO), &context) {
            Ok(_) => assert_eq!(fault, Fault::Truncated),
            Err(error) => write!(said, "{error} {error:?} ").unwrap(),
        }
    }
    let log = log.0.lock().unwrap().clone();
    assert!(log.contains("stay behind until the next start") && log.contains("will be tried again"), "{log}");
    assert!(said.contains("could not stage") && said.contains("aws_secret_access_key"), "{said}");
    let rejected = db.text("SELECT string_agg(r::text, '') FROM rejected r");
    for text in [said, log, rejected] {
        for secret in KEYS.map(|(_, value)| value).into_iter().chain(["X-Amz-Signature=", "X-Amz-Credential="]) {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret} is told");
        }
    }
}
