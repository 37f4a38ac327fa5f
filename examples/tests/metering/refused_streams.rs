//! Streams that cannot be read: one clear line within a bounded time, and nothing changed on disk.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use rustix::process::Signal;
use shardflow_examples::metering::demo::embedded::{Embedded, REGION};

use crate::books::tree;
use crate::process::{Launch, Place, Process};
use crate::refusals::refused;

/// The source gives up after 10 s.
const BOUND: Duration = Duration::from_secs(60);

/// `metering run` on a stream in a place of its own, with credentials that are good enough for a stand-in.
struct Try {
    place: Place,
    launch: Launch,
}

fn stream(stream: &str) -> Try {
    let place = Place::empty();
    let launch =
        Launch::new(&["run", "--out", "out", "--state", "new/state", "--source", &format!("kinesis:{stream}")]);
    let launch = launch.within(&place).env("HOME", &place.root().to_string_lossy());
    let launch = launch.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_REGION", REGION);
    let launch = launch.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    Try { place, launch }
}

impl Try {
    fn at(mut self, endpoint: &str) -> Self {
        self.launch = self.launch.args(["--endpoint", endpoint]);
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.launch = self.launch.env(name, value);
        self
    }

    fn without(mut self, names: &[&str]) -> Self {
        self.launch = names.iter().fold(self.launch, |launch, name| launch.without(name));
        self
    }

    fn start(self) -> (Place, Process) {
        (self.place, self.launch.start())
    }
}

/// A server that gives the same answer to every request; `None`: it takes connections and says nothing.
fn server(answer: Option<(u16, &'static str)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for connection in listener.incoming().map_while(Result::ok) {
            match answer {
                Some((status, body)) => drop(std::thread::spawn(move || serve(connection, status, body))),
                None => silent.push(connection),
            }
        }
    });
    endpoint
}

fn serve(mut connection: TcpStream, status: u16, body: &str) {
    let mut asked = Vec::new();
    let mut buffer = [0; 4096];
    // Each request of the SDK to this service ends with a JSON object.
    while let Ok(read @ 1..) = connection.read(&mut buffer) {
        asked.extend_from_slice(&buffer[..read]);
        if asked.windows(4).any(|four| four == b"\r\n\r\n") && asked.ends_with(b"}") {
            asked.clear();
            let head = "content-type: application/x-amz-json-1.1\r\ncontent-length";
            let _ = write!(connection, "HTTP/1.1 {status} X\r\n{head}: {}\r\n\r\n{body}", body.len());
        }
    }
}

/// Nobody listens there.
const CLOSED: &str = "http://127.0.0.1:1";

#[test]
fn streams_that_cannot_be_read_are_refused_in_time_and_nothing_is_changed() {
    const UNKNOWN: &str = r#"{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}"#;
    const SIGNATURE: &str = r#"{"__type":"InvalidSignatureException","message":"The request signature we calculated does not match the signature you provided."}"#;
    const DENIED: &str = r#"{"__type":"AccessDeniedException","message":"User: x is not authorized to perform: kinesis:DescribeStreamSummary"}"#;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let kinesis = runtime.block_on(Embedded::start()).unwrap();
    let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
    let silent = server(None);
    let tries: Vec<(Try, i32, Vec<&str>)> = vec![
        (stream("usage").at(CLOSED), 1, vec!["stream \"usage\"", CLOSED]),
        (stream("usage").at(&silent), 1, vec!["stream \"usage\"", &silent, "10s"]),
        (stream("nobody").at(kinesis.endpoint()), 2, vec!["stream \"nobody\"", "ResourceNotFoundException"]),
        (stream("usage").at("http://no-such-host.invalid"), 1, vec!["http://no-such-host.invalid"]),
        (stream("usage").at(&server(Some((400, UNKNOWN)))), 2, vec!["\"usage\"", "security token", "invalid"]),
        (stream("usage").at(&server(Some((400, SIGNATURE)))), 2, vec!["\"usage\"", "InvalidSignatureException"]),
        (stream("usage").at(&server(Some((400, DENIED)))), 2, vec!["\"usage\"", "not authorized"]),
        (stream("usage").at(&server(Some((404, "<html>not here</html>")))), 2, vec!["\"usage\"", "404"]),
        (stream("usage").at(&server(Some((503, "{}")))), 1, vec!["\"usage\"", "503"]),
        (stream("usage").at(&server(Some((200, "nonsense}")))), 1, vec!["\"usage\""]),
        (stream("usage").at(kinesis.endpoint()).without(&keys), 2, vec!["\"usage\"", "no AWS credentials"]),
        (stream("usage").without(&["AWS_REGION"]), 2, vec!["\"usage\"", "no AWS region"]),
        (
            stream("usage")
                .without(&keys)
                .env("AWS_EC2_METADATA_DISABLED", "false")
                .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &silent),
            2,
            vec!["\"usage\"", "credentials"],
        ),
        (stream("usage").without(&keys).env("AWS_PROFILE", "nobody"), 2, vec!["\"usage\"", "no AWS credentials"]),
        (stream("a b"), 2, vec!["\"a b\""]),
        (stream("arn:aws:kinesis:eu-west-1:1:shoe/usage"), 2, vec!["arn:aws:kinesis:eu-west-1:1:shoe/usage"]),
    ];
    let running: Vec<_> = tries.into_iter().map(|(attempt, code, says)| (attempt.start(), code, says)).collect();
    for (((place, process), code, says), number) in running.into_iter().zip(0..) {
        println!("{number}: {says:?}");
        refused(&process.end(BOUND), code, &says);
        assert!(tree(place.root()).is_empty(), "{says:?} left {:?}", tree(place.root()).into_keys());
    }
}

#[test]
fn a_job_that_waits_for_its_stream_can_be_stopped() {
    let (_place, process) = stream("usage").at(&server(None)).start();
    process.signal(Signal::TERM);
    let ended = process.end(BOUND);
    assert!(!ended.status.success(), "{ended:?}");
}
