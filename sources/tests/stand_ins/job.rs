//! A job on a stream whose records are numbered by key, and what must be true of what it commits.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use shardflow::runtime::Shutdown;
use shardflow::testing::Collected;
use shardflow::{EventTime, Job, Lag, Result, Summary, json, millis, seconds, tumbling};
use shardflow_sources::Kinesis;

/// How long a job may take for what it is given. Far more than it does.
const PATIENCE: Duration = Duration::from_secs(120);

/// A record: its key, and its number among those of that key, from 0.
pub(crate) type Numbered = (String, u64);

/// The `count` first records of each of `keys` keys, in an order that keeps those of a key in theirs.
pub(crate) fn records(keys: u64, count: std::ops::Range<u64>) -> Vec<Numbered> {
    count.flat_map(|number| (0..keys).map(move |key| (format!("key-{key}"), number))).collect()
}

/// Puts records one after another, in the order of each key.
pub(crate) async fn put(client: &Client, records: &[Numbered]) {
    for record in records {
        let data = Blob::new(serde_json::to_vec(record).unwrap());
        client.put_record().stream_name("usage").partition_key(&record.0).data(data).send().await.unwrap();
    }
}

/// Puts many records at a time; those of a key stay in order only in a stand-in that keeps them so.
pub(crate) async fn put_many(client: &Client, records: &[Numbered]) {
    for chunk in records.chunks(500) {
        let entry = |record: &Numbered| {
            let data = Blob::new(serde_json::to_vec(record).unwrap());
            PutRecordsRequestEntry::builder().partition_key(&record.0).data(data).build().unwrap()
        };
        let entries = chunk.iter().map(entry).collect();
        let answer = client.put_records().stream_name("usage").set_records(Some(entries)).send().await.unwrap();
        assert_eq!(answer.failed_record_count(), Some(0));
    }
}

/// A job that runs on a thread of its own.
pub(crate) struct Running {
    thread: JoinHandle<Result<Summary>>,
    /// How it has ended.
    ended: Arc<OnceLock<String>>,
    stopper: Shutdown,
    seen: Collected<Numbered>,
    late: Collected<Numbered>,
}

/// Starts a job of two workers on `source`, which keeps its state in `state` and adds to what `seen` has.
pub(crate) fn start(source: Kinesis, state: &Path, seen: &Collected<Numbered>) -> Running {
    let job = Job::named("stand-ins").workers(2).state(state).epoch(millis(50));
    let stopper = job.stopper();
    let late = Collected::new();
    let (sinks, seen) = ((seen.clone(), late.clone()), seen.clone());
    let ended = Arc::<OnceLock<String>>::default();
    let end = Arc::clone(&ended);
    let thread = std::thread::spawn(move || {
        let outcome = job.run(move |flow| {
            let (records, rejected) = flow.source("usage", source.clone()).decode(json::<Numbered>());
            rejected.sink("rejected", Collected::new());
            let timed = records
                // Time is a record's number: a reshard that lets time run ahead makes late what comes of the other shards.
                .event_time(|record| EventTime::from_millis(record.1 * 1_000), Lag::of(seconds(20)).never_idle());
            timed
                .clone()
                .key_by(|record: &Numbered| record.0.clone())
                .window(tumbling(seconds(10)).grace(millis(0)))
                .late_to("late", sinks.1.clone())
                .count("counts")
                .map(|window| window.value)
                .sink("windows", Collected::new());
            // In the order in which a step with state meets them.
            timed
                .key_by(|record: &Numbered| record.0.clone())
                .running()
                .fold("last", || 0, |last, record| *last = record.1)
                .map(|result| (result.key, result.value))
                .sink("seen", sinks.0.clone());
        });
        end.get_or_init(|| format!("{outcome:?}"));
        outcome
    });
    Running { thread, ended, stopper, seen, late }
}

impl Running {
    /// Waits until `count` records are committed.
    pub(crate) async fn until(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.seen.values().len() < count {
            assert!(!self.thread.is_finished(), "the job is over: {:?}", self.ended.get());
            let seen = self.seen.values().len();
            assert!(Instant::now() < deadline, "{seen} of {count} records came, {} late", self.late.values().len());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops the job.
    pub(crate) async fn stop(self) {
        self.stopper.request();
        let summary = tokio::task::spawn_blocking(move || self.thread.join().unwrap()).await.unwrap();
        summary.unwrap();
        assert_eq!(self.late.values(), [], "no record is late");
    }

    /// What the job ends with by itself.
    pub(crate) async fn outcome(self) -> Result<Summary> {
        tokio::task::spawn_blocking(move || self.thread.join().unwrap()).await.unwrap()
    }
}

/// Holds that each record was committed once, and those of a key in their order.
pub(crate) fn assert_exact(seen: &Collected<Numbered>, keys: u64, count: u64) {
    let mut by_key: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (key, number) in seen.values() {
        by_key.entry(key).or_default().push(number);
    }
    assert_eq!(by_key.len() as u64, keys);
    for (key, numbers) in by_key {
        assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "{key}");
    }
}
