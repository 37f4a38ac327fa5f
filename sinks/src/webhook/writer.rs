//! Makes the calls.

use std::time::Instant;

use reqwest::Client;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde::Serialize;
use shardflow::retry::{Clock, WallClock};
use shardflow::sink::{BatchWriter, Batching, Refused, Trouble, Version, Written};
use shardflow::source::BoxFuture;

use super::IdOf;
use super::body::{Body, Item, key, signature};
use super::status;
use crate::http::{Address, Answer, Part, Pause, Scrubber, Secret, broken, in_parts};

/// The most that is read of an answer, in bytes. What is longer costs the connection.
const LONGEST_ANSWER: usize = 16 << 10;

/// Who is called, and how.
pub(super) struct Receiver {
    pub(super) client: Client,
    pub(super) address: Address,
    pub(super) basic: Option<(String, Secret)>,
    pub(super) signature: Option<(HeaderName, Secret)>,
    pub(super) key_header: HeaderName,
    pub(super) body: Body,
    pub(super) conflict_is_done: bool,
    pub(super) pause: Pause,
    pub(super) scrubber: Scrubber,
}

/// Writes one worker's batches. Made by [`Webhook`](super::Webhook).
pub(super) struct WebhookWriter<T> {
    receiver: Receiver,
    id: Option<IdOf<T>>,
    body_bytes: usize,
}

impl Receiver {
    /// One call.
    async fn send(&self, items: &[Item]) -> Part {
        self.pause.wait(&WallClock).await;
        let part = match self.call(items).await {
            Ok(answer) => {
                let asked = answer.retry_after(WallClock.wall_millis()).filter(|_| matches!(answer.status, 429 | 503));
                if let Some(time) = asked {
                    self.pause.ask(Instant::now(), time);
                }
                status::of_call(answer.status, &answer.body, &self.scrubber, items.len(), self.conflict_is_done)
            }
            Err(trouble) => Part::Failed(Trouble { text: self.scrubber.scrub(trouble.text), ..trouble }),
        };
        self.named(part)
    }

    async fn call(&self, items: &[Item]) -> Result<Answer, Trouble> {
        let body = self.body.of(items);
        let mut request = self.client.post(self.address.url().clone());
        request = request.header(CONTENT_TYPE, HeaderValue::from_static(self.body.content_type()));
        if let Some((user, password)) = &self.basic {
            request = request.basic_auth(user, Some(password.expose()));
        }
        if let Some(key) = key(items) {
            request = request.header(self.key_header.clone(), key);
        }
        if let Some((name, secret)) = &self.signature {
            request = request.header(name.clone(), signature(secret.expose(), &body));
        }
        let response = request.body(body).send().await.map_err(broken)?;
        Ok(Answer::read_what_comes(response, LONGEST_ANSWER).await)
    }

    /// Names the receiver. What it says is without our secrets by now; in its own name a part of the path may stand by chance.
    fn named(&self, part: Part) -> Part {
        let text = |text: String| format!("{}: {text}", self.address);
        match part {
            Part::Each(each) => Part::Each(each),
            Part::Refused(reason) => Part::Refused(text(reason)),
            Part::Failed(trouble) => Part::Failed(Trouble { text: text(trouble.text), ..trouble }),
        }
    }
}

impl<T> WebhookWriter<T> {
    pub(super) fn new(receiver: Receiver, id: Option<IdOf<T>>, body_bytes: usize) -> Self {
        Self { receiver, id, body_bytes }
    }
}

impl<T: Serialize + 'static> BatchWriter<T> for WebhookWriter<T> {
    type Entry = Item;

    fn limits(&self) -> Batching {
        Batching { records: self.receiver.body.records(), bytes: self.body_bytes }
    }

    fn entry(&self, record: &T, _version: Version) -> Result<Item, Refused> {
        Item::of(record, self.id.as_ref().map(|id| id(record)))
    }

    fn bytes(&self, item: &Item) -> usize {
        // With what stands between it and the next.
        item.json.len().saturating_add(1)
    }

    fn text(&self, item: &Item) -> String {
        item.text()
    }

    fn write<'a>(&'a self, items: &'a [Item]) -> BoxFuture<'a, Written> {
        Box::pin(in_parts(items, <[Item]>::len, |part| self.receiver.send(part)))
    }
}
