//! The cluster: its nodes, the login, and what is asked at the start.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Method, Url};
use serde_json::Value;
use shardflow::metrics::RetryMetrics;
use shardflow::retry::{Clock, Failed, Retries, WallClock};
use shardflow::sink::Trouble;
use shardflow::{Error, Outcome, Result};

use super::answer::{Told, with_status};
use super::nodes::Nodes;
use super::product::{Product, identify};
use super::target::{Fixed, Kind};
use super::{Login, Settings};
use crate::http::{Address, Answer, Pause, Scrubber, Secret, header_value};

/// The most that is read of an answer. One of 5,000 documents, each refused with a long reason, has a tenth of it.
const LONGEST_ANSWER: usize = 64 << 20;

/// The longest that a server's `Retry-After` is honoured at a time.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long a look at what is there is tried at the start.
pub(super) const CHECK_TIMEOUT: Duration = Duration::from_secs(30);

/// A cluster, ready to be called.
pub(super) struct Connection {
    client: Client,
    addresses: Vec<Address>,
    nodes: Mutex<Nodes>,
    pause: Pause,
    scrubber: Scrubber,
}

/// A node's URL as it may be shown.
pub(super) fn shown(node: &str) -> String {
    Address::parse(node).map_or_else(|_| "no URL".to_owned(), |address| address.to_string())
}

impl Connection {
    /// Checks the settings, reaches a node, and looks who it is and whether the index is there.
    ///
    /// # Errors
    /// Settings that cannot work, a server that refuses, or none that answers in time.
    pub(super) async fn open(settings: &Settings, fixed: Option<&Fixed>) -> Result<Self> {
        let connection = Self::new(settings)?;
        let product = connection.asked(settings.start_within).await?;
        if let Some(fixed) = fixed {
            connection.check(fixed, settings.may_create_index).await?;
        }
        let at = connection.place();
        match product {
            Some(product) => tracing::info!(%product, at, "writes to a search index"),
            None => tracing::warn!(at, "writes to a search index of a server that does not tell this login what it is"),
        }
        Ok(connection)
    }

    fn new(settings: &Settings) -> Result<Self> {
        let mut addresses = Vec::new();
        for (number, node) in (1..).zip(&settings.nodes) {
            let refuse = |why| Error::config(format!("could not use the URL of node {number}: {why}"));
            addresses.push(Address::parse(node).map_err(refuse)?);
        }
        if addresses.is_empty() {
            return Err(Error::config("could not open a search index: it has no nodes"));
        }
        let in_urls = addresses.iter().find_map(Address::credentials);
        let in_urls = in_urls.map(|(user, password)| Login::Basic { user: user.clone(), password: password.clone() });
        let (mut headers, mut scrubber) = (HeaderMap::new(), Scrubber::default());
        if let Some(login) = settings.login.clone().or(in_urls) {
            let (scheme, secret) = match login {
                Login::Basic { user, password } => {
                    scrubber.add(password.clone());
                    ("Basic", Secret::new(BASE64_STANDARD.encode(format!("{user}:{}", password.expose()))))
                }
                Login::ApiKey(key) => {
                    // The key in it, where it is one.
                    let parts =
                        BASE64_STANDARD.decode(key.expose()).ok().and_then(|parts| String::from_utf8(parts).ok());
                    let inner = parts.as_ref().and_then(|parts| parts.split_once(':'));
                    inner.into_iter().for_each(|(_, key)| scrubber.add(Secret::new(key)));
                    ("ApiKey", key)
                }
            };
            headers.insert(AUTHORIZATION, header_value("the login", &format!("{scheme} {}", secret.expose()))?);
            scrubber.add(secret);
            if let Some(open) = addresses.iter().find(|address| address.is_open_to_all()) {
                tracing::warn!(node = %open, "the login is sent without TLS, and can be read on the way");
            }
        }
        let client = settings.http.client(headers)?;
        let (nodes, pause) = (Mutex::new(Nodes::new(addresses.len())), Pause::new(LONGEST_PAUSE));
        Ok(Self { client, addresses, nodes, pause, scrubber })
    }

    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is, for errors and the log.
    pub(super) fn place(&self) -> String {
        let nodes: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        nodes.join(", ")
    }

    /// Calls the next node; where it cannot be reached, the one after it, and so on.
    ///
    /// # Errors
    /// There is no whole answer.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Answer, Trouble> {
        self.pause.wait(&WallClock).await;
        let mut last = None;
        for _ in &self.addresses {
            let node = self.nodes().pick(Instant::now());
            let Some(address) = self.addresses.get(node) else { break };
            let answer = self.call_node(address, call).await;
            let is_down = |answer: &Answer| matches!(answer.status, 502..=504);
            let may_be_called = answer.as_ref().is_ok_and(|answer| !is_down(answer));
            match may_be_called {
                true => self.nodes().succeeded(node),
                false => self.nodes().failed(node, Instant::now()),
            }
            match answer {
                // Nothing has been sent: another may take it at once.
                Err(trouble) if trouble.outcome == Outcome::Determinate && trouble.may_pass.is_some() => {
                    last = Some(trouble)
                }
                answer => return answer,
            }
        }
        Err(last.unwrap_or_else(|| self.trouble(Outcome::Determinate, "there is no node to call".to_owned())))
    }

    async fn call_node(&self, address: &Address, call: &Call<'_>) -> Result<Answer, Trouble> {
        let url: Url = address.below(call.path, &call.query);
        let mut request = self.client.request(call.method.clone(), url).headers(call.headers.clone());
        if let Some(body) = &call.body {
            request = request.body(body.clone());
        }
        let told =
            |trouble: Trouble| Trouble { text: self.scrubber.scrub(format!("{address}: {}", trouble.text)), ..trouble };
        let response = request.send().await.map_err(|error| told(crate::http::broken(error)))?;
        let answer = Answer::read(response, LONGEST_ANSWER).await.map_err(told)?;
        if answer.is_cut {
            return Err(self
                .trouble(Outcome::Indeterminate, format!("{address}: an answer of more than {LONGEST_ANSWER} bytes")));
        }
        if answer.headers.contains_key(RETRY_AFTER)
            && matches!(answer.status, 429 | 503)
            && let Some(time) = answer.retry_after(WallClock.wall_millis())
        {
            self.pause.ask(Instant::now(), time);
        }
        Ok(answer)
    }

    fn trouble(&self, outcome: Outcome, text: String) -> Trouble {
        Trouble { may_pass: Some(Failed::Transient), outcome, text: self.scrubber.scrub(text) }
    }

    /// Takes the login out of what a server says.
    pub(super) fn scrubbed(&self, text: String) -> String {
        self.scrubber.scrub(text)
    }

    /// Asks who is there until somebody answers. `None`: this login may not know.
    async fn asked(&self, within: Duration) -> Result<Option<Product>> {
        let last = Mutex::new(None);
        let retries =
            Retries::new(Duration::MAX, &WallClock, &RetryMetrics::unseen(), format!("reach {}", self.place()));
        let ask = || async {
            let answer = self.call(&Call::get("", &[])).await;
            let answer = answer.and_then(|answer| self.started(answer)).map_err(|trouble| {
                // A certificate that is not trusted will not be by waiting.
                let may_pass = trouble.may_pass.filter(|_| !trouble.text.contains("invalid peer certificate"));
                Trouble { may_pass, ..trouble }
            });
            answer.inspect_err(|trouble| *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble.clone()))
        };
        let answer = match tokio::time::timeout(within, retries.run(ask)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(trouble)) => {
                return Err(Error::config(format!("could not open {}", self.place())).caused_by(trouble));
            }
            Err(_) => {
                let error = Error::sink(format!("could not reach {} within {within:?}", self.place()));
                return Err(match last.into_inner().unwrap_or_else(PoisonError::into_inner) {
                    Some(trouble) => error.caused_by(trouble),
                    None => error,
                });
            }
        };
        if answer.status == 403 {
            return Ok(None);
        }
        let says = answer.headers.get("x-elastic-product").and_then(|value| value.to_str().ok());
        let known = identify(says, &answer.body);
        known.map(Some).map_err(|why| Error::config(format!("could not open {}: {why}", self.place())))
    }

    /// Whether an answer at the start is one, may become one, or never will.
    pub(super) fn started(&self, answer: Answer) -> Result<Answer, Trouble> {
        let may_pass = match answer.status {
            200 | 403 => return Ok(answer),
            429 => Some(Failed::Throttled),
            500..=599 => Some(Failed::Transient),
            _ => None,
        };
        let text = with_status(answer.status, &Told::of_body(&answer.body));
        let text = match answer.status {
            401 => format!("the server does not accept the login: {text}"),
            _ => text,
        };
        Err(Trouble { may_pass, ..self.trouble(Outcome::Determinate, text) })
    }

    /// Looks whether what documents go to is there, and is what it is said to be.
    async fn check(&self, fixed: &Fixed, may_create: bool) -> Result<()> {
        let refuse = |why: String| Error::config(format!("could not open {fixed} at {}: {why}", self.place()));
        let path = format!("_resolve/index/{}", fixed.name);
        let retries = Retries::new(CHECK_TIMEOUT, &WallClock, &RetryMetrics::unseen(), format!("find {fixed}"));
        let ask = || async {
            let answer = self.call(&Call::get(&path, &[])).await?;
            if answer.status == 404 { Ok(answer) } else { self.started(answer) }
        };
        let answer = retries.run(ask).await.map_err(|trouble| refuse(trouble.text))?;
        if answer.status == 403 {
            tracing::warn!(%fixed, "this login may not see whether it is there; it is written to all the same");
            return Ok(());
        }
        let found: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let is = |list: &str| found.get(list).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
        let kinds = [("data_streams", Kind::DataStream), ("aliases", Kind::Alias), ("indices", Kind::Index)];
        match kinds.into_iter().find_map(|(list, kind)| is(list).then_some(kind)) {
            Some(kind) if kind == fixed.kind => Ok(()),
            // An alias is as good a name of an index as any.
            Some(Kind::Alias) if fixed.kind == Kind::Index => Ok(()),
            Some(kind) => Err(refuse(format!("\"{}\" is {}", fixed.name, kind.with_article()))),
            None if may_create && fixed.kind != Kind::Alias => Ok(()),
            None => Err(refuse(format!("there is no such {}", fixed.kind))),
        }
    }
}

impl Connection {
    /// How many documents there are in the indices of a pattern. `None`: this login may not know.
    ///
    /// # Errors
    /// The server refuses, or does not answer for half a minute.
    pub(super) async fn count(&self, pattern: &str) -> Result<Option<u64>> {
        let path = format!("{pattern}/_count");
        let query = [("ignore_unavailable", "true"), ("allow_no_indices", "true")];
        let attempted = format!("count documents of index \"{pattern}\"");
        let retries = Retries::new(CHECK_TIMEOUT, &WallClock, &RetryMetrics::unseen(), attempted.clone());
        let ask = || async {
            let answer = self.call(&Call::get(&path, &query)).await?;
            if answer.status == 404 { Ok(answer) } else { self.started(answer) }
        };
        let failed = |why| Error::config(format!("could not {attempted} at {}: {why}", self.place()));
        let answer = retries.run(ask).await.map_err(|trouble| failed(trouble.text))?;
        match answer.status {
            403 => Ok(None),
            404 => Ok(Some(0)),
            _ => {
                let counted: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                let count = counted.get("count").and_then(Value::as_u64);
                count.map(Some).ok_or_else(|| failed("the answer has no count".to_owned()))
            }
        }
    }
}

/// What is to be called.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) query: Vec<(&'a str, &'a str)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<bytes::Bytes>,
}

impl<'a> Call<'a> {
    pub(super) fn get(path: &'a str, query: &[(&'a str, &'a str)]) -> Self {
        Self { method: Method::GET, path, query: query.to_vec(), headers: HeaderMap::new(), body: None }
    }
}
