//! What is counted, through a recorder of the test's own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, with_local_recorder};

use super::*;

#[derive(Default)]
struct Seen {
    numbers: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    samples: Mutex<BTreeMap<String, Arc<Samples>>>,
}

#[derive(Default)]
struct Samples(Mutex<Vec<f64>>);

impl HistogramFn for Samples {
    fn record(&self, value: f64) {
        self.0.lock().unwrap().push(value);
    }
}

fn name(key: &Key) -> String {
    let labels: Vec<String> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
    format!("{} {}", key.name(), labels.join(" "))
}

impl Seen {
    fn number(&self, key: &Key) -> Arc<AtomicU64> {
        Arc::clone(self.numbers.lock().unwrap().entry(name(key)).or_default())
    }

    fn count(&self, name: &str) -> u64 {
        self.numbers.lock().unwrap()[name].load(Ordering::SeqCst)
    }

    fn samples(&self, name: &str) -> Vec<f64> {
        self.samples.lock().unwrap()[name].0.lock().unwrap().clone()
    }
}

impl Recorder for Seen {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.number(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.number(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::clone(self.samples.lock().unwrap().entry(name(key)).or_default()))
    }
}

#[test]
fn what_happens_to_records_and_calls_is_counted_by_stream_and_for_the_sink() {
    let seen = Seen::default();
    let metrics = with_local_recorder(&seen, || {
        let sink = DeliveryMetrics::register(&"charges".into(), 1);
        Metrics::register(&[Label::new("stream", "usage")], Some(sink))
    });
    metrics.puts.increment(4);
    let (over, dropped) = (metrics.call([3, 1].into_iter()), metrics.call(std::iter::empty()));
    drop(over);
    for calls in
        ["shardflow_producer_calls_in_flight stream=usage", "shardflow_sink_calls_in_flight step=charges worker=1"]
    {
        assert_eq!(f64::from_bits(seen.count(calls)), 1.0, "{calls}");
    }
    drop(dropped);
    metrics.answered(Duration::from_millis(250), Retried { throttled: 2, failed: 1, credentials: 0 });
    metrics.placed(10, Duration::from_millis(500));
    metrics.refused();
    metrics.failed();
    for (name, count) in [
        ("shardflow_producer_puts_total stream=usage", 4),
        ("shardflow_producer_stream_records_total stream=usage", 2),
        ("shardflow_producer_retries_total stream=usage cause=throttled", 2),
        ("shardflow_producer_retries_total stream=usage cause=failed", 1),
        ("shardflow_producer_records_total stream=usage", 1),
        ("shardflow_producer_bytes_total stream=usage", 10),
        ("shardflow_producer_refused_total stream=usage", 1),
        ("shardflow_producer_failed_total stream=usage", 1),
        ("shardflow_sink_records_total step=charges worker=1", 1),
        ("shardflow_sink_bytes_total step=charges worker=1", 10),
        ("shardflow_sink_refused_total step=charges worker=1", 1),
        ("shardflow_sink_retries_total step=charges cause=throttled", 2),
        // None is under way any more.
        ("shardflow_producer_calls_in_flight stream=usage", 0),
        ("shardflow_sink_calls_in_flight step=charges worker=1", 0),
    ] {
        assert_eq!(seen.count(name), count, "{name}");
    }
    assert_eq!(seen.samples("shardflow_producer_packed_records stream=usage"), [3.0, 1.0]);
    assert_eq!(seen.samples("shardflow_producer_call_seconds stream=usage"), [0.25]);
    assert_eq!(seen.samples("shardflow_producer_put_seconds stream=usage"), [0.5]);
}
