//! Putting records where the service refuses some, loses answers, or will have none of it.

use std::time::Duration;

use shardflow::{ErrorKind, Outcome};
use shardflow_sources::stream::PutOptions;

use crate::put::put;
use crate::scripted::{Answer, Scripted, ok};

const TAKEN: &str = r#"{"SequenceNumber":"1","ShardId":"s"}"#;
const THROTTLED: &str = r#"{"ErrorCode":"ProvisionedThroughputExceededException","ErrorMessage":"slow down"}"#;
const FAILED: &str = r#"{"ErrorCode":"InternalFailure","ErrorMessage":"oops"}"#;

fn fates(fates: &[&str]) -> Answer {
    let failed = fates.iter().filter(|fate| fate.contains("ErrorCode")).count();
    ok(format!(r#"{{"FailedRecordCount":{failed},"Records":[{}]}}"#, fates.join(",")))
}

/// A call at a time, so that the answers are those to what the script says.
fn one_call() -> PutOptions {
    PutOptions { calls: 1, ..PutOptions::default() }
}

/// The base64 of the records of each call: one digit each.
fn sent(server: &Scripted) -> Vec<String> {
    let data = |(_, body): (String, String)| {
        (0..10)
            .filter(|n| body.contains(["MA==", "MQ==", "Mg==", "Mw==", "NA=="].get(*n).copied().unwrap_or("-")))
            .map(|n| n.to_string())
            .collect()
    };
    server.asked().into_iter().map(data).collect()
}

#[tokio::test]
async fn refused_records_are_sent_again_and_no_others() {
    let answers = vec![fates(&[TAKEN, THROTTLED, TAKEN, FAILED]), fates(&[TAKEN, THROTTLED]), fates(&[TAKEN])];
    let server = Scripted::start(answers).await;
    let finished = put(&server.stream().await, 4, 4, &one_call()).await;
    assert!(finished.failure.is_none(), "{finished}");
    assert_eq!((finished.tally.put, finished.tally.sent_again, finished.tally.maybe_twice), (4, 3, 0));
    assert_eq!(sent(&server), ["0123", "13", "3"]);
}

#[tokio::test]
async fn records_whose_answer_was_lost_are_sent_again_and_counted() {
    for lost in [Answer::Reset, Answer::CutShort, Answer::Error(500, "InternalFailure")] {
        let server = Scripted::start(vec![lost, fates(&[TAKEN, TAKEN])]).await;
        let finished = put(&server.stream().await, 2, 2, &one_call()).await;
        assert!(finished.failure.is_none(), "{finished}");
        assert_eq!((finished.tally.put, finished.tally.sent_again, finished.tally.maybe_twice), (2, 2, 2));
        assert!(finished.to_string().contains("2 may be there twice"), "{finished}");
    }
}

#[tokio::test]
async fn a_throttled_call_is_known_to_have_put_nothing() {
    let answers = vec![Answer::Error(400, "ProvisionedThroughputExceededException"), fates(&[TAKEN, TAKEN])];
    let server = Scripted::start(answers).await;
    let finished = put(&server.stream().await, 2, 2, &one_call()).await;
    assert_eq!((finished.tally.put, finished.tally.sent_again, finished.tally.maybe_twice), (2, 2, 0));
}

#[tokio::test]
async fn what_the_service_will_not_have_ends_the_put_and_names_what_was_not_put() {
    let server = Scripted::start(vec![Answer::Error(400, "AccessDeniedException")]).await;
    let finished = put(&server.stream().await, 1_000, 7, &one_call()).await;
    let error = finished.failure.unwrap();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Source, Outcome::Determinate));
    let text = error.to_string();
    assert!(
        text.starts_with("could not put records into stream \"usage\" at ") && text.contains("AccessDenied"),
        "{text}"
    );
    assert_eq!(finished.tally.put, 0);
    assert!(finished.unknown.is_empty() && finished.not_put.len() >= 300);
    assert_eq!(finished.not_put, (0..finished.not_put.len() as u64).collect::<Vec<_>>());
    assert_eq!(server.operations(), ["PutRecords"]);
}

#[tokio::test]
async fn records_whose_fate_nobody_knows_are_told_from_those_that_were_not_put() {
    let server = Scripted::start(vec![Answer::Reset, Answer::Error(400, "AccessDeniedException")]).await;
    let finished = put(&server.stream().await, 3, 3, &one_call()).await;
    assert_eq!(finished.failure.as_ref().unwrap().outcome(), Outcome::Indeterminate);
    assert_eq!((&finished.unknown[..], &finished.not_put[..]), (&[0, 1, 2][..], &[][..]));
    assert!(finished.to_string().contains("3 may have been put or not"), "{finished}");
}

#[tokio::test]
async fn a_record_that_keeps_failing_ends_the_put_and_those_that_were_taken_count() {
    let server = Scripted::start(vec![fates(&[TAKEN, FAILED]), fates(&[FAILED])]).await;
    let stream = server.stream().await.give_up_after(Duration::from_millis(1));
    let finished = put(&stream, 2, 2, &one_call()).await;
    assert_eq!((finished.tally.put, &finished.not_put[..]), (1, &[1][..]));
    assert!(finished.failure.unwrap().to_string().ends_with("InternalFailure: oops"));
}

#[tokio::test]
async fn where_order_is_kept_a_key_is_in_a_call_once_and_waits_for_its_refused_record() {
    // Records 0, 2 and 4 have one key, 1 and 3 the other.
    let answers = vec![fates(&[THROTTLED, TAKEN]), fates(&[TAKEN]), fates(&[TAKEN]), fates(&[TAKEN]), fates(&[TAKEN])];
    let server = Scripted::start(answers).await;
    let options = PutOptions { ordered: true, ..one_call() };
    let finished = put(&server.stream().await, 5, 2, &options).await;
    assert!(finished.failure.is_none(), "{finished}");
    assert_eq!(sent(&server), ["01", "3", "0", "2", "4"]);
}
