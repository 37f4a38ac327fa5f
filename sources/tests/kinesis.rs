//! The Kinesis source against an embedded Kinesis on loopback.
#![cfg(feature = "kinesis")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, StreamStatus};
use ferrokinesis::store::StoreOptions;
use shardflow::source::{Enumerator, KnownSplits, Position, Reader, Source, SourceContext, SplitRecord, SplitStatus};
use shardflow::testing::source::SourceSuite;
use shardflow::vocabulary::{Incarnation, SplitId, StepName};
use shardflow::{ErrorKind, Result};
use shardflow_sources::{Kinesis, Start};

/// An embedded Kinesis with one stream, `usage`.
struct Emulator {
    endpoint: String,
    config: SdkConfig,
    client: Client,
}

fn sdk_config(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("test", "test", None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

impl Emulator {
    async fn start(shards: i32) -> Self {
        Self::start_with(shards, StoreOptions::default()).await
    }

    async fn start_with(shards: i32, options: StoreOptions) -> Self {
        let options = StoreOptions { create_stream_ms: 0, update_stream_ms: 0, shard_limit: 100, ..options };
        let (app, _store) = ferrokinesis::create_app(options);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(ferrokinesis::serve_plain_http(listener, app, std::future::pending()));
        let config = sdk_config(&endpoint);
        let emulator = Self { endpoint, client: Client::new(&config), config };
        emulator.client.create_stream().stream_name("usage").shard_count(shards).send().await.unwrap();
        emulator.settled().await;
        emulator
    }

    /// Waits until the stream is ACTIVE, that is until the last change has come about.
    async fn settled(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let answer = self.client.describe_stream_summary().stream_name("usage").send().await.unwrap();
            if *answer.stream_description_summary().unwrap().stream_status() == StreamStatus::Active {
                return;
            }
            assert!(Instant::now() < deadline, "the stream did not settle");
            tokio::task::yield_now().await;
        }
    }

    fn source(&self) -> Kinesis {
        Kinesis::stream("usage").sdk_config(self.config.clone())
    }

    /// Puts records `n..m`, spread over the shards by their partition keys.
    async fn put(&self, numbers: std::ops::Range<u32>) {
        for chunk in numbers.collect::<Vec<_>>().chunks(500) {
            let entry = |n: &u32| {
                let entry = PutRecordsRequestEntry::builder().partition_key(format!("key-{}", n % 97));
                entry.data(Blob::new(n.to_string())).build().unwrap()
            };
            let entries = chunk.iter().map(entry).collect();
            let answer =
                self.client.put_records().stream_name("usage").set_records(Some(entries)).send().await.unwrap();
            assert_eq!(answer.failed_record_count(), Some(0));
        }
    }

    async fn split(&self, shard: &str, at: &str) {
        let call = self.client.split_shard().stream_name("usage").shard_to_split(shard);
        call.new_starting_hash_key(at).send().await.unwrap();
        self.settled().await;
    }

    async fn merge(&self, shard: &str, with: &str) {
        let call = self.client.merge_shards().stream_name("usage").shard_to_merge(shard);
        call.adjacent_shard_to_merge(with).send().await.unwrap();
        self.settled().await;
    }
}

fn context(known: KnownSplits) -> SourceContext {
    SourceContext {
        job: "test".to_owned(),
        step: StepName::new("usage"),
        runtime: tokio::runtime::Handle::current(),
        first_start: known.is_empty(),
        incarnation: Incarnation::new(1),
        state_id: "test".to_owned(),
        known,
    }
}

async fn open(source: &Kinesis, known: KnownSplits) -> Result<Box<dyn Enumerator>> {
    source.open(context(known)).await
}

/// The next batch's records, with the position after them; `None` at the shard's end.
async fn next(reader: &mut dyn Reader) -> Option<(Vec<u32>, Position)> {
    let batch = tokio::time::timeout(Duration::from_secs(20), poll_fn(|cx| reader.poll_read(cx)));
    let batch = batch.await.expect("an answer in time").unwrap()?;
    let numbers = batch.records().map(|record| std::str::from_utf8(record).unwrap().parse().unwrap()).collect();
    Some((numbers, batch.after().clone()))
}

/// The ids of its records are made of this: a name may mean a stream in each region.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_one_input_by_its_name_and_by_its_arn() {
    let emulator = Emulator::start(1).await;
    let answer = emulator.client.describe_stream_summary().stream_name("usage").send().await.unwrap();
    let arn = answer.stream_description_summary().unwrap().stream_arn().to_owned();
    let by_arn = Kinesis::stream(&arn).sdk_config(emulator.config.clone());
    for source in [emulator.source(), by_arn] {
        let input = open(&source, KnownSplits::new()).await.unwrap().input().unwrap();
        assert_eq!(input.as_str(), format!("kinesis:{arn}"));
    }
}

/// An engine that keeps to the port: opens a split when its parents have ended, reads all in turn.
struct Engine {
    enumerator: Box<dyn Enumerator>,
    known: KnownSplits,
    readers: BTreeMap<SplitId, Box<dyn Reader>>,
    seen: Vec<u32>,
    order: Vec<String>,
}

impl Engine {
    async fn start(source: &Kinesis, known: KnownSplits) -> Self {
        let enumerator = open(source, known.clone()).await.unwrap();
        let mut engine = Self { enumerator, known, readers: BTreeMap::new(), seen: Vec::new(), order: Vec::new() };
        engine.look().await;
        engine
    }

    async fn look(&mut self) {
        for split in self.enumerator.discover().await.unwrap().splits {
            let record = SplitRecord { parents: split.parents, position: split.start, status: SplitStatus::Waiting };
            self.known.entry(split.id).or_insert(record);
        }
        let has_ended = |id: &SplitId| self.known.get(id).is_none_or(|split| split.status == SplitStatus::Ended);
        let ready: Vec<_> = self
            .known
            .iter()
            .filter(|(id, split)| split.status != SplitStatus::Ended && !self.readers.contains_key(*id))
            .filter(|(_, split)| split.parents.iter().all(has_ended))
            .map(|(id, split)| (id.clone(), split.position.clone()))
            .collect();
        for (id, position) in ready {
            self.order.push(id.to_string());
            self.readers.insert(id.clone(), self.enumerator.open(&id, &position).unwrap());
            self.known.get_mut(&id).unwrap().status = SplitStatus::Reading;
        }
    }

    /// Reads until `records` were read in all.
    async fn read(&mut self, records: usize) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.seen.len() < records {
            assert!(Instant::now() < deadline, "{} of {records} records were read", self.seen.len());
            let (id, batch) = poll_fn(|cx| {
                for (id, reader) in &mut self.readers {
                    if let std::task::Poll::Ready(batch) = reader.poll_read(cx) {
                        return std::task::Poll::Ready((id.clone(), batch.unwrap()));
                    }
                }
                std::task::Poll::Pending
            })
            .await;
            let split = self.known.get_mut(&id).unwrap();
            match batch {
                Some(batch) => {
                    self.seen.extend(batch.records().map(|r| std::str::from_utf8(r).unwrap().parse::<u32>().unwrap()));
                    split.position = batch.after().clone();
                }
                None => {
                    split.status = SplitStatus::Ended;
                    self.readers.remove(&id);
                    self.look().await;
                }
            }
        }
    }

    fn place(&self, shard: usize) -> usize {
        let id = shard_id(shard);
        self.order.iter().position(|opened| *opened == id).unwrap_or_else(|| panic!("{id} was never opened"))
    }
}

fn shard_id(shard: usize) -> String {
    format!("shardId-{shard:012}")
}

fn sorted(mut numbers: Vec<u32>) -> Vec<u32> {
    numbers.sort_unstable();
    numbers
}

#[tokio::test]
async fn all_records_of_all_shards_are_read_once_in_the_order_of_their_keys() {
    let emulator = Emulator::start(3).await;
    emulator.put(0..3_000).await;
    let mut engine = Engine::start(&emulator.source(), KnownSplits::new()).await;
    assert_eq!(engine.readers.len(), 3);
    engine.read(3_000).await;
    for key in 0..97 {
        let of_key: Vec<_> = engine.seen.iter().filter(|n| **n % 97 == key).collect();
        assert!(of_key.is_sorted(), "key {key}");
    }
    assert_eq!(sorted(engine.seen), (0..3_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_source_conforms() {
    let emulator = Emulator::start(1).await;
    emulator.put(0..3_500).await;
    emulator.split(&shard_id(0), "170141183460469231731687303715884105728").await;
    // The parent ends by itself, its children stay open.
    let suite = SourceSuite::new().stop_after(shard_id(1).as_str(), 0).stop_after(shard_id(2).as_str(), 0);
    let checked = suite.check(&emulator.source()).await.unwrap();
    assert_eq!((checked.splits, checked.records), (3, 3_500));
    assert!(checked.resumptions >= 4, "{checked:?}");
}

#[tokio::test]
async fn a_later_start_goes_on_after_the_stored_positions() {
    let emulator = Emulator::start(2).await;
    emulator.put(0..2_500).await;
    let mut engine = Engine::start(&emulator.source().start(Start::TrimHorizon), KnownSplits::new()).await;
    engine.read(1_200).await;
    let (mut seen, known) = (engine.seen, engine.known);
    emulator.put(2_500..2_600).await;
    // The start position of the settings counts only at the first start.
    let mut engine = Engine::start(&emulator.source().start(Start::Latest), known).await;
    engine.read(2_600 - seen.len()).await;
    seen.extend(engine.seen);
    assert_eq!(sorted(seen), (0..2_600).collect::<Vec<_>>());
}

#[tokio::test]
async fn split_and_merge_are_followed_with_parents_before_children() {
    let emulator = Emulator::start(2).await;
    emulator.put(0..400).await;
    let mut engine = Engine::start(&emulator.source(), KnownSplits::new()).await;
    engine.read(100).await;
    // 0 becomes 2 and 3; then 3 and 1 become 4; then 4 becomes 5 and 6.
    emulator.split(&shard_id(0), "85070591730234615865843651857942052864").await;
    emulator.put(400..800).await;
    emulator.merge(&shard_id(3), &shard_id(1)).await;
    emulator.put(800..1_200).await;
    emulator.split(&shard_id(4), "212676479325586539664609129644855132160").await;
    emulator.put(1_200..1_600).await;
    engine.read(1_600).await;
    assert!(engine.place(0) < engine.place(2) && engine.place(0) < engine.place(3));
    assert!(engine.place(3) < engine.place(4) && engine.place(1) < engine.place(4));
    assert!(engine.place(4) < engine.place(5) && engine.place(4) < engine.place(6));
    for key in 0..97 {
        let of_key: Vec<_> = engine.seen.iter().filter(|n| **n % 97 == key).collect();
        assert!(of_key.is_sorted(), "key {key} came out of order over the reshards");
    }
    assert_eq!(sorted(engine.seen), (0..1_600).collect::<Vec<_>>());
}

#[tokio::test]
async fn latest_becomes_the_time_of_the_start_and_reads_what_comes_after_it() {
    let emulator = Emulator::start(1).await;
    let before = jiff::Timestamp::now().as_millisecond();
    let mut files = open(&emulator.source().start(Start::Latest), KnownSplits::new()).await.unwrap();
    let split = files.discover().await.unwrap().splits.remove(0);
    let millis: i64 = split.start.as_str().strip_prefix("at:").expect("a concrete time").parse().unwrap();
    assert!((before..=jiff::Timestamp::now().as_millisecond()).contains(&millis));
    let mut reader = files.open(&split.id, &split.start).unwrap();
    emulator.put(0..10).await;
    let (numbers, after) = next(&mut *reader).await.unwrap();
    assert_eq!(numbers.first(), Some(&0));
    assert!(after.as_str().starts_with("after:"));
}

#[tokio::test]
async fn iterators_that_expired_during_a_long_pause_are_renewed() {
    let emulator = Emulator::start_with(1, StoreOptions { iterator_ttl_seconds: 1, ..StoreOptions::default() }).await;
    emulator.put(0..10).await;
    // Calls further apart than iterators live: each finds its iterator expired.
    let source = emulator.source().calls_per_second(0.7);
    let mut files = open(&source, KnownSplits::new()).await.unwrap();
    let split = files.discover().await.unwrap().splits.remove(0);
    let mut reader = files.open(&split.id, &split.start).unwrap();
    assert_eq!(next(&mut *reader).await.unwrap().0, (0..10).collect::<Vec<_>>());
    emulator.put(10..20).await;
    assert_eq!(next(&mut *reader).await.unwrap().0, (10..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn empty_shards_wait_and_closed_empty_shards_end() {
    let emulator = Emulator::start(1).await;
    emulator.split(&shard_id(0), "170141183460469231731687303715884105728").await;
    let mut files = open(&emulator.source(), KnownSplits::new()).await.unwrap();
    let splits = files.discover().await.unwrap().splits;
    let mut parent = files.open(&splits[0].id, &splits[0].start).unwrap();
    assert!(next(&mut *parent).await.is_none());
    let mut child = files.open(&splits[1].id, &splits[1].start).unwrap();
    let waiting = poll_fn(|cx| std::task::Poll::Ready(child.poll_read(cx).is_pending())).await;
    assert!(waiting);
}

#[tokio::test]
async fn unknown_streams_and_bad_settings_are_one_clear_error() {
    let emulator = Emulator::start(1).await;
    let fails = async |source: Kinesis| open(&source, KnownSplits::new()).await.err().expect("must not open");
    let error = fails(Kinesis::stream("nowhere").sdk_config(emulator.config.clone())).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    assert!(text.contains("stream \"nowhere\"") && text.contains(&emulator.endpoint), "{text}");
    assert!(text.contains("ResourceNotFoundException"), "{text}");

    for (source, expected) in [
        (Kinesis::stream("no such name"), "neither a stream's name nor its ARN"),
        (emulator.source().endpoint("localhost:4567"), "http://"),
        (emulator.source().start(Start::At("2999-01-01T00:00:00Z".parse().unwrap())), "not come yet"),
        (Kinesis::stream("usage").sdk_config(SdkConfig::builder().build()), "no AWS region"),
        (Kinesis::stream("usage").sdk_config(SdkConfig::builder().build()).region("eu-west-1"), "no AWS credentials"),
    ] {
        let error = fails(source).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn an_unreachable_endpoint_is_given_up_on_in_time() {
    // A port that was free a moment ago: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let timeout = Duration::from_millis(700);
    let source = Kinesis::stream("usage").sdk_config(sdk_config(&endpoint)).connect_timeout(timeout);
    let started = Instant::now();
    let error = open(&source, KnownSplits::new()).await.err().expect("nobody is there");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(error.kind(), ErrorKind::Source);
    let text = error.to_string();
    assert!(text.contains(&endpoint) && text.contains("700ms") && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn a_position_of_another_shard_or_stream_is_a_clear_error() {
    let emulator = Emulator::start(2).await;
    emulator.put(0..50).await;
    let mut files = open(&emulator.source(), KnownSplits::new()).await.unwrap();
    let splits = files.discover().await.unwrap().splits;
    let mut first = files.open(&splits[0].id, &splits[0].start).unwrap();
    let (_, after) = next(&mut *first).await.unwrap();
    let mut wrong = files.open(&splits[1].id, &after).unwrap();
    let error = poll_fn(|cx| wrong.poll_read(cx)).await.unwrap_err().to_string();
    assert!(error.contains("InvalidArgumentException") && error.contains(after.as_str()), "{error}");
    assert!(files.open(&splits[0].id, &Position::new("latest")).is_err());
    let mut gone = files.open(&SplitId::new(shard_id(77)), &splits[0].start).unwrap();
    let error = poll_fn(|cx| gone.poll_read(cx)).await.unwrap_err().to_string();
    assert!(error.contains("ResourceNotFoundException") && error.contains(&shard_id(77)), "{error}");
}

#[tokio::test]
async fn every_shard_is_listed_once() {
    let emulator = Emulator::start(40).await;
    let found = open(&emulator.source(), KnownSplits::new()).await.unwrap().discover().await.unwrap();
    let ids: BTreeSet<_> = found.splits.iter().map(|split| split.id.clone()).collect();
    assert_eq!((ids.len(), found.splits.len(), found.complete), (40, 40, false));
}

/// Opens the stream with nothing but the environment; says how it went on standard output.
#[tokio::test]
#[ignore = "run as a child process by endpoint_region_and_credentials_come_from_the_environment"]
async fn child_that_knows_only_its_environment() {
    match open(&Kinesis::stream("usage"), KnownSplits::new()).await {
        Ok(_) => println!("[opened]"),
        Err(error) => println!("[{:?}: {error}]", error.kind()),
    }
}

async fn child(environment: &[(&str, &str)]) -> String {
    let arguments = ["--ignored", "--exact", "child_that_knows_only_its_environment", "--nocapture"];
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    // No metadata service: tests do not leave this machine.
    command.args(arguments).env_clear().env("AWS_EC2_METADATA_DISABLED", "true").envs(environment.iter().copied());
    let output =
        tokio::time::timeout(Duration::from_secs(30), command.output()).await.expect("a bounded wait").unwrap();
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = output.split_once('[').and_then(|(_, rest)| rest.rsplit_once(']')).map(|(said, _)| said);
    said.unwrap_or(&output).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoint_region_and_credentials_come_from_the_environment() {
    let emulator = Emulator::start(1).await;
    let endpoint = ("AWS_ENDPOINT_URL", emulator.endpoint.as_str());
    let region = ("AWS_REGION", "us-east-1");
    let credentials = [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")];
    assert_eq!(child(&[endpoint, region, credentials[0], credentials[1]]).await, "opened");
    let said = child(&[endpoint, credentials[0], credentials[1]]).await;
    assert!(said.starts_with("Config: ") && said.contains("no AWS region is set"), "{said}");
    let said = child(&[endpoint, region]).await;
    assert!(said.starts_with("Config: ") && said.contains("there are no AWS credentials"), "{said}");
}
