//! A stand-in for Kinesis with one stream, `usage`.

use std::ops::Range;
use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{ConsumerStatus, ShardIteratorType, StreamStatus};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ferrokinesis::store::{Store, StoreOptions};
use serde_json::json;

use crate::sdk::sdk_config;
use crate::tls::Certificate;

/// Somewhere to find the stream, and a client that asks it directly.
pub struct Stand {
    endpoint: String,
    client: Client,
    /// What the embedded stand-in holds.
    store: Option<Store>,
}

impl Stand {
    /// The embedded stand-in; it ends with the test's runtime.
    pub async fn embedded(shards: i32) -> Self {
        let options = StoreOptions { create_stream_ms: 0, update_stream_ms: 0, shard_limit: 100, ..Default::default() };
        let (app, store) = ferrokinesis::create_app(options);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(ferrokinesis::serve_plain_http(listener, app, std::future::pending()));
        Self { store: Some(store), ..Self::at(&endpoint, shards).await }
    }

    /// Makes the stream on a server that has none.
    pub async fn at(endpoint: &str, shards: i32) -> Self {
        let client = Client::new(&sdk_config(endpoint, None));
        client.create_stream().stream_name("usage").shard_count(shards).send().await.unwrap();
        let stand = Self { endpoint: endpoint.to_owned(), client, store: None };
        stand.arn().await;
        stand
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Puts a record of any size into the embedded stand-in, whose server refuses those of more than 1 MiB, whatever it is
    /// told with UpdateMaxRecordSize.
    pub async fn put_of_any_size(&self, partition_key: &str, data: &[u8]) {
        let record = json!({"StreamName": "usage", "PartitionKey": partition_key, "Data": STANDARD.encode(data)});
        let store = self.store.as_ref().expect("the embedded stand-in");
        ferrokinesis::actions::put_record::execute(store, record).await.unwrap();
    }

    /// The ARN of a new fan-out consumer. A consumer that subscribes twice within 5 s is refused, a new one is not.
    pub async fn consumer(&self, name: &str) -> String {
        let call = self.client.register_stream_consumer().stream_arn(self.arn().await).consumer_name(name);
        let arn = call.send().await.unwrap().consumer().unwrap().consumer_arn().to_owned();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let answer = self.client.describe_stream_consumer().consumer_arn(&arn).send().await.unwrap();
            if *answer.consumer_description().unwrap().consumer_status() == ConsumerStatus::Active {
                return arn;
            }
            assert!(Instant::now() < deadline, "the consumer did not become active");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The stream's ARN, once the stream is there.
    async fn arn(&self) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let answer = self.client.describe_stream_summary().stream_name("usage").send().await.unwrap();
            let summary = answer.stream_description_summary().unwrap();
            if *summary.stream_status() == StreamStatus::Active {
                return summary.stream_arn().to_owned();
            }
            assert!(Instant::now() < deadline, "the stream did not become active");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A configuration without the SDK's own retries.
pub fn quiet(endpoint: &str, certificate: Option<&Certificate>) -> SdkConfig {
    sdk_config(endpoint, certificate).into_builder().retry_config(RetryConfig::disabled()).build()
}

/// Puts the numbers as records, in order.
pub async fn put(client: &Client, numbers: Range<u32>) {
    for number in numbers {
        let call = client.put_record().stream_name("usage").partition_key("k").data(Blob::new(number.to_string()));
        call.send().await.unwrap();
    }
}

/// The data of all stream records, shard by shard in their order.
pub async fn read_stream(client: &Client, stream: &str) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for shard in client.list_shards().stream_name(stream).send().await.unwrap().shards() {
        let call = client.get_shard_iterator().stream_name(stream).shard_id(shard.shard_id());
        let answer = call.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
        let mut iterator = answer.shard_iterator;
        while let Some(next) = iterator.take() {
            let answer = client.get_records().shard_iterator(next).send().await.unwrap();
            all.extend(answer.records().iter().map(|record| record.data.as_ref().to_vec()));
            iterator = answer.next_shard_iterator.filter(|_| !answer.records.is_empty());
        }
    }
    all
}

/// All records of the first shard.
pub async fn read_all(client: &Client) -> Vec<String> {
    let call = client.get_shard_iterator().stream_name("usage").shard_id("shardId-000000000000");
    let iterator = call.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
    let answer = client.get_records().set_shard_iterator(iterator.shard_iterator).send().await.unwrap();
    answer.records().iter().map(|record| String::from_utf8_lossy(record.data().as_ref()).into_owned()).collect()
}
