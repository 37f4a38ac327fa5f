//! A strict stand-in for OpenSearch and Elasticsearch on loopback, since neither can be had: `_bulk` and what a writer needs
//! around it, over an index in memory.
//!
//! It is strict where the servers are: a body without its last line break, metadata that is not known, a content type that is
//! not NDJSON, a query that is not known and a version with the wrong operation are errors of the whole call, with the servers' words.
//! Versions are compared as *Versioning* of the index API documents, mappings as *Dynamic field mapping*. That it is
//! faithful is shown by the products' own clients, in `sinks/tests/opensearch/clients.rs`.
//!
//! [`SearchStub::inject`] makes calls fail, whole or in part. What breaks connections is the fault proxy's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

mod answers;
mod bulk;
mod cluster;
pub mod index;
mod routes;

pub use answers::Refusal;
pub use cluster::Cluster;

/// Which product it plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    OpenSearch,
    Elasticsearch,
}

/// A `_bulk` call, as a rule sees it.
#[derive(Debug, Clone)]
pub struct BulkCall {
    /// Counts the calls that were understood, from 1.
    pub nth: u64,
    /// The ids of its documents.
    pub ids: Vec<String>,
    /// Bytes of its body, uncompressed.
    pub bytes: usize,
    pub was_compressed: bool,
    /// Its query, as it came.
    pub query: String,
}

type ItemRule = Arc<dyn Fn(&str) -> Option<Refusal> + Send + Sync>;

/// What happens to a call.
#[derive(Clone)]
pub enum Fault {
    Pass,
    /// It is answered with this, and nothing is done. With a header, where one is given.
    Refuse(Refusal, Option<(&'static str, &'static str)>),
    /// It is done, and answered with this.
    RefuseAfter(Refusal),
    /// Documents of ids for which this gives something are refused with it; the others are done.
    Items(ItemRule),
}

type Rule = Arc<dyn Fn(&BulkCall) -> Fault + Send + Sync>;

/// What a node is like.
#[derive(Debug, Clone)]
pub struct Nature {
    pub flavour: Flavour,
    /// `http.max_content_length`, in bytes.
    pub max_content_length: usize,
    /// The values of `Authorization` that are accepted; none: anybody may call.
    pub accepts: Vec<String>,
    /// Whether `GET /` and `_resolve` are refused to a login that may only write.
    pub may_only_write: bool,
}

impl Default for Nature {
    fn default() -> Self {
        Self { flavour: Flavour::OpenSearch, max_content_length: 100 << 20, accepts: Vec::new(), may_only_write: false }
    }
}

/// A running node. It stops to listen with this value.
pub struct SearchStub {
    endpoint: String,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

pub struct Shared {
    nature: Nature,
    cluster: Arc<Mutex<Cluster>>,
    rule: Mutex<Rule>,
    calls: AtomicU64,
    /// Every `_bulk` call that was understood.
    seen: Mutex<Vec<BulkCall>>,
}

impl SearchStub {
    /// A node of a cluster of its own.
    pub async fn start(nature: Nature) -> Self {
        let cluster = Arc::new(Mutex::new(Cluster::new(nature.flavour)));
        Self::join(nature, cluster).await
    }

    /// A node of this cluster.
    pub async fn join(nature: Nature, cluster: Arc<Mutex<Cluster>>) -> Self {
        let rule: Rule = Arc::new(|_| Fault::Pass);
        let (calls, seen) = (AtomicU64::new(0), Mutex::default());
        let shared = Arc::new(Shared { nature, cluster, rule: Mutex::new(rule), calls, seen });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { endpoint, shared, serving }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// From here on `rule` decides what happens to each `_bulk` call that is understood.
    pub fn inject(&self, rule: impl Fn(&BulkCall) -> Fault + Send + Sync + 'static) {
        *self.shared.rule.lock().unwrap() = Arc::new(rule);
    }

    pub fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.shared.cluster.lock().unwrap()
    }

    pub fn shared_cluster(&self) -> Arc<Mutex<Cluster>> {
        Arc::clone(&self.shared.cluster)
    }

    pub fn seen(&self) -> Vec<BulkCall> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Calls of any kind.
    pub fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::SeqCst)
    }
}

impl Drop for SearchStub {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    shared.calls.fetch_add(1, Ordering::SeqCst);
    let (parts, body) = request.into_parts();
    let is_head = parts.method == Method::HEAD;
    let answer = match to_bytes(body, usize::MAX).await {
        Ok(body) => routes::route(&shared, &parts, &body),
        Err(error) => Err(Refusal::new(400, "parse_exception", error.to_string())),
    };
    let (status, value, header) = match answer {
        Ok(Answered { status, value, header }) => (status, Some(value), header),
        // Netty's answer, from before the REST layer.
        Err(refusal) if refusal.status == 413 => (413, None, None),
        Err(refusal) => (refusal.status, Some(refusal.whole()), None),
    };
    let mut response = match value.filter(|_| !is_head) {
        Some(value) => value.to_string().into_response(),
        None => Body::empty().into_response(),
    };
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, answered_type(&shared, &parts).parse().unwrap());
    if shared.nature.flavour == Flavour::Elasticsearch {
        headers.insert("x-elastic-product", "Elasticsearch".parse().unwrap());
    }
    if let Some((name, value)) = header {
        headers.insert(name, value.parse().unwrap());
    }
    response
}

/// An answer on its way.
pub struct Answered {
    pub status: u16,
    pub value: Value,
    pub header: Option<(&'static str, &'static str)>,
}

impl Answered {
    fn ok(value: Value) -> Self {
        Self { status: 200, value, header: None }
    }
}

/// JSON; of the version that was asked for, as Elasticsearch's clients do.
fn answered_type(shared: &Shared, parts: &Parts) -> String {
    let wanted = text(&parts.headers, header::ACCEPT.as_str()).unwrap_or_default();
    match wanted.split_once("compatible-with=") {
        Some((_, version)) if shared.nature.flavour == Flavour::Elasticsearch => {
            let version: String = version.chars().take_while(char::is_ascii_digit).collect();
            format!("application/vnd.elasticsearch+json;compatible-with={version}")
        }
        _ => "application/json; charset=UTF-8".to_owned(),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

impl Shared {
    /// What a bulk call comes to.
    pub fn bulk(&self, parts: &Parts, body: &Bytes, index: Option<&str>) -> Result<Answered, Refusal> {
        let query = routes::query(parts);
        routes::known(&query, parts, routes::BULK_PARAMETERS)?;
        routes::content_type(self.nature.flavour, parts)?;
        let (body, was_compressed) = routes::decoded(parts, body)?;
        if body.len() > self.nature.max_content_length {
            return Err(Refusal::new(413, "", ""));
        }
        let requires_alias = query.iter().any(|(name, value)| name == "require_alias" && value == "true");
        let requests = bulk::parse(&body, index, requires_alias)?;
        let mut seen = self.seen.lock().unwrap();
        let call = BulkCall {
            nth: seen.len() as u64 + 1,
            ids: requests.iter().map(|request| request.id.clone().unwrap_or_default()).collect(),
            bytes: body.len(),
            was_compressed,
            query: parts.uri.query().unwrap_or_default().to_owned(),
        };
        seen.push(call.clone());
        drop(seen);
        let rule = Arc::clone(&self.rule.lock().unwrap());
        let fault = rule(&call);
        if let Fault::Refuse(refusal, header) = fault {
            return Ok(Answered { status: refusal.status, value: refusal.whole(), header });
        }
        let pipeline = query.iter().find(|(name, _)| name == "pipeline").map(|(_, value)| value.as_str());
        let mut cluster = self.cluster.lock().unwrap();
        let items = requests.iter().map(|request| {
            let id = request.id.clone().unwrap_or_default();
            let refused = if let Fault::Items(rule) = &fault { rule(&id) } else { None };
            let outcome = match refused {
                Some(refusal) => Err(refusal),
                None => cluster.ingest(request, pipeline).and_then(|()| cluster.apply(request)),
            };
            answers::item(request, outcome)
        });
        let items: Vec<Value> = items.collect();
        let errors =
            items.iter().any(|item| item.as_object().unwrap().values().any(|item| item.get("error").is_some()));
        if let Fault::RefuseAfter(refusal) = fault {
            return Err(refusal);
        }
        let value = json!({"took": 3, "errors": errors, "items": items});
        let filter = query.iter().find(|(name, _)| name == "filter_path").map(|(_, value)| value.as_str());
        Ok(Answered::ok(filter.map_or(value.clone(), |filter| answers::filtered(&value, filter))))
    }
}
