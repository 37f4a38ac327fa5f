//! The Kinesis source against a scripted HTTP server: faults that no stand-in for Kinesis shows.
#![cfg(feature = "kinesis")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_kinesis::config::{Credentials, SharedCredentialsProvider};
use shardflow::source::{Enumerator, KnownSplits, Position, Source, SourceContext, SplitRecord, SplitStatus};
use shardflow::vocabulary::{Incarnation, SplitId, StepName};
use shardflow::{ErrorKind, Result};
use shardflow_sources::{Kinesis, OnExpired};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ACTIVE: &str = r#"{"StreamDescriptionSummary":{"StreamName":"usage","StreamARN":"arn:aws:kinesis:us-east-1:1:stream/usage",
    "StreamStatus":"ACTIVE","RetentionPeriodHours":24,"StreamCreationTimestamp":1,"EnhancedMonitoring":[],"OpenShardCount":1}}"#;
const CREATING: &str = r#"{"StreamDescriptionSummary":{"StreamName":"usage","StreamARN":"arn:aws:kinesis:us-east-1:1:stream/usage",
    "StreamStatus":"CREATING","RetentionPeriodHours":24,"StreamCreationTimestamp":1,"EnhancedMonitoring":[],"OpenShardCount":1}}"#;

/// One answer of the server.
#[derive(Clone)]
enum Answer {
    Ok(String),
    Error(u16, &'static str),
    /// A status with a page that is no JSON.
    Page(u16),
    /// Closes the connection without a word.
    Reset,
    /// Announces more than it sends.
    CutShort,
    Silence,
}

/// A server that gives its answers in order, and remembers what it was asked (the operation, the body).
struct Scripted {
    endpoint: String,
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

impl Scripted {
    async fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, Arc::clone(&answers), Arc::clone(&log)));
            }
        });
        Self { endpoint, asked }
    }

    fn source(&self) -> Kinesis {
        Kinesis::stream("usage").sdk_config(sdk_config(&self.endpoint))
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(operation, _)| operation.clone()).collect()
    }
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

/// Answers the requests of one connection.
async fn serve(
    mut connection: TcpStream,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    log: Arc<Mutex<Vec<(String, String)>>>,
) {
    while let Some((operation, body)) = request(&mut connection).await {
        log.lock().unwrap().push((operation, body));
        let answer = answers.lock().unwrap().pop_front();
        let (status, body, announced) = match answer {
            Some(Answer::Ok(body)) => (200, body, None),
            Some(Answer::Error(status, code)) => {
                (status, format!(r#"{{"__type":"{code}","message":"scripted"}}"#), None)
            }
            Some(Answer::Page(status)) => (status, "<html>not here</html>".to_owned(), None),
            Some(Answer::CutShort) => (200, "{".to_owned(), Some(100)),
            Some(Answer::Silence) => std::future::pending().await,
            Some(Answer::Reset) | None => return,
        };
        let length = announced.unwrap_or(body.len());
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {length}\r\n\r\n"
        );
        if connection.write_all(format!("{head}{body}").as_bytes()).await.is_err() || announced.is_some() {
            return;
        }
    }
}

/// Reads one request: the operation after the last dot of its target, and its body.
async fn request(connection: &mut TcpStream) -> Option<(String, String)> {
    let mut text = Vec::new();
    loop {
        if let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(text.get(..end)?).to_ascii_lowercase();
            let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let length: usize = header("content-length:").and_then(|length| length.parse().ok()).unwrap_or(0);
            let start = end + 4;
            if text.len() >= start + length {
                let operation = header("x-amz-target:")?.rsplit('.').next()?.to_owned();
                return Some((operation, String::from_utf8_lossy(text.get(start..)?).into_owned()));
            }
        }
        if connection.read_buf(&mut text).await.ok()? == 0 {
            return None;
        }
    }
}

async fn open(source: &Kinesis) -> Result<Box<dyn Enumerator>> {
    let context = SourceContext {
        job: "test".to_owned(),
        step: StepName::new("usage"),
        runtime: tokio::runtime::Handle::current(),
        known: KnownSplits::new(),
        first_start: true,
        incarnation: Incarnation::new(1),
        state_id: "test".to_owned(),
    };
    source.open(context).await
}

fn ok(body: &str) -> Answer {
    Answer::Ok(body.to_owned())
}

/// Reads shard `s` to its end or its first error; gives its records.
async fn read_shard(enumerator: &mut dyn Enumerator) -> Result<Vec<String>> {
    let mut reader = enumerator.open(&SplitId::new("s"), &Position::new("trim-horizon"))?;
    let mut records = Vec::new();
    while let Some(batch) = poll_fn(|cx| reader.poll_read(cx)).await? {
        records.extend(batch.records().map(|record| String::from_utf8_lossy(record).into_owned()));
    }
    Ok(records)
}

#[tokio::test]
async fn listings_are_followed_over_their_pages_without_naming_the_stream_twice() {
    let server = Scripted::start(vec![
        ok(ACTIVE),
        ok(r#"{"Shards":[{"ShardId":"a","HashKeyRange":{"StartingHashKey":"0","EndingHashKey":"1"},"SequenceNumberRange":{"StartingSequenceNumber":"1"}}],"NextToken":"more"}"#),
        ok(r#"{"Shards":[{"ShardId":"b","ParentShardId":"a","AdjacentParentShardId":"expired","HashKeyRange":{"StartingHashKey":"0","EndingHashKey":"1"},"SequenceNumberRange":{"StartingSequenceNumber":"1"}}]}"#),
    ])
    .await;
    let found = open(&server.source()).await.unwrap().discover().await.unwrap();
    let splits: Vec<_> = found.splits.iter().map(|split| (split.id.as_str(), split.parents.len())).collect();
    assert_eq!(splits, [("a", 0), ("b", 1)]);
    let asked = server.asked.lock().unwrap();
    assert!(asked.get(1).unwrap().1.contains("StreamName") && !asked.get(1).unwrap().1.contains("NextToken"));
    assert!(!asked.get(2).unwrap().1.contains("StreamName") && asked.get(2).unwrap().1.contains("more"));
}

#[tokio::test]
async fn a_page_token_that_expired_starts_the_listing_again() {
    let page = r#"{"Shards":[{"ShardId":"a","HashKeyRange":{"StartingHashKey":"0","EndingHashKey":"1"},"SequenceNumberRange":{"StartingSequenceNumber":"1"}}],"NextToken":"t"}"#;
    let last = page.replace(r#","NextToken":"t""#, "");
    let answers = vec![ok(ACTIVE), ok(page), Answer::Error(400, "ExpiredNextTokenException"), ok(&last)];
    let server = Scripted::start(answers).await;
    let found = open(&server.source()).await.unwrap().discover().await.unwrap();
    assert_eq!(found.splits.len(), 1);
}

#[tokio::test]
async fn throttles_faults_resets_and_cut_answers_lose_and_double_nothing() {
    let record = |n: u8, next: &str| {
        ok(&format!(
            r#"{{"Records":[{{"SequenceNumber":"{n}","Data":"{}","PartitionKey":"k"}}],"MillisBehindLatest":9,{next}}}"#,
            ["MQ==", "Mg==", "Mw=="].get(usize::from(n - 1)).unwrap()
        ))
    };
    let server = Scripted::start(vec![
        ok(ACTIVE),
        Answer::Error(400, "ProvisionedThroughputExceededException"),
        ok(r#"{"ShardIterator":"i1"}"#),
        Answer::Error(500, "InternalFailure"),
        record(1, r#""NextShardIterator":"i2""#),
        Answer::Reset,
        record(2, r#""NextShardIterator":"i3""#),
        Answer::CutShort,
        Answer::Error(400, "ProvisionedThroughputExceededException"),
        Answer::Error(400, "ExpiredIteratorException"),
        ok(r#"{"ShardIterator":"i4"}"#),
        record(3, r#""NextShardIterator":null"#),
        // The end is asked for once more.
        ok(r#"{"ShardIterator":"i5"}"#),
        ok("{}"),
    ])
    .await;
    let mut enumerator = open(&server.source()).await.unwrap();
    assert_eq!(read_shard(&mut *enumerator).await.unwrap(), ["1", "2", "3"]);
    let asked = server.asked.lock().unwrap();
    let renewed = &asked.get(10).unwrap();
    assert_eq!(renewed.0, "getsharditerator");
    assert!(renewed.1.contains("AFTER_SEQUENCE_NUMBER") && renewed.1.contains(r#""2""#), "{}", renewed.1);
}

/// Opens the source as a start does that goes on after record 5 of shard `s`, and reads that shard.
async fn go_on_after_5(server: &Scripted, on_expired: OnExpired) -> Result<Vec<String>> {
    let position = Position::new("after:5");
    let record = SplitRecord { parents: Vec::new(), position: position.clone(), status: SplitStatus::Reading };
    let context = SourceContext {
        job: "test".to_owned(),
        step: StepName::new("usage"),
        runtime: tokio::runtime::Handle::current(),
        known: KnownSplits::from([(SplitId::new("s"), record)]),
        first_start: false,
        incarnation: Incarnation::new(1),
        state_id: "test".to_owned(),
    };
    let mut enumerator = server.source().on_expired(on_expired).open(context).await?;
    enumerator.discover().await?;
    let mut reader = enumerator.open(&SplitId::new("s"), &position)?;
    let mut records = Vec::new();
    while let Some(batch) = poll_fn(|cx| reader.poll_read(cx)).await? {
        records.extend((0..batch.len()).map(|index| batch.position(index)));
    }
    Ok(records)
}

#[tokio::test]
async fn a_later_start_asks_for_the_last_record_itself_and_hands_over_only_what_follows() {
    let listed = r#"{"Shards":[{"ShardId":"s","HashKeyRange":{"StartingHashKey":"0","EndingHashKey":"1"},"SequenceNumberRange":{"StartingSequenceNumber":"1"}}]}"#;
    let record = |n: u8| format!(r#"{{"SequenceNumber":"{n}","Data":"MQ==","PartitionKey":"k"}}"#);
    let records = format!(r#"{{"Records":[{},{}],"MillisBehindLatest":0}}"#, record(5), record(6));
    let server = Scripted::start(vec![
        ok(ACTIVE),
        ok(listed),
        ok(r#"{"ShardIterator":"i1"}"#),
        ok(&records),
        ok(r#"{"ShardIterator":"i2"}"#),
        ok("{}"),
    ])
    .await;
    assert_eq!(go_on_after_5(&server, OnExpired::Stop).await.unwrap(), ["6"]);
    let asked = server.asked.lock().unwrap();
    let iterator = &asked.get(2).unwrap().1;
    assert!(iterator.contains(r#""AT_SEQUENCE_NUMBER""#) && iterator.contains(r#""5""#), "{iterator}");
}

#[tokio::test]
async fn a_shard_that_expired_while_the_job_was_down_has_ended() {
    let gone = || Answer::Error(400, "ResourceNotFoundException");
    let answers = || vec![ok(ACTIVE), ok(r#"{"Shards":[]}"#), gone()];
    let server = Scripted::start(answers()).await;
    assert!(go_on_after_5(&server, OnExpired::GoOn).await.unwrap().is_empty());
    let server = Scripted::start(answers()).await;
    let error = go_on_after_5(&server, OnExpired::Stop).await.unwrap_err().to_string();
    assert!(error.contains("\"s\"") && error.contains("gone"), "{error}");
}

#[tokio::test]
async fn the_end_of_a_shard_names_its_children() {
    let child = |id: &str| {
        format!(
            r#"{{"ShardId":"{id}","ParentShards":["s"],"HashKeyRange":{{"StartingHashKey":"0","EndingHashKey":"1"}}}}"#
        )
    };
    let end =
        format!(r#"{{"Records":[],"MillisBehindLatest":0,"ChildShards":[{},{}]}}"#, child("left"), child("right"));
    let server = Scripted::start(vec![ok(ACTIVE), ok(r#"{"ShardIterator":"i1"}"#), ok(&end)]).await;
    let mut enumerator = open(&server.source()).await.unwrap();
    let mut reader = enumerator.open(&SplitId::new("s"), &Position::new("trim-horizon")).unwrap();
    assert!(reader.children().is_empty());
    assert!(poll_fn(|cx| reader.poll_read(cx)).await.unwrap().is_none());
    let children: Vec<_> = reader.children().into_iter().map(|child| child.id).collect();
    assert_eq!(children, [SplitId::new("left"), SplitId::new("right")]);
}

#[tokio::test]
async fn what_the_service_refuses_is_not_tried_again() {
    let server =
        Scripted::start(vec![ok(ACTIVE), ok(r#"{"ShardIterator":"i1"}"#), Answer::Error(400, "AccessDeniedException")])
            .await;
    let mut enumerator = open(&server.source()).await.unwrap();
    let error = read_shard(&mut *enumerator).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source);
    let expected = format!(
        "could not read shard \"s\" of stream \"usage\" at {}: AccessDeniedException: scripted",
        server.endpoint
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn wrong_credentials_are_a_bad_setting_and_one_clear_error() {
    for code in ["UnrecognizedClientException", "ExpiredTokenException"] {
        let server = Scripted::start(vec![Answer::Error(400, code)]).await;
        let error = open(&server.source()).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Config);
        let expected = format!("could not open stream \"usage\" at {}: {code}: scripted", server.endpoint);
        assert_eq!(error.to_string(), expected);
        assert_eq!(server.asked().len(), 1, "at the start it is not tried again");
    }
}

#[tokio::test]
async fn a_start_waits_for_a_stream_that_is_being_created() {
    let server = Scripted::start(vec![ok(CREATING), Answer::Error(503, "ServiceUnavailable"), ok(ACTIVE)]).await;
    assert!(open(&server.source()).await.is_ok());
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_on_in_time() {
    let server = Scripted::start(vec![Answer::Silence]).await;
    let started = Instant::now();
    let error = open(&server.source().connect_timeout(Duration::from_millis(500))).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Source);
    assert!(error.to_string().contains("500ms") && error.to_string().contains(&server.endpoint), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_server_that_is_no_kinesis_is_a_clear_error() {
    for answer in [Answer::Error(404, ""), Answer::Page(404)] {
        let server = Scripted::start(vec![answer]).await;
        let error = open(&server.source()).await.err().unwrap().to_string();
        assert!(error.contains("stream \"usage\"") && error.contains("404"), "{error}");
    }
}

#[tokio::test]
async fn an_arn_is_sent_along_and_its_region_does_not_override_the_given_one() {
    let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/usage";
    let server = Scripted::start(vec![ok(ACTIVE), ok(r#"{"Shards":[]}"#)]).await;
    let source = Kinesis::stream(arn).sdk_config(sdk_config(&server.endpoint));
    assert!(open(&source).await.unwrap().discover().await.unwrap().splits.is_empty());
    for (_, body) in server.asked.lock().unwrap().iter() {
        assert!(body.contains(arn) && body.contains(r#""StreamName":"usage""#), "{body}");
    }
}
