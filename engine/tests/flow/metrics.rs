//! Every metric that the engine names is there when a job runs, and says what happens.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use shardflow::metrics::names;
use shardflow::{Flow, hours, json, millis, tumbling};
use tempfile::tempdir;

use crate::support::sink::{How, Place, Probe};
use crate::support::source::{Pace, Paced};
use crate::support::{Reading, child, expect_passed, job, key_of, lag, push, reading, start};

/// What this process records.
pub(crate) struct Scrape(PrometheusHandle);

/// What was recorded at one time, by name and labels.
pub(crate) struct Values(Vec<(String, BTreeMap<String, String>, f64)>);

impl Scrape {
    /// Records from now on; jobs that were started before are not seen.
    pub(crate) fn install() -> Self {
        static INSTALLED: OnceLock<PrometheusHandle> = OnceLock::new();
        let install = || PrometheusBuilder::new().install_recorder().unwrap();
        Self(INSTALLED.get_or_init(install).clone())
    }

    pub(crate) fn read(&self) -> Values {
        let text = self.0.render();
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Values(lines.map(parsed).collect())
    }
}

/// A line such as `name{label="value",other="value"} 1`.
fn parsed(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
    let pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
    let labels = pairs.map(|(label, value)| (label.to_owned(), value.trim_matches('"').to_owned()));
    (name.to_owned(), labels.collect(), value.parse().unwrap())
}

impl Values {
    /// The sum of all series of this name and labels; `None` where there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted = |found: &BTreeMap<String, String>| {
            labels.iter().all(|(label, value)| found.get(*label).is_some_and(|found| found == value))
        };
        let series = self.0.iter().filter(|(found, labels, _)| found == name && wanted(labels));
        series.map(|(_, _, value)| *value).reduce(|sum, value| sum + value)
    }

    /// The same of a step.
    fn of(&self, name: &str, step: &str) -> f64 {
        self.sum(name, &[("step", step)]).unwrap_or_else(|| panic!("{name} of step \"{step}\" is missing"))
    }

    /// The same of the whole job.
    fn all(&self, name: &str) -> f64 {
        self.sum(name, &[]).unwrap_or_else(|| panic!("{name} is missing"))
    }
}

#[test]
fn every_metric_is_there_and_plausible() {
    expect_passed(child("metrics::metrics_of_one_job"));
}

#[derive(Clone)]
struct Counted {
    source: Paced,
    rows: Probe<u64>,
    late: Probe<Reading>,
    rejected: Probe<shardflow::Rejected>,
}

impl Counted {
    fn new() -> Self {
        let source = Paced { feed: shardflow::testing::Feed::new(), pace: Pace::unlimited() };
        Self { source, rows: Probe::new(), late: Probe::new(), rejected: Probe::new() }
    }

    fn program(&self) -> impl Fn(&Flow<'_>) + Send + Sync + 'static {
        let this = self.clone();
        move |flow| {
            let (readings, rejected) = flow.source("readings", this.source.clone()).decode(json::<Reading>());
            rejected.sink("rejected", this.rejected.clone());
            readings
                .event_time(Reading::time, lag(0))
                .key_by(|reading| reading.key.clone())
                .dedupe("seen", |reading| reading.id, hours(1))
                .window(tumbling(millis(10)).grace(millis(0)))
                .late_to("late", this.late.clone())
                .count("totals")
                .map(|result| result.value)
                .sink("rows", this.rows.clone());
        }
    }
}

#[test]
#[ignore = "run by every_metric_is_there_and_plausible"]
fn metrics_of_one_job() {
    let scrape = Scrape::install();
    let (here, elsewhere) = (key_of(0, 1), key_of(1, 1));
    let (counted, state) = (Counted::new(), tempdir().unwrap());
    let feed = &counted.source.feed;
    let records: Vec<_> =
        (0..100).map(|number| reading(if number % 2 == 0 { &here } else { &elsewhere }, number, number, 1)).collect();
    push(feed, "s", &records);
    push(feed, "s", &[records[99].clone(), reading(&here, 200, 1, 1)]);
    feed.push("s", "bad");
    // So many epochs may be open that the source reads on while a sink hangs.
    let job = job("metrics", state.path(), 2).max_open_epochs(1_000);
    let running = start(job, counted.program());
    running.until("the windows that time has passed", || counted.rows.len() == 18 && counted.late.len() == 1);
    running.until("the store's size", || scrape.read().all(names::STORE_BYTES) > 0.0);
    running.pass_commits(2);
    check_names(&scrape.read());
    check_quiet(&scrape.read());

    // A sink hangs with what it has staged.
    counted.rejected.breaks(Place::Prepare, How::Block, 0);
    feed.push("s", "bad");
    counted.rejected.wait_until_blocked();
    assert_eq!(scrape.read().of(names::SINK_IN_FLIGHT, "rejected"), 1.0);
    counted.rejected.mend();
    running.until("the sink to go on", || scrape.read().of(names::SINK_IN_FLIGHT, "rejected") == 0.0);

    // One worker hangs in a sink: its epoch stays open, and what comes in later ones waits.
    counted.late.breaks(Place::Stage, How::Block, 0);
    push(feed, "s", &[reading(&elsewhere, 201, 1, 1)]);
    counted.late.wait_until_blocked();
    let mut id = 1_000;
    running.until("the block to show", || {
        id += 1;
        push(feed, "s", &[reading(&here, id, 100, 1), reading(&elsewhere, id, 100, 1)]);
        let values = scrape.read();
        values.all(names::EPOCHS_OPEN) >= 5.0
            && values.all(names::IN_FLIGHT) > 0.0
            && values.of(names::STASH_RECORDS, "seen") > 0.0
    });
    counted.late.mend();
    running.until("the block to be over", || {
        let values = scrape.read();
        values.all(names::IN_FLIGHT) == 0.0 && values.all(names::STASH_RECORDS) == 0.0
    });
    feed.close();
    assert!(running.end().unwrap().input_ended);
    let values = scrape.read();
    assert_eq!(values.of(names::RECORDS_IN, "rows"), counted.rows.len() as f64);
    assert_eq!(values.of(names::WATERMARK_LAG, "readings"), 0.0, "an ended split lags");
    assert_eq!(values.of(names::STATE_ENTRIES, "totals"), 0.0);
}

/// Each name in the engine's list is there. Read from the source, so that none can be forgotten here.
fn check_names(values: &Values) {
    let listed = include_str!("../../src/metrics.rs").lines().filter_map(|line| line.trim().strip_prefix("pub const "));
    let listed: Vec<&str> = listed.map(|line| line.split('"').nth(1).unwrap()).collect();
    assert!(listed.len() >= 20, "only {listed:?}");
    // What only sources and sinks that call a service can have; those of sinks are asked for in `at_least_once`.
    let of_sources = [names::SOURCE_RETRIES, names::POSITION_EXPIRED, names::BEHIND];
    let of_sinks = [names::SINK_RECORDS, names::SINK_BYTES, names::SINK_REFUSED, names::SINK_RETRIES];
    let of_services = [&of_sources[..], &of_sinks, &[names::SINK_CALLS, names::SINK_CALL_SECONDS]].concat();
    for name in listed.into_iter().filter(|name| !of_services.contains(name)) {
        let count = format!("{name}_count");
        assert!(values.sum(name, &[]).or(values.sum(&count, &[])).is_some(), "{name} is missing");
    }
}

/// 103 raw records, of which one is bad, one late and one a duplicate; 100 from 0 to 99 ms, in 2 keys.
fn check_quiet(values: &Values) {
    for (step, taken, sent) in [("readings", 103.0, 102.0), ("seen", 102.0, 101.0), ("totals", 101.0, 18.0)] {
        assert_eq!(values.of(names::RECORDS_IN, step), taken, "into {step}");
        assert_eq!(values.of(names::RECORDS_OUT, step), sent, "out of {step}");
    }
    for (step, taken) in [("rows", 18.0), ("late", 1.0), ("rejected", 1.0)] {
        assert_eq!(values.of(names::RECORDS_IN, step), taken, "into {step}");
    }
    assert_eq!(values.of(names::REJECTED, "readings"), 1.0);
    assert_eq!(values.of(names::DUPLICATES, "seen"), 1.0);
    assert_eq!(values.of(names::LATE, "totals"), 1.0);
    let split = [("step", "readings"), ("split", "s")];
    assert_eq!(values.sum(names::WATERMARK, &split), Some(99.0));
    // Its records are of 1970.
    assert!(values.sum(names::WATERMARK_LAG, &split).unwrap() > 1.7e12);
    assert_eq!(values.of(names::STATE_ENTRIES, "seen"), 101.0);
    assert!(values.of(names::STATE_BYTES, "seen") >= 101.0 * 16.0);
    assert_eq!(values.of(names::STATE_ENTRIES, "totals"), 2.0);
    assert!(values.of(names::STATE_BYTES, "totals") >= 2.0 * 16.0);
    assert_eq!(values.all(names::STASH_RECORDS), 0.0);
    assert_eq!(values.all(names::SINK_IN_FLIGHT), 0.0);
    let sum = |name: &str| values.all(&format!("{name}_sum"));
    let count = |name: &str| values.all(&format!("{name}_count"));
    assert!(count(names::EPOCH_CLOSE) > 0.0 && sum(names::EPOCH_CLOSE) > 0.0);
    assert!(count(names::EPOCH_COMMIT) > 0.0 && sum(names::EPOCH_COMMIT) > 0.0);
    assert!(sum(names::SNAPSHOT_BYTES) > 100.0 && sum(names::SNAPSHOT_KEYS) > 100.0);
    assert!(values.all(names::EPOCHS_COMMITTED) >= 3.0);
    assert!(values.all(names::EPOCHS_OPEN) >= 1.0);
}
