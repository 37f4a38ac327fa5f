//! A receiver of webhooks on loopback that remembers what it got and answers as it is told.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response, Uri};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A call, as it arrived.
#[derive(Debug, Clone)]
pub struct Got {
    /// Counts the calls, from 1.
    pub nth: u64,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub at: Instant,
    /// What it was answered with.
    pub status: u16,
}

impl Got {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The body as one JSON value.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

type Rule = Arc<dyn Fn(&Got) -> Response<Body> + Send + Sync>;

pub struct Hook {
    endpoint: String,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    rule: Mutex<Rule>,
    got: Mutex<Vec<Got>>,
}

/// An answer.
pub fn status(status: u16, body: &str) -> Response<Body> {
    Response::builder().status(status).body(Body::from(body.to_owned())).unwrap()
}

impl Hook {
    pub async fn start() -> Self {
        let rule: Rule = Arc::new(|_| status(204, ""));
        let shared = Arc::new(Shared { rule: Mutex::new(rule), got: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(call).with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { endpoint, shared, serving }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// From here on `rule` answers.
    pub fn answers(&self, rule: impl Fn(&Got) -> Response<Body> + Send + Sync + 'static) {
        *self.shared.rule.lock().unwrap() = Arc::new(rule);
    }

    pub fn got(&self) -> Vec<Got> {
        self.shared.got.lock().unwrap().clone()
    }

    /// What was answered with 2xx.
    pub fn taken(&self) -> Vec<Got> {
        self.got().into_iter().filter(|got| (200..300).contains(&got.status)).collect()
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn call(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let rule = Arc::clone(&shared.rule.lock().unwrap());
    let mut all = shared.got.lock().unwrap();
    let mut got =
        Got { nth: all.len() as u64 + 1, path: uri.to_string(), headers, body, at: Instant::now(), status: 0 };
    let answer = rule(&got);
    got.status = answer.status().as_u16();
    all.push(got);
    answer
}
