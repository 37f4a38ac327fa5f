//! Answers on their way to the client, whole and broken.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::mpsc;

use super::events::{self, Frames, PRELUDE};
use super::fault::{End, Fault};
use super::socket::Ending;

/// What a broken answer stays silent for before it ends, so that what was sent has left: a reset discards the rest.
const FLUSH: Duration = Duration::from_millis(20);

/// The connection, or under HTTP/2 the stream, is to end here.
#[derive(Debug)]
pub(crate) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken by the fault proxy")
    }
}

impl Error for Broken {}

/// A body that is written by a task.
#[derive(Debug)]
pub(crate) struct Written(mpsc::Receiver<Result<Bytes, Broken>>);

impl Body for Written {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.0.poll_recv(cx).map(|next| next.map(|part| part.map(Frame::data)))
    }
}

/// Writes a body. The client may leave at any time: what is written then goes nowhere.
struct Writer {
    to: mpsc::Sender<Result<Bytes, Broken>>,
    ending: Ending,
}

impl Writer {
    fn new(ending: Ending) -> (Self, Written) {
        let (to, body) = mpsc::channel(1);
        (Self { to, ending }, Written(body))
    }

    async fn send(&self, bytes: Bytes) {
        if !bytes.is_empty() {
            let _ = self.to.send(Ok(bytes)).await;
        }
    }

    async fn send_slowly(&self, bytes: Bytes, pieces: usize, pause: Duration) {
        for piece in bytes.chunks(bytes.len().div_ceil(pieces).max(1)) {
            self.send(bytes.slice_ref(piece)).await;
            tokio::time::sleep(pause).await;
        }
    }

    async fn reset(self) {
        tokio::time::sleep(FLUSH).await;
        self.ending.by_reset();
        let _ = self.to.send(Err(Broken)).await;
    }

    async fn end_short(self) {
        tokio::time::sleep(FLUSH).await;
    }
}

/// An answer that has arrived whole.
#[derive(Debug, Clone)]
pub(crate) struct Whole {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Whole {
    /// The answer of the service, or of something before it, in the server's place.
    pub(crate) fn refusal(fault: Fault) -> Option<Self> {
        let (status, code) = match fault {
            Fault::Throttle => (StatusCode::BAD_REQUEST, "ProvisionedThroughputExceededException"),
            Fault::Expired => (StatusCode::BAD_REQUEST, "ExpiredIteratorException"),
            Fault::Refused(code) => (StatusCode::BAD_REQUEST, code),
            Fault::Error500 => (StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure"),
            Fault::Error503 => {
                let page = "<html><body>503 Service Temporarily Unavailable</body></html>";
                return Some(Self::new(StatusCode::SERVICE_UNAVAILABLE, "text/html", page.to_owned()));
            }
            _ => return None,
        };
        let body = format!(r#"{{"__type":"{code}","message":"by the fault proxy"}}"#);
        Some(Self::new(status, "application/x-amz-json-1.1", body))
    }

    pub(crate) fn new(status: StatusCode, content_type: &'static str, body: String) -> Self {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        Self { status, headers, body: Bytes::from(body) }
    }

    /// Sends the answer, as `fault` has it.
    pub(crate) fn send(self, fault: Fault, ending: Ending) -> Response<Written> {
        let (writer, body) = Writer::new(ending);
        let Self { status, mut headers, body: bytes } = self;
        let announced = bytes.len() + usize::from(fault == Fault::Truncated);
        // The answer to a HEAD has the length of another body.
        headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from(announced));
        let half = bytes.slice(..bytes.len() / 2);
        tokio::spawn(async move {
            match fault {
                Fault::ResetMidBody => {
                    writer.send(half).await;
                    writer.reset().await;
                }
                Fault::Truncated => {
                    writer.send(half).await;
                    writer.end_short().await;
                }
                Fault::SlowBytes => writer.send_slowly(bytes, 25, Duration::from_millis(20)).await,
                _ => writer.send(bytes).await,
            }
        });
        response(status, headers, body)
    }
}

fn response(status: StatusCode, headers: HeaderMap, body: Written) -> Response<Written> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Passes an event stream on as it arrives, as `fault` has it.
pub(crate) fn stream(
    answer: Response<Incoming>,
    headers: HeaderMap,
    fault: Fault,
    ending: Ending,
) -> Response<Written> {
    let (writer, body) = Writer::new(ending);
    let status = answer.status();
    tokio::spawn(async move {
        let client = writer.to.clone();
        tokio::select! {
            // The server shall notice that its client has left, as it would without the proxy.
            () = client.closed() => {}
            () = pass_on(answer.into_body(), writer, fault) => {}
        }
    });
    response(status, headers, body)
}

async fn pass_on(mut from: Incoming, writer: Writer, fault: Fault) {
    let mut frames = Frames::default();
    let mut events = 0;
    while let Some(arrived) = from.frame().await {
        let Ok(arrived) = arrived else { return writer.reset().await };
        frames.push(arrived.data_ref().map(AsRef::as_ref).unwrap_or_default());
        for frame in frames.by_ref() {
            if events::is_event(&frame) {
                if let Some(how) = breaks_at(fault, events) {
                    return break_off(writer, &frame, how).await;
                }
                events += 1;
            }
            match fault {
                Fault::SlowBytes => writer.send_slowly(frame, 8, Duration::from_millis(5)).await,
                Fault::NullAtEnd => writer.send(events::null_at_end(frame)).await,
                _ => writer.send(frame).await,
            }
        }
    }
    writer.send(frames.rest()).await;
}

/// What happens in place of the next event, after so many.
fn breaks_at(fault: Fault, events: usize) -> Option<Broke> {
    match fault {
        Fault::EndStreamEarly { after, how } if events == after => Some(Broke::Early(how)),
        Fault::ResetMidBody if events == 0 => Some(Broke::ResetMidFrame),
        Fault::Truncated if events == 0 => Some(Broke::Early(End::MidFrame)),
        _ => None,
    }
}

/// How a stream breaks, by any fault.
enum Broke {
    Early(End),
    ResetMidFrame,
}

async fn break_off(writer: Writer, next: &Bytes, how: Broke) {
    match how {
        Broke::ResetMidFrame => {
            writer.send(next.slice(..next.len() / 2)).await;
            writer.reset().await;
        }
        Broke::Early(End::Clean) => {}
        Broke::Early(End::Reset) => writer.reset().await,
        Broke::Early(End::MidFrame) => writer.send(next.slice(..next.len() / 2)).await,
        Broke::Early(End::AfterPrelude) => writer.send(next.slice(..PRELUDE)).await,
        Broke::Early(End::Exception(of)) => writer.send(events::exception(of)).await,
        Broke::Early(End::Silence) => std::future::pending().await,
    }
}
