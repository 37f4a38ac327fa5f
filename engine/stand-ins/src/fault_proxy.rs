//! A proxy on loopback that breaks what passes through it, for servers that never fail by themselves.
//!
//! What enters: HTTP/1.1, or HTTP/2 and HTTP/1.1 over TLS with the proxy's own certificate. What leaves: HTTP/1.1 to the one
//! server behind it. Each call is shown to a rule, a pure function from the call to a [`Fault`], and every call is counted
//! with what happened to it. Nothing is retried; what is kept are the last records of each shard (see
//! [`Fault::Duplicate`]) and which shard an iterator was given for.
//!
//! A reset is TCP's RST under HTTP/1.1; under HTTP/2, where one connection carries all, it is RST_STREAM with
//! `INTERNAL_ERROR`. [`FaultProxy::reset_connections`] resets whole connections under both. Lengths are measured anew, but for
//! what the answer to a HEAD says about the body.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, IF_NONE_MATCH, TRANSFER_ENCODING,
};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::tls::Certificate;

mod answer;
pub mod events;
mod fault;
mod part;
mod partial;
mod socket;
mod unprocessed;

use answer::{Broken, Whole, Written};
pub use fault::{End, Fault, Plan, Request, Seen};
use part::Part;
use socket::{Ending, Socket};

type Rule = Arc<dyn Fn(&Request) -> Fault + Send + Sync>;

/// A running proxy. It ends, and resets its connections, with this value.
pub struct FaultProxy {
    endpoint: String,
    certificate: Option<Certificate>,
    shared: Arc<Shared>,
    connections: watch::Sender<u64>,
    accepting: JoinHandle<()>,
}

impl FaultProxy {
    /// A front for HTTP/1.1. Everything passes until [`inject`](Self::inject).
    pub async fn start(upstream: &str) -> Self {
        Self::start_with(upstream, None).await
    }

    /// A front for HTTP/2 and HTTP/1.1 over TLS; what is behind it is asked without TLS all the same.
    pub async fn start_tls(upstream: &str) -> Self {
        Self::start_with(upstream, Some(Certificate::for_loopback())).await
    }

    async fn start_with(upstream: &str, certificate: Option<Certificate>) -> Self {
        let upstream = upstream.strip_prefix("http://").map(|host| host.trim_end_matches('/'));
        let upstream = upstream.and_then(|host| host.parse().ok()).expect("an upstream like http://127.0.0.1:4568");
        let shared =
            Arc::new(Shared { upstream, rule: Mutex::new(Arc::new(|_| Fault::Pass)), calls: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if certificate.is_some() { "https" } else { "http" };
        let endpoint = format!("{scheme}://{}", listener.local_addr().unwrap());
        let connections = watch::Sender::new(0);
        let acceptor = certificate.as_ref().map(Certificate::acceptor);
        let accepting = tokio::spawn(accept(listener, acceptor, Arc::clone(&shared), connections.subscribe()));
        Self { endpoint, certificate, shared, connections, accepting }
    }

    /// Where clients find it.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What clients of [`start_tls`](Self::start_tls) have to trust.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// From here on `rule` decides what happens to each call. The rule before is forgotten, the counts go on.
    pub fn inject(&self, rule: impl Fn(&Request) -> Fault + Send + Sync + 'static) {
        *self.shared.rule.lock().unwrap() = Arc::new(rule);
    }

    /// What happened to the calls so far.
    pub fn seen(&self) -> Seen {
        self.shared.calls.lock().unwrap().seen.clone()
    }

    /// Resets every connection that is open now, with all that is under way on it.
    pub fn reset_connections(&self) {
        self.connections.send_modify(|resets| *resets += 1);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    mut resets: watch::Receiver<u64>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
        resets.mark_unchanged();
        let mut resets = resets.clone();
        tokio::spawn(async move {
            let ending = Ending::default();
            let serving = connection(Socket::new(stream, ending.clone()), acceptor, shared, ending.clone());
            tokio::pin!(serving);
            // Also where the proxy is gone: then waiting fails.
            tokio::select! {
                () = &mut serving => {}
                _ = resets.changed() => ending.by_reset(),
            }
        });
    }
}

async fn connection(socket: Socket, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>, ending: Ending) {
    let Some(acceptor) = acceptor else { return serve(socket, false, shared, ending).await };
    // A client that trusts another certificate leaves here.
    let Ok(socket) = acceptor.accept(socket).await else { return };
    let h2 = socket.get_ref().1.alpn_protocol() == Some(b"h2");
    serve(socket, h2, shared, ending).await;
}

async fn serve<S>(socket: S, h2: bool, shared: Arc<Shared>, ending: Ending)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let client = Client { ending, h2 };
    let service = service_fn(move |request| call(Arc::clone(&shared), request, client.clone()));
    let socket = TokioIo::new(socket);
    // It fails where a fault says so, and where a client leaves.
    let _ = if h2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(socket, service).await
    } else {
        hyper::server::conn::http1::Builder::new().serve_connection(socket, service).await
    };
}

struct Shared {
    upstream: SocketAddr,
    rule: Mutex<Rule>,
    calls: Mutex<Calls>,
}

impl Shared {
    /// Asks the rule about a call; gives the fault and, for a duplicate, the answer to give.
    fn decide(&self, head: &Parts, body: &[u8]) -> (Request, Fault, Option<Whole>) {
        let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok()?.rsplit('.').next());
        let operation = target.unwrap_or(head.method.as_str()).to_owned();
        let body = serde_json::from_slice(body).unwrap_or_default();
        let request = self.calls.lock().unwrap().request(operation, body);
        // The rule is called under no lock: it may panic, and it may ask the proxy what it has seen.
        let rule = Arc::clone(&self.rule.lock().unwrap());
        let wanted = rule(&request);
        let (fault, again) = self.calls.lock().unwrap().decide(&request, wanted);
        (request, fault, again)
    }
}

/// What is remembered of the calls.
#[derive(Default)]
struct Calls {
    numbers: HashMap<(String, Option<String>), u64>,
    seen: Seen,
    /// The shard that an iterator was given for.
    iterators: HashMap<String, String>,
    /// The last records that were delivered of a shard, and the iterator that leads on from them.
    delivered: HashMap<String, (String, Whole)>,
}

impl Calls {
    /// Numbers the call and finds its shard.
    fn request(&mut self, operation: String, body: Value) -> Request {
        let by_iterator = text(&body, "ShardIterator").and_then(|iterator| self.iterators.get(iterator).cloned());
        let shard = text(&body, "ShardId").map(ToOwned::to_owned).or(by_iterator);
        let mut next = |shard| {
            let number = self.numbers.entry((operation.clone(), shard)).or_default();
            *number += 1;
            *number
        };
        let nth = next(None);
        let nth_of_shard = if shard.is_some() { next(shard.clone()) } else { nth };
        Request { operation, nth, shard, nth_of_shard, body }
    }

    /// Counts the call, with the fault that it can have and, for a duplicate, the answer to give.
    fn decide(&mut self, request: &Request, fault: Fault) -> (Fault, Option<Whole>) {
        let (fault, again) = match fault {
            Fault::Duplicate => self.previous(request).map_or((Fault::Pass, None), |answer| (fault, Some(answer))),
            Fault::EndStreamEarly { .. } | Fault::NullAtEnd if request.operation != "SubscribeToShard" => {
                (Fault::Pass, None)
            }
            Fault::SomeFail { .. } if request.operation != "PutRecords" => (Fault::Pass, None),
            Fault::Unprocessed { .. } if request.operation != "BatchWriteItem" => (Fault::Pass, None),
            _ => (fault, None),
        };
        self.seen.count(&request.operation, fault);
        (fault, again)
    }

    /// The answer that gave the iterator of this call. Any other would lead a reader that has gone back to where it was
    /// before, past records that it never gets.
    fn previous(&self, request: &Request) -> Option<Whole> {
        let (next, answer) = self.delivered.get(request.shard.as_ref()?)?;
        (text(&request.body, "ShardIterator") == Some(next)).then(|| answer.clone())
    }

    /// Counts the server's answer, and remembers whose iterators it gives and, where it is delivered, the answer.
    fn answered(&mut self, request: &Request, fault: Fault, answer: &Whole) {
        if answer.status.is_success() {
            self.seen.count_done(&request.operation, fault);
        }
        let Some(shard) = request.shard.as_ref().filter(|_| answer.status.is_success()) else { return };
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if let Some(first) = text(&body, "ShardIterator") {
            self.iterators.insert(first.to_owned(), shard.clone());
        }
        if let Some(next) = text(&body, "NextShardIterator") {
            self.iterators.insert(next.to_owned(), shard.clone());
            if matches!(fault, Fault::Pass | Fault::SlowBytes | Fault::Delay(_) | Fault::Hold(_)) {
                self.delivered.insert(shard.clone(), (next.to_owned(), answer.clone()));
            }
        }
    }
}

fn text<'a>(body: &'a Value, field: &str) -> Option<&'a str> {
    body.get(field).and_then(Value::as_str)
}

/// How a client is connected.
#[derive(Clone)]
struct Client {
    ending: Ending,
    h2: bool,
}

impl Client {
    fn reset<T>(&self) -> Result<T, Broken> {
        self.of_this_call().by_reset();
        Err(Broken)
    }

    /// Under HTTP/2 a reset is of the stream: what happens to the connection is not for one call to say.
    fn of_this_call(&self) -> Ending {
        if self.h2 { Ending::default() } else { self.ending.clone() }
    }
}

/// One call: what the rule says happens to it.
async fn call(
    shared: Arc<Shared>,
    request: hyper::Request<Incoming>,
    client: Client,
) -> Result<Response<Written>, Broken> {
    let (mut head, body) = request.into_parts();
    let Ok(body) = body.collect().await.map(Collected::to_bytes) else { return client.reset() };
    let (request, fault, again) = shared.decide(&head, &body);
    if let Some(answer) = again.or_else(|| Whole::refusal(fault)) {
        return Ok(answer.send(fault, client.of_this_call()));
    }
    match fault {
        Fault::ResetBefore => return client.reset(),
        Fault::Delay(time) => tokio::time::sleep(time).await,
        Fault::Unconditional => drop(head.headers.remove(IF_NONE_MATCH)),
        _ => {}
    }
    let part = match fault {
        Fault::SomeFail { every } => Part::put_records(&request.body, every),
        Fault::Unprocessed { every } => Part::batch_write_item(&request.body, every),
        _ => Part::Whole,
    };
    if let Some(answer) = part.without_asking() {
        return Ok(answer.send(fault, client.of_this_call()));
    }
    let body = part.asked().unwrap_or(body);
    let is_head = head.method == Method::HEAD;
    let answer = match forward(shared.upstream, head, body).await {
        Ok(answer) => answer,
        Err(error) => {
            let text = format!("the fault proxy could not ask {}: {error}", shared.upstream);
            return Ok(Whole::new(StatusCode::BAD_GATEWAY, "text/plain", text).send(Fault::Pass, client.of_this_call()));
        }
    };
    let mut headers = end_to_end(answer.headers());
    if let Some(length) = answer.headers().get(CONTENT_LENGTH).filter(|_| is_head) {
        headers.insert(CONTENT_LENGTH, length.clone());
    }
    if headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/vnd.amazon.eventstream") {
        if fault == Fault::ResetAfter {
            return client.reset();
        }
        hold(fault).await;
        return Ok(answer::stream(answer, headers, fault, client.of_this_call()));
    }
    let status = answer.status();
    let Ok(body) = answer.into_body().collect().await.map(Collected::to_bytes) else { return client.reset() };
    let answer = Whole { status, headers, body };
    let answer = part.answer(answer);
    shared.calls.lock().unwrap().answered(&request, fault, &answer);
    if fault == Fault::ResetAfter {
        return client.reset();
    }
    hold(fault).await;
    Ok(answer.send(fault, client.of_this_call()))
}

/// Keeps an answer back. A client that leaves ends the call here: it is dropped with the connection, or with its stream.
async fn hold(fault: Fault) {
    if let Fault::Hold(time) = fault {
        tokio::time::sleep(time).await;
    }
}

/// Asks the server, on a connection of its own: one that fails is then nobody else's.
async fn forward(
    upstream: SocketAddr,
    head: Parts,
    body: Bytes,
) -> Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(upstream).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = hyper::Request::new(Full::new(body));
    *request.method_mut() = head.method;
    *request.uri_mut() = path.parse()?;
    *request.headers_mut() = end_to_end(&head.headers);
    // The host that was signed. HTTP/2 has it in the URI.
    if let Some(authority) = head.uri.authority() {
        request.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str())?);
    }
    Ok(sender.send_request(request).await?)
}

/// The headers that are not about the connection, which differs on both sides, or about the body's length, which may change.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers
}
