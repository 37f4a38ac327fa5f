//! The endpoint at which Prometheus reads the job's metrics.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::thread;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

use crate::error::{Error, Result};
use crate::metrics::describe;

/// 1 ms to 10 s, about three to a decade: an epoch is 200 ms by default, its commit a few milliseconds.
const SECONDS: [f64; 13] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

/// 1 KiB to 1 GiB, and as many keys: powers of 4.
const SIZES: [f64; 11] = {
    let mut sizes = [1024.0; 11];
    let mut at = 1;
    while at < sizes.len() {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, and both are below the length")]
        {
            sizes[at] = sizes[at - 1] * 4.0;
        }
        at += 1;
    }
    sizes
};

fn builder() -> Result<PrometheusBuilder> {
    let failed = |error| Error::internal("could not set up the metrics").caused_by(error);
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Prefix("shardflow_snapshot_".into()), &SIZES))
        .map_err(failed)
}

/// Serves all metrics to Prometheus at `address`, over HTTP, on a thread of its own, for as long as the process lives.
/// Called before the first handle is registered. Serving the same address again changes nothing.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) where the address cannot be bound, where metrics are already served
/// at another, and where the program has installed a recorder of its own.
pub fn serve_metrics(address: SocketAddr) -> Result<()> {
    static SERVED: Mutex<Option<SocketAddr>> = Mutex::new(None);
    let mut served = SERVED.lock().unwrap_or_else(PoisonError::into_inner);
    match *served {
        Some(other) if other == address => return Ok(()),
        Some(other) => {
            return Err(Error::config(format!(
                "--metrics \"{address}\" cannot be served: this process already serves its metrics at \"{other}\""
            )));
        }
        None => {}
    }
    let failed = |error| Error::internal("could not start the metrics thread").caused_by(error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let entered = runtime.enter();
    let (recorder, exporter) = builder()?
        .with_http_listener(address)
        .build()
        .map_err(|error| Error::config(format!("could not bind --metrics \"{address}\"")).caused_by(error))?;
    drop(entered);
    ::metrics::set_global_recorder(recorder).map_err(|_| {
        Error::config(format!(
            "--metrics \"{address}\" cannot be served: the program has installed a metrics recorder of its own"
        ))
    })?;
    describe();
    let serve = move || {
        // It ends only with the process.
        if runtime.block_on(exporter).is_err() {
            tracing::warn!(%address, "metrics are no longer served");
        }
    };
    thread::Builder::new().name("shardflow-metrics".into()).spawn(serve).map_err(failed)?;
    *served = Some(address);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::metrics::{
        BehindMetric, EpochMetrics, SinkMetrics, SnapshotMetrics, SplitTimeMetrics, StashMetrics, StateMetrics,
        StepMetrics, late,
    };
    use crate::vocabulary::{EventTime, SplitId, StepName};

    fn rendered(act: impl FnOnce()) -> String {
        let recorder = builder().unwrap().build_recorder();
        let handle = recorder.handle();
        ::metrics::with_local_recorder(&recorder, || {
            describe();
            act();
        });
        handle.render()
    }

    #[test]
    fn handles_write_the_documented_names_and_labels() {
        let step = StepName::new("usage");
        let text = rendered(|| {
            StepMetrics::register(&step).records_in.increment(7);
            StepMetrics::register(&step).records_in.increment(5);
            late(&step).increment(1);
            let split = SplitTimeMetrics::register(&step, &SplitId::new("shard-0"));
            split.watermark(EventTime::from_millis(1_000), EventTime::from_millis(3_500));
            BehindMetric::of(&step, &SplitId::new("shard-0")).set(40);
            EpochMetrics::register().close_seconds.record(0.3);
            SnapshotMetrics::register().bytes.record(5_000.0);
            StateMetrics::register(&step, 1).entries.set(12.0);
            StashMetrics::register(&step, 0).records.set(3.0);
            SinkMetrics::register(&step, 0).in_flight_bytes.set(9.0);
        });
        for line in [
            "# HELP shardflow_records_in_total Records that entered the step",
            "shardflow_records_in_total{step=\"usage\"} 12",
            "shardflow_late_total{step=\"usage\"} 1",
            "shardflow_watermark_milliseconds{step=\"usage\",split=\"shard-0\"} 1000",
            "shardflow_watermark_lag_milliseconds{step=\"usage\",split=\"shard-0\"} 2500",
            "shardflow_behind_milliseconds{step=\"usage\",split=\"shard-0\"} 40",
            "shardflow_epoch_close_seconds_bucket{le=\"0.5\"} 1",
            "shardflow_snapshot_bytes_bucket{le=\"16384\"} 1",
            "shardflow_state_entries{step=\"usage\",worker=\"1\"} 12",
            "shardflow_stash_records{step=\"usage\",worker=\"0\"} 3",
            "shardflow_sink_in_flight_bytes{step=\"usage\",worker=\"0\"} 9",
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
        }
    }

    #[test]
    fn an_ended_split_no_longer_lags() {
        let text = rendered(|| {
            let split = SplitTimeMetrics::register(&StepName::new("usage"), &SplitId::new("shard-0"));
            split.watermark(EventTime::MIN, EventTime::from_millis(10));
            split.ended();
        });
        assert!(text.contains("shardflow_watermark_lag_milliseconds{step=\"usage\",split=\"shard-0\"} 0"), "{text}");
    }

    // One test for the whole life of the process-wide endpoint: its parts depend on one another.
    #[test]
    fn metrics_are_served_once_at_one_address() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = serve_metrics(address).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Config);
        assert!(error.to_string().starts_with(&format!("could not bind --metrics \"{address}\"")), "{error}");

        drop(taken);
        serve_metrics(address).unwrap();
        serve_metrics(address).unwrap();
        assert!(serve_metrics("127.0.0.1:1".parse().unwrap()).unwrap_err().to_string().contains("already serves"));

        EpochMetrics::register().committed.increment(1);
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("shardflow_epochs_committed_total 1"),
            "{answer}"
        );
    }
}
