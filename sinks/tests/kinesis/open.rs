//! What a producer says where it cannot reach its stream.

use std::time::Duration;

use shardflow::ErrorKind;
use shardflow_sinks::ProducerSettings;
use shardflow_sinks::producer::{Aggregation, Producer, Record};

use crate::settings;
use crate::support::streams::Stream;
use shardflow_stand_ins::fault_proxy::{Fault, FaultProxy};

#[tokio::test]
async fn a_stream_that_is_not_there_is_a_wrong_setting_and_one_that_cannot_be_reached_is_told_in_time() {
    let stream = Stream::embedded(1).await;
    let other = ProducerSettings::stream("other").sdk_config(crate::sdk_config(&stream.endpoint, None));
    let error = Producer::open(other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("stream \"other\"") && error.to_string().contains("not found"), "{error}");
    let nobody = settings("http://127.0.0.1:1").connect_timeout(Duration::from_millis(300));
    let error = Producer::open(nobody).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Sink);
    assert!(error.to_string().contains("could not reach stream \"usage\""), "{error}");
    for bad in ["", "a b", "arn:aws:s3:::bucket"] {
        assert_eq!(Producer::open(ProducerSettings::stream(bad)).await.unwrap_err().kind(), ErrorKind::Config);
    }
}

#[tokio::test]
async fn an_endpoint_with_credentials_is_refused_and_not_repeated() {
    let bad = "https://user:hunter2@127.0.0.1:1";
    let config = crate::sdk_config(bad, None);
    for settings in [settings("http://127.0.0.1:1").endpoint(bad), ProducerSettings::stream("usage").sdk_config(config)]
    {
        let error = Producer::open(settings).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let error = format!("{error} {error:?}");
        assert!(error.contains("it holds a user name") && !error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_program_that_may_only_put_can_put() {
    let stream = Stream::embedded(1).await;
    let proxy = FaultProxy::start(&stream.endpoint).await;
    proxy.inject(|request| match request.operation.as_str() {
        "PutRecords" => Fault::Pass,
        _ => Fault::Refused("AccessDeniedException"),
    });
    let producer = Producer::open(settings(proxy.endpoint())).await.unwrap();
    producer.put(Record::new("k", "1")).await.await.unwrap();
    // To pack, the shards have to be known.
    let packs = settings(proxy.endpoint()).aggregate(Aggregation::default());
    let error = Producer::open(packs).await.unwrap_err();
    assert!(error.to_string().contains("could not open the shards of stream \"usage\""), "{error}");
}

#[tokio::test]
async fn a_program_that_may_not_put_is_told_in_each_receipt_and_by_a_flush() {
    let stream = Stream::embedded(1).await;
    let proxy = FaultProxy::start(&stream.endpoint).await;
    let producer = Producer::open(settings(proxy.endpoint())).await.unwrap();
    proxy.inject(|_| Fault::Refused("AccessDeniedException"));
    let kept = producer.put(Record::new("k", "1")).await;
    drop(producer.put(Record::new("k", "2")).await);
    let error = producer.flush().await.unwrap_err();
    assert!(error.to_string().contains("1 records") && error.to_string().contains("AccessDenied"), "{error}");
    assert!(kept.await.unwrap_err().to_string().contains("AccessDenied"));
    assert_eq!(stream.read().await.len(), 0);
}
