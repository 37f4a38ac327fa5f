//! No password comes out anywhere: not in `Debug`, errors, logs, handles, or what the server shows to others.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at what must not happen")]

#[path = "../postgres/support/mod.rs"]
mod support;

use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::pg_proxy::{Fault, PgProxy};
use shardflow::Epoch;
use shardflow::sink::{Prepared, Sink, SinkContext, StagedHandle};
use shardflow::testing::sink::permit;
use shardflow::vocabulary::Incarnation;
use shardflow_sinks::postgres;
use shardflow_stand_ins::postgres::{Database, LOCKED};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// The password of the role that needs one.
const SECRET: &str = LOCKED.1;

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

#[test]
fn no_password_comes_out_anywhere() {
    let log = Everything::default();
    tracing::subscriber::set_global_default(log.clone()).unwrap();
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
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let context = SinkContext {
        job: "billing".to_owned(),
        step: "charges".into(),
        incarnation: Incarnation::new(1),
        committed: None,
        workers: 1,
        folder: "/nowhere".into(),
        runtime: runtime.handle().clone(),
    };
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
