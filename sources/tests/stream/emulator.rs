//! An embedded Kinesis with one stream, `usage`.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use ferrokinesis::store::StoreOptions;
use shardflow_sources::Kinesis;
use shardflow_sources::stream::{Record, Stream, Tail};

pub(crate) struct Emulator {
    #[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "only the command is told of it"))]
    pub(crate) endpoint: String,
    pub(crate) client: Client,
    pub(crate) stream: Stream,
}

pub(crate) fn sdk_config(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("test", "test", None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

impl Emulator {
    pub(crate) async fn start(shards: i32) -> Self {
        Self::start_with(shards, StoreOptions::default()).await
    }

    pub(crate) async fn start_with(shards: i32, options: StoreOptions) -> Self {
        let options = StoreOptions { create_stream_ms: 0, update_stream_ms: 0, shard_limit: 100, ..options };
        let (app, _store) = ferrokinesis::create_app(options);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(ferrokinesis::serve_plain_http(listener, app, std::future::pending()));
        let config = sdk_config(&endpoint);
        let client = Client::new(&config);
        client.create_stream().stream_name("usage").shard_count(shards).send().await.unwrap();
        // Waits until the stream is no longer being created.
        let stream = Stream::open(&Kinesis::stream("usage").sdk_config(config)).await.unwrap();
        Self { endpoint, client, stream }
    }

    /// Puts records `n..m` as their numbers, record n with the partition key `key-{n % 97}`.
    pub(crate) async fn put(&self, numbers: std::ops::Range<u32>) {
        self.put_by(numbers, |n| format!("key-{}", n % 97)).await;
    }

    pub(crate) async fn put_by(&self, numbers: std::ops::Range<u32>, key: impl Fn(u32) -> String) {
        for chunk in numbers.collect::<Vec<_>>().chunks(500) {
            let entry = |n: &u32| {
                let entry = PutRecordsRequestEntry::builder().partition_key(key(*n));
                entry.data(Blob::new(n.to_string())).build().unwrap()
            };
            let entries = chunk.iter().map(entry).collect();
            let answer =
                self.client.put_records().stream_name("usage").set_records(Some(entries)).send().await.unwrap();
            assert_eq!(answer.failed_record_count(), Some(0));
        }
    }

    /// Splits the open shard that holds this hash key there.
    pub(crate) async fn split_at(&self, at: u128) {
        let shards = self.stream.shards().await.unwrap();
        let shard = shards.iter().find(|shard| shard.is_open() && shard.range.contains(at)).unwrap();
        let call = self.client.split_shard().stream_name("usage").shard_to_split(&shard.id);
        call.new_starting_hash_key(at.to_string()).send().await.unwrap();
        self.settled().await;
    }

    /// Merges the two open shards that meet at this hash key.
    pub(crate) async fn merge_at(&self, at: u128) {
        let shards = self.stream.shards().await.unwrap();
        let open = |hash: u128| shards.iter().find(|shard| shard.is_open() && shard.range.contains(hash)).unwrap();
        let call = self.client.merge_shards().stream_name("usage").shard_to_merge(&open(at - 1).id);
        call.adjacent_shard_to_merge(&open(at).id).send().await.unwrap();
        self.settled().await;
    }

    pub(crate) async fn settled(&self) {
        let settled = async {
            while self.stream.summary().await.unwrap().status != "ACTIVE" {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), settled).await.expect("the stream settles");
    }
}

/// Reads until there are so many records.
pub(crate) async fn read(tail: &mut Tail, records: usize) -> Vec<Record> {
    let mut seen = Vec::new();
    let all = async {
        while seen.len() < records {
            seen.extend(tail.next().await.unwrap().expect("a stream does not end"));
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(40), all).await.is_ok();
    assert!(in_time, "{} of {records} records were read", seen.len());
    seen
}

/// The number in a record of [`Emulator::put`].
pub(crate) fn number(record: &Record) -> u32 {
    std::str::from_utf8(&record.data).unwrap().parse().unwrap()
}
