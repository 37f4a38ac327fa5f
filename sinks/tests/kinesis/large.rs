//! Records as large as they may be.

use shardflow_sinks::producer::{NotPut, Producer, Record};

use crate::settings;
use crate::support::large::front;
use crate::support::streams::Stream;

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_a_mebibyte_are_put_and_larger_ones_refused() {
    let stream = Stream::embedded(1).await;
    let producer = Producer::open(settings(&stream.endpoint)).await.unwrap();
    let mut receipts = Vec::new();
    for _ in 0..12 {
        receipts.push(producer.put(Record::new("k", vec![b'x'; MIB - 1])).await);
    }
    let refused = producer.put(Record::new("k", vec![b'x'; MIB])).await.await.unwrap_err();
    assert!(refused.to_string().contains("1048577 bytes"), "{refused}");
    for receipt in receipts {
        receipt.await.unwrap();
    }
    let seen = stream.read().await;
    assert_eq!(seen.len(), 12);
    assert!(seen.iter().all(|seen| seen.data.len() == MIB - 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_stream_takes_them_records_of_ten_mebibytes_are_put() {
    let stream = Stream::embedded(1).await;
    let endpoint = front(stream.store.as_ref().unwrap(), 10 * MIB).await;
    for call_bytes in [5 * MIB, 10 * MIB] {
        let settings = settings(&endpoint).record_bytes(10 * MIB).call_bytes(call_bytes).ordered();
        let producer = Producer::open(settings).await.unwrap();
        let sizes = [1, 10 * MIB - 1, 3 * MIB, 3 * MIB, 3 * MIB, 2, 7 * MIB];
        let mut receipts = Vec::new();
        for size in sizes {
            receipts.push(producer.put(Record::new("k", vec![b'x'; size])).await);
        }
        let larger = producer.put(Record::new("k", vec![b'x'; 10 * MIB])).await.await;
        assert!(matches!(larger, Err(NotPut::Refused(_))));
        let mut sequences = Vec::new();
        for receipt in receipts {
            let placed = receipt.await.unwrap();
            // Numbers of up to 128 digits without leading zeros: the longer is the greater.
            sequences.push((placed.sequence.len(), placed.sequence));
        }
        assert!(sequences.is_sorted(), "{sequences:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_only_the_service_knows_to_be_too_large_is_found_in_a_full_call() {
    let stream = Stream::embedded(1).await;
    let endpoint = front(stream.store.as_ref().unwrap(), MIB).await;
    let producer = Producer::open(settings(&endpoint).record_bytes(10 * MIB)).await.unwrap();
    let mut receipts = Vec::new();
    for number in 0..400 {
        let size = if number == 123 { 2 * MIB } else { 5 };
        receipts.push(producer.put(Record::new("k", vec![b'x'; size])).await);
    }
    let mut refused = Vec::new();
    for (number, receipt) in receipts.into_iter().enumerate() {
        match receipt.await {
            Ok(_) => {}
            Err(NotPut::Refused(told)) => refused.push((number, told.reason)),
            Err(failed) => panic!("{failed}"),
        }
    }
    assert_eq!(refused.len(), 1);
    assert!(refused[0].0 == 123 && refused[0].1.contains("larger than the stream takes"), "{refused:?}");
    assert_eq!(stream.read().await.len(), 399);
}
