//! Resharding where answers are lost and the stream does not become ACTIVE.

use std::time::Duration;

use shardflow::Outcome;
use shardflow_sources::stream::{Goal, Plan, Stream};

use crate::scripted::{Answer, Scripted, ok, stream_is};

const HALF: &str = "170141183460469231731687303715884105728";
const BEFORE_HALF: &str = "170141183460469231731687303715884105727";
const LAST: &str = "340282366920938463463374607431768211455";

fn shard(id: &str, first: &str, last: &str, is_open: bool) -> String {
    let end = if is_open { "" } else { r#","EndingSequenceNumber":"2""# };
    format!(
        r#"{{"ShardId":"{id}","HashKeyRange":{{"StartingHashKey":"{first}","EndingHashKey":"{last}"}},
        "SequenceNumberRange":{{"StartingSequenceNumber":"1"{end}}}}}"#
    )
}

fn whole() -> Answer {
    ok(format!(r#"{{"Shards":[{}]}}"#, shard("a", "0", LAST, true)))
}

fn halves() -> Answer {
    let shards = [shard("a", "0", LAST, false), shard("b", "0", BEFORE_HALF, true), shard("c", HALF, LAST, true)];
    ok(format!(r#"{{"Shards":[{}]}}"#, shards.join(",")))
}

async fn plan(stream: &Stream) -> Plan {
    Plan::new(&stream.shards().await.unwrap(), vec![], Goal::ToCount(2)).unwrap()
}

#[tokio::test]
async fn a_split_whose_answer_was_lost_is_looked_up_and_not_done_twice() {
    let active = || stream_is("ACTIVE");
    let answers = vec![whole(), active(), whole(), Answer::Reset, stream_is("UPDATING"), active(), halves()];
    let server = Scripted::start(answers).await;
    let stream = server.stream().await;
    let plan = plan(&stream).await;
    stream.reshard(&plan, Duration::from_secs(30), |_, _| {}).await.unwrap();
    let splits = server.asked().into_iter().filter(|(operation, _)| operation == "SplitShard").collect::<Vec<_>>();
    assert_eq!(splits.len(), 1);
    assert!(splits[0].1.contains(HALF) && splits[0].1.contains(r#""a""#), "{}", splits[0].1);
}

#[tokio::test]
async fn a_stream_that_does_not_become_active_again_is_not_waited_for_for_ever() {
    let answers = vec![whole(), stream_is("ACTIVE"), whole(), ok("{}"), stream_is("UPDATING"), stream_is("UPDATING")];
    let server = Scripted::start(answers).await;
    let stream = server.stream().await;
    let plan = plan(&stream).await;
    let stopped = stream.reshard(&plan, Duration::from_millis(600), |_, _| {}).await.unwrap_err();
    assert_eq!(stopped.error.outcome(), Outcome::Indeterminate, "it may come about yet");
    assert!(stopped.to_string().contains("within 600ms"), "{stopped}");
}

#[tokio::test]
async fn a_refused_step_is_not_tried_again() {
    let answers = vec![whole(), stream_is("ACTIVE"), whole(), Answer::Error(400, "InvalidArgumentException")];
    let server = Scripted::start(answers).await;
    let stream = server.stream().await;
    let plan = plan(&stream).await;
    let stopped = stream.reshard(&plan, Duration::from_secs(30), |_, _| {}).await.unwrap_err();
    let text = stopped.to_string();
    assert!(text.starts_with("could not split 0..") && text.contains("InvalidArgumentException: scripted"), "{text}");
    assert_eq!(stopped.error.outcome(), Outcome::Determinate);
}
