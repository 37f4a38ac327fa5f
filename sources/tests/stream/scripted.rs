//! A server that gives its answers in order: what no stand-in for Kinesis shows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use shardflow_sources::Kinesis;
use shardflow_sources::stream::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::emulator::sdk_config;

/// One answer.
#[derive(Clone)]
pub(crate) enum Answer {
    Ok(String),
    Error(u16, &'static str),
    /// Takes the request and closes the connection without a word.
    Reset,
    /// Announces more than it sends.
    CutShort,
}

pub(crate) fn ok(body: impl Into<String>) -> Answer {
    Answer::Ok(body.into())
}

/// The answer to DescribeStreamSummary.
pub(crate) fn stream_is(status: &str) -> Answer {
    ok(format!(
        r#"{{"StreamDescriptionSummary":{{"StreamName":"usage","StreamARN":"arn:aws:kinesis:us-east-1:1:stream/usage",
        "StreamStatus":"{status}","RetentionPeriodHours":24,"StreamCreationTimestamp":1,"EnhancedMonitoring":[],"OpenShardCount":1}}}}"#
    ))
}

pub(crate) struct Scripted {
    endpoint: String,
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

impl Scripted {
    /// Its answers follow the one to the call that opens a stream.
    pub(crate) async fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let mut script = VecDeque::from(answers);
        script.push_front(stream_is("ACTIVE"));
        let script = Arc::new(Mutex::new(script));
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, Arc::clone(&script), Arc::clone(&log)));
            }
        });
        Self { endpoint, asked }
    }

    pub(crate) async fn stream(&self) -> Stream {
        Stream::open(&Kinesis::stream("usage").sdk_config(sdk_config(&self.endpoint))).await.unwrap()
    }

    /// The operations and bodies after the call that opened the stream.
    pub(crate) fn asked(&self) -> Vec<(String, String)> {
        self.asked.lock().unwrap().iter().skip(1).cloned().collect()
    }

    pub(crate) fn operations(&self) -> Vec<String> {
        self.asked().into_iter().map(|(operation, _)| operation).collect()
    }
}

async fn serve(
    mut connection: TcpStream,
    script: Arc<Mutex<VecDeque<Answer>>>,
    log: Arc<Mutex<Vec<(String, String)>>>,
) {
    while let Some(asked) = request(&mut connection).await {
        log.lock().unwrap().push(asked);
        let answer = script.lock().unwrap().pop_front();
        let (status, body, announced) = match answer {
            Some(Answer::Ok(body)) => (200, body, None),
            Some(Answer::Error(status, code)) => {
                (status, format!(r#"{{"__type":"{code}","message":"scripted"}}"#), None)
            }
            Some(Answer::CutShort) => (200, "{".to_owned(), Some(100)),
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
        let read = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = read.split_once("\r\n\r\n") {
            let header = |name: &str| {
                let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name))?;
                line.split_once(':').map(|(_, value)| value.trim().to_owned())
            };
            let length: usize = header("content-length:").and_then(|length| length.parse().ok()).unwrap_or(0);
            if body.len() >= length {
                let target = header("x-amz-target:").unwrap_or_default();
                return Some((target.rsplit('.').next().unwrap_or_default().to_owned(), body.to_owned()));
            }
        }
        let mut part = [0; 4096];
        let count = connection.read(&mut part).await.ok()?;
        if count == 0 {
            return None;
        }
        text.extend_from_slice(&part[..count]);
    }
}
