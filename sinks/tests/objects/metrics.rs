//! What the object sink counts, while it spools, ships, refuses, and is interrupted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use object_store::ObjectStore;
use shardflow::Epoch;
use shardflow::sink::{Committer, Prepared, Sink, SinkContext, SinkWriter, StagedHandle};
use shardflow::testing::sink::permit;
use shardflow::vocabulary::Incarnation;
use shardflow_sinks::{ObjectSink, objects_in};

use crate::common::faulty::{Fault, Faulty};
use crate::common::visible;

/// The metrics of one step, whatever other tests of this process count.
struct Metrics(PrometheusHandle);

impl Metrics {
    const STEP: &str = "measured";

    fn of(&self, name: &str) -> f64 {
        let (text, step) = (self.0.render(), format!("step=\"{}\"", Self::STEP));
        let is_meant = |line: &&str| line.starts_with(&format!("shardflow_sink_{name}{{")) && line.contains(&step);
        let found = text.lines().filter(is_meant).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
        found.sum()
    }
}

/// Stages numbers in one epoch, makes it durable, and commits it.
fn epoch(
    committer: &mut dyn Committer,
    writer: &mut dyn SinkWriter<u64>,
    number: u64,
    records: std::ops::Range<u64>,
) -> StagedHandle {
    records.for_each(|record| writer.stage(&record).unwrap());
    let Some(Prepared::Flush(flush)) = writer.prepare(Epoch::new(number)).unwrap() else {
        panic!("nothing was staged")
    };
    let staged = StagedHandle { epoch: Epoch::new(number), worker: 0, handle: flush().unwrap().unwrap() };
    committer.commit(&permit(Epoch::new(number)), std::slice::from_ref(&staged)).unwrap();
    staged
}

fn start(sink: &ObjectSink<u64>, context: &SinkContext) -> (Box<dyn Committer>, Box<dyn SinkWriter<u64>>) {
    let mut committer = sink.committer(context).unwrap();
    committer.recover(context.committed.map(permit).as_ref(), &[]).unwrap();
    (committer, sink.writer(context, 0).unwrap())
}

#[test]
fn what_is_spooled_shipped_refused_and_called_is_counted() {
    let metrics = Metrics(PrometheusBuilder::new().install_recorder().unwrap());
    let (here, is_here) = mpsc::channel();
    let (go, goes) = mpsc::channel();
    let goes = Mutex::new(goes);
    let is_silent = Arc::new(AtomicBool::new(false));
    let (silent, fails) = (Arc::clone(&is_silent), AtomicBool::new(true));
    // Each object waits to be let go, then the manifest fails once; later the store is silent.
    let store = Faulty::new(move |call| match call.what {
        "put" if call.key.ends_with(".ndjson") => {
            here.send(()).unwrap();
            if silent.load(Ordering::Relaxed) {
                return Fault::Never;
            }
            goes.lock().unwrap().recv().unwrap();
            Fault::Pass
        }
        "put" if call.key.contains("_manifests") && fails.swap(false, Ordering::Relaxed) => Fault::Before,
        _ => Fault::Pass,
    });
    let folder = tempfile::tempdir().unwrap();
    let mut context = shardflow::testing::sink::context("job", Metrics::STEP);
    context.folder = folder.path().to_owned();
    // Two of ten records have no place.
    let sink = objects_in::<u64>(Arc::clone(&store) as Arc<dyn ObjectStore>, "out")
        .partitioned_by("p={p}")
        .partition_field("p", |number| if number % 10 < 2 { "x".repeat(300).into() } else { "a".into() })
        .keep_rejected()
        .roll_after(Duration::from_secs(3600))
        .roll_records(10)
        .concurrency(1);

    let (mut committer, mut writer) = start(&sink, &context);
    epoch(committer.as_mut(), writer.as_mut(), 1, 0..4);
    assert!(metrics.of("spooled_bytes") > 0.0);
    assert_eq!(metrics.of("unshipped_bytes"), 0.0);
    epoch(committer.as_mut(), writer.as_mut(), 2, 4..10);
    assert_eq!(metrics.of("spooled_bytes"), 0.0);
    is_here.recv().unwrap();
    assert!(metrics.of("unshipped_bytes") > 0.0);
    assert_eq!(
        ["calls_in_flight", "objects_total", "records_total", "refused_total"].map(|name| metrics.of(name)),
        [1.0, 0.0, 0.0, 0.0]
    );
    (0..2).for_each(|_| go.send(()).unwrap());
    committer.close().unwrap();
    is_here.recv().unwrap();
    drop((committer, writer));
    let objects = visible(&store.inner);
    assert_eq!(objects.len(), 1);
    for (name, expected) in [
        ("unshipped_bytes", 0.0),
        ("objects_total", 2.0),
        ("ship_seconds_count", 1.0),
        ("records_total", 8.0),
        ("bytes_total", objects.values().map(Vec::len).sum::<usize>() as f64),
        ("refused_total", 2.0),
        ("retries_total", 1.0),
        ("call_seconds_count", 4.0),
        ("calls_in_flight", 0.0),
    ] {
        assert_eq!(metrics.of(name), expected, "{name}");
    }

    // A job that ends while a call is on its way takes it along; the next start counts from what is there.
    is_silent.store(true, Ordering::Relaxed);
    (context.incarnation, context.committed) = (Incarnation::new(2), Some(Epoch::new(2)));
    let (mut committer, mut writer) = start(&sink, &context);
    epoch(committer.as_mut(), writer.as_mut(), 3, 10..20);
    is_here.recv().unwrap();
    assert_eq!(metrics.of("calls_in_flight"), 1.0);
    drop((committer, writer));
    assert_eq!(metrics.of("calls_in_flight"), 0.0);
    assert!(metrics.of("unshipped_bytes") > 0.0);
    is_silent.store(false, Ordering::Relaxed);
    (0..2).for_each(|_| go.send(()).unwrap());
    (context.incarnation, context.committed) = (Incarnation::new(3), Some(Epoch::new(3)));
    drop(start(&sink, &context));
    assert_eq!(
        [metrics.of("unshipped_bytes"), metrics.of("objects_total"), metrics.of("ship_seconds_count")],
        [0.0, 4.0, 2.0]
    );
}
