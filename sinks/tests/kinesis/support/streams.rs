//! Streams of stand-ins: made, resharded, and read to their end.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::{ShardIteratorType, StreamStatus};
use ferrokinesis::store::{Store, StoreOptions};
use shardflow_aws::kpl::open;

use shardflow_stand_ins::sdk::sdk_config;

/// The name of the stream.
pub(crate) const STREAM: &str = "usage";

/// A stand-in with one stream.
pub(crate) struct Stream {
    pub(crate) endpoint: String,
    pub(crate) client: Client,
    /// What the embedded stand-in holds.
    pub(crate) store: Option<Store>,
}

/// A user record, as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) shard: String,
    pub(crate) sequence: String,
    /// Its place in the aggregate it came in.
    pub(crate) sub_sequence: Option<u64>,
    pub(crate) key: String,
    pub(crate) data: Vec<u8>,
}

impl Seen {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.data).unwrap()
    }
}

/// A stream record, as it lies in the stream.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub(crate) shard: String,
    pub(crate) sequence: String,
    pub(crate) key: String,
    pub(crate) data: Vec<u8>,
}

impl Stream {
    /// The embedded stand-in; it ends with the test's runtime.
    pub(crate) async fn embedded(shards: i32) -> Self {
        Self::embedded_with(shards, StoreOptions::default()).await
    }

    /// The embedded stand-in, which throttles as AWS does.
    pub(crate) async fn throttling(shards: i32) -> Self {
        Self::embedded_with(shards, StoreOptions { enforce_limits: true, ..StoreOptions::default() }).await
    }

    async fn embedded_with(shards: i32, options: StoreOptions) -> Self {
        let options = StoreOptions { create_stream_ms: 0, update_stream_ms: 0, shard_limit: 100, ..options };
        let (app, store) = ferrokinesis::create_app(options);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(ferrokinesis::serve_plain_http(listener, app, std::future::pending()));
        Self { store: Some(store), ..Self::at(&endpoint, shards).await }
    }

    /// Makes the stream on a server that has none.
    pub(crate) async fn at(endpoint: &str, shards: i32) -> Self {
        let client = Client::new(&sdk_config(endpoint, None));
        client.create_stream().stream_name(STREAM).shard_count(shards).send().await.unwrap();
        let stream = Self { endpoint: endpoint.to_owned(), client, store: None };
        stream.settled().await;
        stream
    }

    /// Waits until the stream is not being changed.
    async fn settled(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let answer = self.client.describe_stream_summary().stream_name(STREAM).send().await.unwrap();
            if *answer.stream_description_summary().unwrap().stream_status() == StreamStatus::Active {
                return;
            }
            assert!(Instant::now() < deadline, "the stream did not become active");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The shards, with their hash keys and whether they are open.
    pub(crate) async fn shards(&self) -> Vec<(String, u128, u128, bool)> {
        let answer = self.client.list_shards().stream_name(STREAM).send().await.unwrap();
        let shard = |shard: &aws_sdk_kinesis::types::Shard| {
            let range = shard.hash_key_range().unwrap();
            let is_open = shard.sequence_number_range().unwrap().ending_sequence_number().is_none();
            let (first, last) = (range.starting_hash_key().parse().unwrap(), range.ending_hash_key().parse().unwrap());
            (shard.shard_id().to_owned(), first, last, is_open)
        };
        answer.shards().iter().map(shard).collect()
    }

    /// Splits the first open shard in the middle of its hash keys.
    pub(crate) async fn split(&self) {
        let (id, first, last, _) = self.shards().await.into_iter().find(|shard| shard.3).unwrap();
        let middle = first + (last - first) / 2;
        let call = self.client.split_shard().stream_name(STREAM).shard_to_split(id);
        call.new_starting_hash_key(middle.to_string()).send().await.unwrap();
        self.settled().await;
    }

    /// Merges the first two open shards that are neighbours.
    pub(crate) async fn merge(&self) {
        let mut open: Vec<_> = self.shards().await.into_iter().filter(|shard| shard.3).collect();
        open.sort_by_key(|shard| shard.1);
        let call = self.client.merge_shards().stream_name(STREAM).shard_to_merge(&open[0].0);
        call.adjacent_shard_to_merge(&open[1].0).send().await.unwrap();
        self.settled().await;
    }

    /// All stream records, shard by shard in their order.
    pub(crate) async fn raw(&self) -> Vec<Raw> {
        let mut all = Vec::new();
        for (shard, ..) in self.shards().await {
            let call = self.client.get_shard_iterator().stream_name(STREAM).shard_id(&shard);
            let answer = call.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
            let mut iterator = answer.shard_iterator;
            while let Some(next) = iterator.take() {
                let answer = self.client.get_records().shard_iterator(next).send().await.unwrap();
                let is_end = answer.records().is_empty() && answer.millis_behind_latest().unwrap_or(0) == 0;
                for record in answer.records {
                    let (key, data) = (record.partition_key.unwrap_or_default(), record.data.into_inner());
                    all.push(Raw { shard: shard.clone(), sequence: record.sequence_number, key, data });
                }
                iterator = answer.next_shard_iterator.filter(|_| !is_end);
            }
        }
        all
    }

    /// All user records, aggregates opened.
    pub(crate) async fn read(&self) -> Vec<Seen> {
        self.raw().await.into_iter().flat_map(|raw| opened(&raw)).collect()
    }
}

/// The user records of a stream record.
pub(crate) fn opened(raw: &Raw) -> Vec<Seen> {
    let seen = |sub_sequence, key, data| Seen {
        shard: raw.shard.clone(),
        sequence: raw.sequence.clone(),
        sub_sequence,
        key,
        data,
    };
    match open(&raw.data) {
        Err(_) => vec![seen(None, raw.key.clone(), raw.data.clone())],
        Ok(aggregate) => {
            let records = aggregate.records.into_iter().zip(0..);
            records.map(|(record, place)| seen(Some(place), record.partition_key, record.data)).collect()
        }
    }
}

/// The numbers in the records of each key, in the order of the stream.
pub(crate) fn by_key(seen: &[Seen]) -> HashMap<String, Vec<u64>> {
    let mut by_key: HashMap<String, Vec<u64>> = HashMap::new();
    for record in seen {
        by_key.entry(record.key.clone()).or_default().push(record.text().parse().unwrap());
    }
    by_key
}

/// Holds that each key's records 0, 1, 2 … are all there, none before its predecessor was there for the first time.
pub(crate) fn assert_in_order(by_key: &HashMap<String, Vec<u64>>, each: u64) {
    for (key, numbers) in by_key {
        let mut due = 0;
        for number in numbers {
            assert!(*number <= due, "of key {key}, {number} comes where {due} is due: {numbers:?}");
            due = due.max(number + 1);
        }
        assert_eq!(due, each, "of key {key} some are missing: {numbers:?}");
    }
}
