//! Sends batches as `_bulk` calls.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Method;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Serialize;
use shardflow::Outcome;
use shardflow::sink::{BatchWriter, Batching, EntryOutcome, Refused, Trouble, Version, Written};
use shardflow::source::BoxFuture;

use super::Settings;
use super::action::{Action, Shape};
use super::answer::{WANTED, of_call, of_items};
use super::connection::{Call, Connection};
use super::target::{Kind, Resolved};
use crate::http::{Part, in_parts};

/// Writes one worker's batches. Made by [`OpenSearch`](super::OpenSearch).
pub(super) struct BulkWriter<T> {
    connection: Connection,
    shape: Shape<T>,
    target: Resolved<T>,
    bulk: Batching,
    gzip: bool,
    pipeline: Option<String>,
    /// The most bytes of a call that the server is thought to take: less than is set where it has refused more.
    taken: AtomicUsize,
}

impl<T> BulkWriter<T> {
    pub(super) fn new(connection: Connection, settings: &Settings, shape: Shape<T>, target: Resolved<T>) -> Self {
        let Settings { bulk, gzip, pipeline, .. } = settings;
        let taken = AtomicUsize::new(usize::MAX);
        Self { connection, shape, target, bulk: *bulk, gzip: *gzip, pipeline: pipeline.clone(), taken }
    }

    /// How many of these go into the next call.
    fn first(&self, actions: &[Action]) -> usize {
        let most = self.taken.load(Ordering::Relaxed);
        let ends = actions.iter().scan(0_usize, |bytes, action| {
            *bytes = bytes.saturating_add(action.lines().len());
            Some(*bytes)
        });
        ends.take_while(|end| *end <= most).count()
    }

    /// One call.
    async fn send(&self, actions: &[Action]) -> Part {
        let bytes: usize = actions.iter().map(|action| action.lines().len()).sum();
        let mut body = Vec::with_capacity(bytes);
        actions.iter().for_each(|action| body.extend_from_slice(action.lines()));
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))]);
        if self.gzip {
            body = match compressed(body).await {
                Ok(body) => body,
                Err(trouble) => return Part::Failed(trouble),
            };
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let mut query = vec![("filter_path", WANTED)];
        query.extend(self.pipeline.as_deref().map(|pipeline| ("pipeline", pipeline)));
        if self.target.fixed().is_some_and(|fixed| fixed.kind == Kind::Alias) {
            query.push(("require_alias", "true"));
        }
        let call = Call { method: Method::POST, path: "_bulk", query, headers, body: Some(Bytes::from(body)) };
        let answer = match self.connection.call(&call).await {
            Ok(answer) => answer,
            Err(trouble) => return Part::Failed(trouble),
        };
        if answer.status == 413 && actions.len() > 1 {
            self.taken.fetch_min(bytes / 2, Ordering::Relaxed);
            tracing::debug!(bytes, "the server takes no call of this size; later ones are smaller");
        }
        let part = of_call(answer.status, &answer.body);
        let part = part.unwrap_or_else(|| of_items(actions, &answer.body, self.target.fixed().is_some()));
        self.scrubbed(part)
    }

    /// A server may say our login back to us.
    fn scrubbed(&self, part: Part) -> Part {
        let scrubbed = |text| self.connection.scrubbed(text);
        let trouble = |trouble: Trouble| Trouble { text: scrubbed(trouble.text), ..trouble };
        let outcome = |outcome| match outcome {
            EntryOutcome::Written => EntryOutcome::Written,
            EntryOutcome::Refused(reason) => EntryOutcome::Refused(scrubbed(reason)),
            EntryOutcome::Failed(failed) => EntryOutcome::Failed(trouble(failed)),
        };
        match part {
            Part::Each(each) => Part::Each(each.into_iter().map(outcome).collect()),
            Part::Refused(reason) => Part::Refused(scrubbed(reason)),
            Part::Failed(failed) => Part::Failed(trouble(failed)),
        }
    }
}

/// Compresses a body, beside the calls.
async fn compressed(body: Vec<u8>) -> Result<Vec<u8>, Trouble> {
    let compress = move || {
        let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
        encoder.write_all(&body)?;
        encoder.finish()
    };
    let failed = |why: String| Trouble {
        may_pass: None,
        outcome: Outcome::Determinate,
        text: format!("could not compress: {why}"),
    };
    match tokio::task::spawn_blocking(compress).await {
        Ok(compressed) => compressed.map_err(|error| failed(error.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}

impl<T: Serialize + 'static> BatchWriter<T> for BulkWriter<T> {
    type Entry = Action;

    fn limits(&self) -> Batching {
        self.bulk
    }

    fn entry(&self, record: &T, version: Version) -> Result<Action, Refused> {
        Action::of(record, version, &self.shape, &self.target)
    }

    fn bytes(&self, action: &Action) -> usize {
        action.lines().len()
    }

    fn text(&self, action: &Action) -> String {
        action.text()
    }

    fn write<'a>(&'a self, actions: &'a [Action]) -> BoxFuture<'a, Written> {
        Box::pin(in_parts(actions, |actions| self.first(actions), |part| self.send(part)))
    }
}
