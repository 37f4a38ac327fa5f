//! Sends each record to a URL by HTTP POST, at least once.
//!
//! *Enters*: records. *Leaves*: calls with JSON bodies, as records come, before their epoch is committed. *Survives a crash*:
//! what the receiver has taken. A replay sends again what may not have arrived, so a receiver sees some records twice.
//!
//! # How a receiver tells repeats
//! With [`id`](Webhook::id) each call carries an idempotency key. Of a call with one record it is the record's id, which a
//! replay after a crash repeats: a receiver that remembers keys sees each record once. Of a call with several it is a hash of
//! their ids: it is the same when this very call is made again, but after a crash batches are cut elsewhere and have other
//! keys, so such a receiver must look at the records' own ids.
//!
//! # Failures
//! | the receiver says | then |
//! |---|---|
//! | 2xx | done |
//! | 408, 425, 429, 5xx, nothing | sent again; not before `Retry-After`, as far as [`longest_pause`](Webhook::longest_pause) |
//! | 409 | refused, or done with [`conflict_is_done`](Webhook::conflict_is_done) |
//! | 401, 407 | the job stops: the login is wrong, not a record |
//! | 3xx | the job stops: a redirect is not followed |
//! | any other 4xx | refused; of a call with several records the halves are tried apart, so that only the one at fault stays refused |
//!
//! 429 is waited out for as long as it lasts, all else for [`give_up_after`](Webhook::give_up_after).
//! What a receiver answers is read up to 16 KiB and trusted in nothing; its beginning is told with a refusal. A URL's path and query
//! may be its secret, so errors, the log and the rejected output name scheme, host and port alone. Where a receiver says back what
//! it was called with, as many do that know no such path, it reads `[secret]` in place of logins, keys, path and query, and of their
//! parts of 4 bytes or more.

mod body;
mod status;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use shardflow::sink::{Committer, Destination, Refused, Sink, SinkContext, SinkWriter};
use shardflow::source::BoxFuture;
use shardflow::{Error, Result};

use crate::delivery::{Delivery, delivery_settings};
use crate::http::{Address, HttpSettings, Pause, Scrubber, Secret, header_value};
use body::Body;
use writer::{Receiver, WebhookWriter};

/// Sends each record to `url` as JSON, one a call.
///
/// # Examples
/// ```
/// use serde::Serialize;
/// use shardflow_sinks::{files, webhook};
///
/// #[derive(Serialize)]
/// struct Alert {
///     id: String,
///     text: String,
/// }
///
/// let alerts = webhook("https://hooks.example/T000/B000")
///     .id(|alert: &Alert| alert.id.clone())
///     .hmac_sha256("X-Signature", "a-key")
///     .concurrency(8)
///     .rejected_to(files("refused"));
/// let shown = format!("{alerts:?}");
/// assert!(shown.contains("https://hooks.example") && !shown.contains("T000") && !shown.contains("a-key"));
/// ```
pub fn webhook<T>(url: impl Into<String>) -> Webhook<T> {
    Webhook {
        settings: Settings {
            url: url.into(),
            headers: Vec::new(),
            signature: None,
            key_header: "Idempotency-Key".to_owned(),
            http: HttpSettings { call: Duration::from_secs(30), ..HttpSettings::default() },
            body: Body::One,
            body_bytes: 1 << 20,
            conflict_is_done: false,
            longest_pause: Duration::from_secs(60),
        },
        id: None,
        delivery: Delivery::default(),
    }
}

/// Calls of a URL. Made by [`webhook()`].
pub struct Webhook<T> {
    settings: Settings,
    id: Option<IdOf<T>>,
    delivery: Delivery,
}

type IdOf<T> = Arc<dyn Fn(&T) -> String + Send + Sync>;

/// A header that is sent with every call.
#[derive(Clone)]
enum Header {
    Shown(String, String),
    Secret(String, Secret),
}

/// What is set but the closure.
#[derive(Clone)]
struct Settings {
    url: String,
    headers: Vec<Header>,
    signature: Option<(String, Secret)>,
    key_header: String,
    http: HttpSettings,
    body: Body,
    body_bytes: usize,
    conflict_is_done: bool,
    longest_pause: Duration,
}

impl<T> Webhook<T> {
    /// What tells a record from all others, also when a replay gives it again: the call's idempotency key is made of it. Without
    /// it calls carry none.
    #[must_use]
    pub fn id(mut self, id: impl Fn(&T) -> String + Send + Sync + 'static) -> Self {
        self.id = Some(Arc::new(id));
        self
    }

    /// The header that carries the idempotency key; `Idempotency-Key` by default.
    #[must_use]
    pub fn idempotency_header(mut self, name: impl Into<String>) -> Self {
        self.settings.key_header = name.into();
        self
    }

    /// Sends up to so many records a call, as a JSON array.
    #[must_use]
    pub fn json_array(mut self, records: usize) -> Self {
        self.settings.body = Body::Array(records.max(1));
        self
    }

    /// Sends up to so many records a call, a line of JSON each (`application/x-ndjson`).
    #[must_use]
    pub fn ndjson(mut self, records: usize) -> Self {
        self.settings.body = Body::Lines(records.max(1));
        self
    }

    /// The most bytes of a body; 1 MiB by default. A larger record goes alone.
    #[must_use]
    pub fn body_bytes(mut self, bytes: usize) -> Self {
        self.settings.body_bytes = bytes;
        self
    }

    /// Sends this header with every call.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.headers.push(Header::Shown(name.into(), value.into()));
        self
    }

    /// Sends this header with every call, and never shows its value: `secret_header("Authorization", "Bearer …")`.
    #[must_use]
    pub fn secret_header(mut self, name: impl Into<String>, value: impl AsRef<str>) -> Self {
        self.settings.headers.push(Header::Secret(name.into(), Secret::new(value)));
        self
    }

    /// Signs every body: this header carries `sha256=` and, in hexadecimal, the HMAC-SHA256 of the body's bytes under `key`.
    /// A receiver computes the same over what it got, and compares in constant time.
    #[must_use]
    pub fn hmac_sha256(mut self, header: impl Into<String>, key: impl AsRef<str>) -> Self {
        self.settings.signature = Some((header.into(), Secret::new(key)));
        self
    }

    /// Takes 409 for "this is here already", as receivers say who remember idempotency keys. By default it is a refusal.
    #[must_use]
    pub fn conflict_is_done(mut self) -> Self {
        self.settings.conflict_is_done = true;
        self
    }

    /// The longest that a receiver's `Retry-After` is honoured at a time; 60 s by default.
    #[must_use]
    pub fn longest_pause(mut self, time: Duration) -> Self {
        self.settings.longest_pause = time;
        self
    }

    delivery_settings!();

    /// The longest that one call may take; 30 s by default.
    #[must_use]
    pub fn call_timeout(mut self, time: Duration) -> Self {
        self.settings.http.call = time;
        self
    }

    /// The longest that connecting may take; 10 s by default.
    #[must_use]
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.settings.http.connect = time;
        self
    }

    /// Trusts these certificates (PEM, one or several) beside those of the system.
    #[must_use]
    pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.settings.http.roots.push(pem.into());
        self
    }
}

impl Settings {
    /// The URL as it may be shown: of some, the path is all that it takes to write there.
    fn shown(&self) -> String {
        Address::parse(&self.url).map_or_else(|_| "no URL".to_owned(), |address| address.to_string())
    }

    /// Checks everything that can be checked without calling: there is no call that does nothing.
    fn receiver(&self) -> Result<Receiver> {
        let refuse = |why: String| Error::config(format!("could not use the URL of a webhook: {why}"));
        let address = Address::parse(&self.url).map_err(refuse)?;
        let (mut headers, mut scrubber) = (HeaderMap::new(), Scrubber::default());
        for header in &self.headers {
            let (name, value, secret) = match header {
                Header::Shown(name, value) => (name, HeaderValue::from_str(value).map_err(|_| bad_value(name))?, None),
                Header::Secret(name, secret) => {
                    (name, header_value(&format!("header \"{name}\""), secret.expose())?, Some(secret))
                }
            };
            headers.append(header_name(name)?, value);
            if let Some(secret) = secret {
                scrubber.add(secret.clone());
                // A receiver may repeat the token without its scheme.
                secret.expose().split_once(' ').into_iter().for_each(|(_, token)| scrubber.add(Secret::new(token)));
            }
        }
        let basic = address.credentials().map(|(user, password)| (user.clone(), password.clone()));
        if let Some((user, password)) = &basic {
            if headers.contains_key(AUTHORIZATION) {
                return Err(refuse("it has a login, and so has the header \"Authorization\"".to_owned()));
            }
            scrubber.add(password.clone());
            scrubber.add(Secret::new(BASE64_STANDARD.encode(format!("{user}:{}", password.expose()))));
        }
        address.hidden().into_iter().for_each(|secret| scrubber.add(secret));
        let is_login = !headers.is_empty() || basic.is_some();
        if is_login && address.is_open_to_all() {
            tracing::warn!(%address, "a webhook's headers are sent without TLS, and can be read on the way");
        }
        let signature = match &self.signature {
            Some((name, key)) => {
                scrubber.add(key.clone());
                Some((header_name(name)?, key.clone()))
            }
            None => None,
        };
        Ok(Receiver {
            client: self.http.client(headers)?,
            address,
            basic,
            signature,
            key_header: header_name(&self.key_header)?,
            body: self.body,
            conflict_is_done: self.conflict_is_done,
            pause: Pause::new(self.longest_pause),
            scrubber,
        })
    }
}

fn header_name(name: &str) -> Result<HeaderName> {
    name.parse().map_err(|_| Error::config(format!("could not use {name:?}: it is no name of an HTTP header")))
}

fn bad_value(name: &str) -> Error {
    Error::config(format!("could not use header \"{name}\": its value holds characters that no HTTP header may have"))
}

impl<T> Clone for Webhook<T> {
    fn clone(&self) -> Self {
        Self { settings: self.settings.clone(), id: self.id.clone(), delivery: self.delivery.clone() }
    }
}

impl<T> fmt::Debug for Webhook<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { headers, signature, body, body_bytes, .. } = &self.settings;
        f.debug_struct("Webhook")
            .field("at", &self.settings.shown())
            .field("headers", headers)
            .field("is_signed", &signature.is_some())
            .field("body", body)
            .field("body_bytes", body_bytes)
            .field("has_ids", &self.id.is_some())
            .field("delivery", &self.delivery)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shown(name, value) => write!(f, "{name}: {value}"),
            Self::Secret(name, secret) => write!(f, "{name}: {secret:?}"),
        }
    }
}

/// Opens a worker's writer.
struct Opens<T>(Webhook<T>);

impl<T: Serialize + 'static> Destination<T> for Opens<T> {
    type Writer = WebhookWriter<T>;

    fn open<'a>(&'a self, _context: &'a SinkContext) -> BoxFuture<'a, Result<WebhookWriter<T>>> {
        let Webhook { settings, id, .. } = &self.0;
        let receiver = settings.receiver();
        let opened = receiver.map(|receiver| WebhookWriter::new(receiver, id.clone(), settings.body_bytes));
        Box::pin(std::future::ready(opened))
    }

    fn describe(&self) -> String {
        format!("calls of {}", self.0.settings.shown())
    }
}

impl<T: Serialize + 'static> Sink<T> for Webhook<T> {
    fn committer(&self, context: &SinkContext) -> Result<Box<dyn Committer>> {
        self.delivery.of(Opens(self.clone())).committer(context)
    }

    fn writer(&self, context: &SinkContext, worker: usize) -> Result<Box<dyn SinkWriter<T>>> {
        self.delivery.of(Opens(self.clone())).writer(context, worker)
    }

    fn describe(&self) -> String {
        self.delivery.of(Opens(self.clone())).describe()
    }
}
