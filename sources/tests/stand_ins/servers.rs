//! The servers that tests start: they come up, answer as they should, and are gone afterwards.

use std::path::Path;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::operation::subscribe_to_shard::builders::SubscribeToShardFluentBuilder;
use aws_sdk_kinesis::types::{ShardIteratorType, StartingPosition, SubscribeToShardEventStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use shardflow_stand_ins::fault_proxy::{Fault, FaultProxy};
use shardflow_stand_ins::kinesis_local::KinesisLocal;
use shardflow_stand_ins::ministack::Ministack;
use shardflow_stand_ins::stand::{Stand, put, quiet, read_all};

fn subscription(client: &Client, consumer: &str) -> SubscribeToShardFluentBuilder {
    let position = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon).build().unwrap();
    let call = client.subscribe_to_shard().consumer_arn(consumer).shard_id("shardId-000000000000");
    call.starting_position(position)
}

#[tokio::test]
async fn kinesis_local_gives_records_over_both_fronts_and_refuses_to_be_subscribed_to_twice() {
    let Some(server) = KinesisLocal::start().await else { return };
    let stand = Stand::at(server.plain_endpoint(), 1).await;
    let client = Client::new(&quiet(server.tls_endpoint(), Some(server.certificate())));
    put(&client, 0..5).await;
    assert_eq!(read_all(stand.client()).await, ["0", "1", "2", "3", "4"]);
    let consumer = stand.consumer("fan-out").await;
    let mut first = subscription(&client, &consumer).send().await.unwrap();
    let Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event))) = first.event_stream.recv().await else {
        panic!("no event")
    };
    assert_eq!(event.records().len(), 5);
    // The refusal comes as an event, and the first subscription goes on.
    let mut second = subscription(&client, &consumer).send().await.unwrap();
    let refused = second.event_stream.recv().await.unwrap_err().into_service_error();
    assert!(refused.is_resource_in_use_exception(), "{refused:?}");
    assert!(first.event_stream.recv().await.unwrap().is_some());
}

#[tokio::test]
async fn two_servers_run_side_by_side_and_end_with_their_values() {
    let (Some(one), Some(two)) = tokio::join!(KinesisLocal::start(), KinesisLocal::start()) else { return };
    assert_ne!(one.plain_endpoint(), two.plain_endpoint());
    let process = |server: &KinesisLocal| format!("/proc/{}", server.process_id());
    let (first, second) = (process(&one), process(&two));
    drop(one);
    assert!(!Path::new(&first).exists() && Path::new(&second).exists());
    Stand::at(two.plain_endpoint(), 1).await;
}

/// Calls DynamoDB; gives the status line and all after it.
async fn dynamo(endpoint: &str, operation: &str, body: &str) -> String {
    let host = endpoint.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(host).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/x-amz-json-1.0\r\n\
         x-amz-target: DynamoDB_20120810.{operation}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn ministack_keeps_tables_and_the_proxy_stands_before_it_as_well() {
    let Some(server) = Ministack::start().await else { return };
    let proxy = FaultProxy::start(&server.endpoint()).await;
    let table = r#"{"TableName":"leases","BillingMode":"PAY_PER_REQUEST",
        "KeySchema":[{"AttributeName":"leaseKey","KeyType":"HASH"}],
        "AttributeDefinitions":[{"AttributeName":"leaseKey","AttributeType":"S"}]}"#;
    let made = dynamo(proxy.endpoint(), "CreateTable", table).await;
    assert!(made.starts_with("HTTP/1.1 200"), "{made}");
    let listed = dynamo(&server.endpoint(), "ListTables", "{}").await;
    assert!(listed.contains(r#""leases""#), "{listed}");
    proxy.inject(|request| if request.operation == "ListTables" { Fault::Error500 } else { Fault::Pass });
    let failed = dynamo(proxy.endpoint(), "ListTables", "{}").await;
    assert!(failed.starts_with("HTTP/1.1 500"), "{failed}");
    assert_eq!(proxy.seen().of("CreateTable", Fault::Pass), 1);
    assert_eq!(proxy.seen().of("ListTables", Fault::Error500), 1);
}
