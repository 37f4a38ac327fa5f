//! A server with tables, and what stands in them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, PutRequest, ScalarAttributeType,
    TableStatus, WriteRequest,
};
use shardflow::sink::{Prepared, Sink, SinkContext, SinkWriter};
use shardflow::testing::sink::permit;
use shardflow::vocabulary::Incarnation;
use shardflow::{Epoch, Result};
use shardflow_sinks::{DynamoDb, dynamodb};
use tokio::runtime::Runtime;

use shardflow_stand_ins::dynalite::Dynalite;
use shardflow_stand_ins::fault_proxy::FaultProxy;
use shardflow_stand_ins::ministack::Ministack;

pub(crate) type Item = HashMap<String, AttributeValue>;

#[expect(dead_code, reason = "they end with the stand")]
enum Server {
    Ministack(Ministack),
    Dynalite(Dynalite),
}

/// A server, and the runtime that the test's own calls run on.
pub(crate) struct Stand {
    pub(crate) runtime: Runtime,
    pub(crate) endpoint: String,
    client: Client,
    tables: AtomicUsize,
    _server: Server,
}

impl Stand {
    pub(crate) fn ministack() -> Option<Self> {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(Ministack::start())?;
        Some(Self::new(runtime, server.endpoint(), Server::Ministack(server)))
    }

    pub(crate) fn dynalite(arguments: &[&str]) -> Option<Self> {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(Dynalite::start(arguments))?;
        Some(Self::new(runtime, server.endpoint(), Server::Dynalite(server)))
    }

    /// Each server that is installed, in turn.
    pub(crate) fn each(test: impl Fn(&Self)) {
        for stand in [Self::ministack(), Self::dynalite(&["--createTableMs", "0"])].into_iter().flatten() {
            test(&stand);
        }
    }

    fn new(runtime: Runtime, endpoint: String, server: Server) -> Self {
        let client = Client::new(&config(&endpoint));
        Self { runtime, endpoint, client, tables: AtomicUsize::new(0), _server: server }
    }

    /// A new table with the partition key `id`, a string, and its name.
    pub(crate) fn table(&self) -> String {
        self.table_of(&[("id", ScalarAttributeType::S)])
    }

    /// A new table with these keys: partition, sort.
    pub(crate) fn table_of(&self, keys: &[(&str, ScalarAttributeType)]) -> String {
        let name = self.new_table(keys);
        self.runtime.block_on(async {
            while !self.is_active(&name).await {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        });
        name
    }

    /// The same, which may still be on its way.
    pub(crate) fn new_table(&self, keys: &[(&str, ScalarAttributeType)]) -> String {
        let name = format!("table-{}", self.tables.fetch_add(1, Ordering::SeqCst));
        let mut call = self.client.create_table().table_name(&name).billing_mode(BillingMode::PayPerRequest);
        for ((attribute, scalar), kind) in keys.iter().zip([KeyType::Hash, KeyType::Range]) {
            let element = KeySchemaElement::builder().attribute_name(*attribute).key_type(kind);
            call = call.key_schema(element.build().unwrap());
            let definition = AttributeDefinition::builder().attribute_name(*attribute).attribute_type(scalar.clone());
            call = call.attribute_definitions(definition.build().unwrap());
        }
        self.runtime.block_on(call.send()).unwrap();
        name
    }

    async fn is_active(&self, table: &str) -> bool {
        let answer = self.client.describe_table().table_name(table).send().await.unwrap();
        answer.table.unwrap().table_status == Some(TableStatus::Active)
    }

    /// What stands in a table.
    pub(crate) fn scan(&self, table: &str) -> Vec<Item> {
        let pages = self.client.scan().table_name(table).consistent_read(true).into_paginator().items().send();
        self.runtime.block_on(pages.collect::<std::result::Result<Vec<_>, _>>()).unwrap()
    }

    /// Writes an item past the sink.
    pub(crate) fn put(&self, table: &str, item: Item) {
        self.runtime.block_on(self.client.put_item().table_name(table).set_item(Some(item)).send()).unwrap();
    }

    /// Writes many items past the sink, each of another key.
    pub(crate) fn fill(&self, table: &str, items: impl IntoIterator<Item = Item>) {
        let put = |item| PutRequest::builder().set_item(Some(item)).build().unwrap();
        let requests: Vec<_> =
            items.into_iter().map(|item| WriteRequest::builder().put_request(put(item)).build()).collect();
        for requests in requests.chunks(25) {
            let call = self.client.batch_write_item().request_items(table, requests.to_vec());
            let answer = self.runtime.block_on(call.send()).unwrap();
            assert!(answer.unprocessed_items.unwrap_or_default().is_empty());
        }
    }

    /// A proxy before it.
    pub(crate) fn proxy(&self) -> FaultProxy {
        self.runtime.block_on(FaultProxy::start(&self.endpoint))
    }

    /// The sink's table of this name, with the key `id`, behind a proxy or not.
    pub(crate) fn to(&self, table: &str, proxy: Option<&FaultProxy>) -> DynamoDb {
        let endpoint = proxy.map_or(self.endpoint.as_str(), FaultProxy::endpoint);
        dynamodb(table).key("id").sdk_config(config(endpoint))
    }
}

/// With dummy credentials.
pub(crate) fn config(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("test", "SECRET-KEY", Some("SECRET-TOKEN".to_owned()), None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

pub(crate) fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

pub(crate) fn n(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

pub(crate) fn item<const N: usize>(attributes: [(&str, AttributeValue); N]) -> Item {
    attributes.map(|(name, value)| (name.to_owned(), value)).into()
}

/// A number of an item.
pub(crate) fn number(item: &Item, attribute: &str) -> u64 {
    item[attribute].as_n().unwrap().parse().unwrap()
}

pub(crate) fn text<'a>(item: &'a Item, attribute: &str) -> &'a str {
    item[attribute].as_s().unwrap()
}

/// What a start of the job tells its sinks.
pub(crate) fn context(runtime: &Runtime, incarnation: u64) -> SinkContext {
    SinkContext {
        job: "metering".to_owned(),
        step: "charges".into(),
        incarnation: Incarnation::new(incarnation),
        committed: None,
        workers: 1,
        folder: Path::new("/nonexistent").to_owned(),
        runtime: runtime.handle().clone(),
    }
}

/// One worker's writer, with its start's committer closed again: of a sink that writes at once nothing is committed.
pub(crate) fn writer<T: 'static>(sink: &dyn Sink<T>, runtime: &Runtime, incarnation: u64) -> Box<dyn SinkWriter<T>> {
    let context = context(runtime, incarnation);
    let mut committer = sink.committer(&context).unwrap();
    committer.recover(Some(&permit(Epoch::new(1))), &[]).unwrap();
    sink.writer(&context, 0).unwrap()
}

/// Ends an epoch, and waits until all of it is written.
pub(crate) fn flush<T: 'static>(writer: &mut dyn SinkWriter<T>) -> Result<()> {
    match writer.prepare(Epoch::new(1))?.unwrap() {
        Prepared::Flush(flush) => flush().map(drop),
        Prepared::Staged(_) => panic!("it is not staged"),
    }
}
