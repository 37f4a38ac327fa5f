//! Writes each record as a document of an OpenSearch or Elasticsearch index, under an id of its own: at least once, which the
//! id makes once.
//!
//! *Enters*: records. *Leaves*: documents, by the `_bulk` call, as they come: a reader of the index sees them before their epoch
//! is committed. *Survives a crash*: every document that was written. A replay writes again what may be missing, and what is
//! there already is not there twice, since it has the same id.
//!
//! # What makes it exact
//! A document carries an external version, and the server replaces it by a higher version only. A write that comes too late
//! (HTTP 409) has nothing more to do, so it counts as done. Where nothing is set, the version is the engine's
//! [`Version`]: the number of the job's start, then how many records the writer had taken. So the
//! index ends with what the latest start wrote last, whatever the order of calls, of replays, and of other processes that
//! were taken for dead and still write; such a process stops when it meets a document of a later start. For that the stream
//! must be keyed by what the id is made of, so that all records of an id come to one worker. A version of the server's is a number of
//! 63 bits, in which there is room for 1,048,575 starts; the job says so and does not start again after that.
//!
//! Starts are counted by the job's state. Where that is emptied they begin at 1 again, and older documents with higher
//! versions would hide newer ones. So a job whose state is new begins only on indices without documents (unless
//! [`may_have_documents`](OpenSearch::may_have_documents); with [`index_of`](OpenSearch::index_of) it is not known where to
//! look), and stops where it meets a document of a later start.
//!
//! With [`version`](OpenSearch::version) the version is one of the record's own: right where several jobs write one index, and
//! where a job shall begin anew with an empty state. A version of the user's must follow from the record alone, not from the time or from a counter of this process, or a replay gives another.
//! An index that was written with the engine's versions, which are large, ignores smaller ones of the user's.
//!
//! In a [`data_stream`](OpenSearch::data_stream), and with [`create_only`](OpenSearch::create_only), there are no versions: what is
//! there stays.
//!
//! # What it does not promise
//! * A deletion is remembered by the server for `index.gc_deletes`, 60 s by default, together with its version. An older
//!   document that a replay, or a process thought dead, writes later than that is a new document to the server. Where that may
//!   be, write documents that say that they are deleted, or raise the setting.
//! * An alias or data stream that rolls over begins a new index, which does not know the ids of the one before: what a replay
//!   writes again after a rollover is there twice. [`index_by_time`](OpenSearch::index_by_time) has no such seam.
//! * Searches see a document after the index's next refresh, 1 s by default.
//!
//! # Failures
//! | the server says | then |
//! |---|---|
//! | 429, `es_rejected_execution_exception`, a breaker | written again, for as long as it lasts |
//! | 5xx, a block of the index (a full disk), no answer | written again, for [`give_up_after`](OpenSearch::give_up_after) |
//! | 413 | the batch is halved, and later batches are smaller |
//! | 401, 403, no such endpoint, no such ingest pipeline | the job stops |
//! | 409, a version conflict | done; where it is with a later start of the job, the job stops |
//! | any other 4xx of one document | refused, with the server's reason; the others are none the worse |
//!
//! Several nodes are called in turn; one that fails is left out for a while. A key or password shows nowhere.
//!
//! # What it was run against
//! A stand-in on loopback that is as strict as the servers' documentation and source, and that the products' own Python
//! clients find faithful; never against OpenSearch or Elasticsearch themselves. It shows what is sent, what each documented
//! answer leads to, and that an index with external versions ends exactly as it should, through crashes and faults. It cannot
//! show what a server does that its documentation does not say: how a real cluster behaves while a node leaves, a primary
//! moves or a queue is full, which errors plugins and managed services have of their own, and how fast it is.

mod action;
mod answer;
mod beginning;
mod connection;
mod name;
mod nodes;
mod pipeline;
mod product;
mod target;
mod template;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use shardflow::sink::{Batching, Committer, Destination, Refused, Sink, SinkContext, SinkWriter, Version};
use shardflow::source::BoxFuture;
use shardflow::{Error, EventTime, Result};

use crate::delivery::{Delivery, delivery_settings};
use crate::http::{HttpSettings, Secret};
use action::{Shape, Versions};
use connection::Connection;
use target::Target;
use writer::BulkWriter;

/// Writes records to an index of OpenSearch, or of Elasticsearch from 7.10 on, as documents with the ids that `id` gives.
///
/// `nodes` are URLs, `https://search-1:9200`, of one cluster. What the documents hold is the record's JSON, an object.
///
/// # Examples
/// ```
/// use serde::Serialize;
/// use shardflow_sinks::{files, opensearch};
///
/// #[derive(Serialize)]
/// struct Total {
///     account: String,
///     hour: u64,
///     units: u64,
/// }
///
/// let totals = opensearch(["https://search-1:9200", "https://search-2:9200"], |total: &Total| format!("{}/{}", total.account, total.hour))
///     .index("totals")
///     .api_key("a-key")
///     .rejected_to(files("refused"));
/// assert!(!format!("{totals:?}").contains("a-key"));
/// ```
pub fn opensearch<T>(
    nodes: impl IntoIterator<Item = impl Into<String>>,
    id: impl Fn(&T) -> String + Send + Sync + 'static,
) -> OpenSearch<T> {
    OpenSearch {
        settings: Settings {
            nodes: nodes.into_iter().map(Into::into).collect(),
            login: None,
            http: HttpSettings::default(),
            bulk: Batching { records: 5_000, bytes: 5 << 20 },
            gzip: false,
            pipeline: None,
            may_create_index: false,
            may_have_documents: false,
            start_within: Duration::from_secs(60),
        },
        shape: Shape::new(id),
        target: None,
        delivery: Delivery::default(),
    }
}

/// Documents of a search index. Made by [`opensearch()`].
pub struct OpenSearch<T> {
    settings: Settings,
    shape: Shape<T>,
    target: Option<Target<T>>,
    delivery: Delivery,
}

/// Says who we are.
#[derive(Clone, Debug)]
enum Login {
    Basic { user: String, password: Secret },
    ApiKey(Secret),
}

/// What is set but the closures.
#[derive(Clone)]
struct Settings {
    nodes: Vec<String>,
    login: Option<Login>,
    http: HttpSettings,
    bulk: Batching,
    gzip: bool,
    pipeline: Option<String>,
    may_create_index: bool,
    may_have_documents: bool,
    start_within: Duration,
}

impl Settings {
    /// The nodes as they may be shown.
    fn shown(&self) -> Vec<String> {
        self.nodes.iter().map(|node| connection::shown(node)).collect()
    }
}

impl<T> OpenSearch<T> {
    /// Writes to this index. It must be there, with its mapping, unless [`may_create_index`](Self::may_create_index).
    #[must_use]
    pub fn index(mut self, name: impl Into<String>) -> Self {
        self.target = Some(Target::Index(name.into()));
        self
    }

    /// Writes to the index that this alias leads to. Where the alias is taken away, nothing is written, and no index of its
    /// name is made.
    #[must_use]
    pub fn alias(mut self, name: impl Into<String>) -> Self {
        self.target = Some(Target::Alias(name.into()));
        self
    }

    /// Appends to this data stream, whose documents need a field `@timestamp`. A document that is there already stays.
    #[must_use]
    pub fn data_stream(mut self, name: impl Into<String>) -> Self {
        self.target = Some(Target::DataStream(name.into()));
        self
    }

    /// Writes each record to the index of its time, in UTC: `usage-{yyyy.MM.dd}`, with `yyyy`, `MM`, `dd` and `HH` between
    /// braces. The time must be one of the record's, so that a replay gives the same index.
    #[must_use]
    pub fn index_by_time(
        mut self,
        template: impl Into<String>,
        time: impl Fn(&T) -> EventTime + Send + Sync + 'static,
    ) -> Self {
        self.target = Some(Target::ByTime(template.into(), Arc::new(time)));
        self
    }

    /// Writes each record to the index that `index` names. A record whose name no index can have is refused.
    #[must_use]
    pub fn index_of(mut self, index: impl Fn(&T) -> String + Send + Sync + 'static) -> Self {
        self.target = Some(Target::Chosen(Arc::new(index)));
        self
    }

    /// The document's version in place of the engine's: it grows each time its id is written again, and is at most 2^63 − 1. An
    /// older or equal one has nothing to do (`version_type=external`).
    #[must_use]
    pub fn version(mut self, version: impl Fn(&T) -> u64 + Send + Sync + 'static) -> Self {
        self.shape.versions = Versions::External(Arc::new(version));
        self
    }

    /// As [`version`](Self::version), but an equal one replaces the document (`version_type=external_gte`): a replay that
    /// gives another document under the same version, after the program was changed, wins.
    #[must_use]
    pub fn version_or_equal(mut self, version: impl Fn(&T) -> u64 + Send + Sync + 'static) -> Self {
        self.shape.versions = Versions::ExternalOrEqual(Arc::new(version));
        self
    }

    /// Deletes the document of a record for which this is true, in place of writing it. Read in this module's door how long a
    /// deletion is remembered.
    #[must_use]
    pub fn delete_if(mut self, is_deleted: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        self.shape.deleted = Some(Arc::new(is_deleted));
        self
    }

    /// Writes only what is not there yet; what is stays. Not together with a version of the user's: the server allows one or the
    /// other.
    #[must_use]
    pub fn create_only(mut self) -> Self {
        self.shape.creates = true;
        self
    }

    /// Lets the server make the index, with the mapping that its templates give, where there is none. Without this a job whose
    /// fixed index is missing does not start: what is guessed for a mapping cannot be changed.
    #[must_use]
    pub fn may_create_index(mut self) -> Self {
        self.settings.may_create_index = true;
        self
    }

    /// Lets a job whose state is new begin where there are documents already. Only for documents of other programs: those of an
    /// earlier state of this job may hide what it writes. With versions of the records' own nothing is looked at.
    #[must_use]
    pub fn may_have_documents(mut self) -> Self {
        self.settings.may_have_documents = true;
        self
    }

    /// Sends every document through this ingest pipeline of the server. It must be there when the job starts, and where it is
    /// taken away later the job stops. A login that may not see pipelines (`GET _ingest/pipeline`) starts with a warning.
    #[must_use]
    pub fn pipeline(mut self, name: impl Into<String>) -> Self {
        self.settings.pipeline = Some(name.into());
        self
    }

    /// Logs in with a user and a password. They may as well stand in the nodes' URLs.
    #[must_use]
    pub fn basic_auth(mut self, user: impl Into<String>, password: impl AsRef<str>) -> Self {
        self.settings.login = Some(Login::Basic { user: user.into(), password: Secret::new(password) });
        self
    }

    /// Logs in with an API key, in the encoded form: the Base64 of its id, a colon and the key.
    #[must_use]
    pub fn api_key(mut self, encoded: impl AsRef<str>) -> Self {
        self.settings.login = Some(Login::ApiKey(Secret::new(encoded)));
        self
    }

    /// Logs in with an API key in two parts.
    #[must_use]
    pub fn api_key_parts(self, id: &str, key: &str) -> Self {
        self.api_key(BASE64_STANDARD.encode(format!("{id}:{key}")))
    }

    /// Trusts these certificates (PEM, one or several) beside those of the system: for a cluster with a CA of its own.
    #[must_use]
    pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.settings.http.roots.push(pem.into());
        self
    }

    /// Compresses what is sent. Less to send, more to compute; off by default.
    #[must_use]
    pub fn gzip(mut self) -> Self {
        self.settings.gzip = true;
        self
    }

    /// The most bytes of one `_bulk` call, before compression; 5 MiB by default. The server's own limit
    /// (`http.max_content_length`, 100 MiB by default) is found out where it is lower.
    #[must_use]
    pub fn bulk_bytes(mut self, bytes: usize) -> Self {
        self.settings.bulk.bytes = bytes;
        self
    }

    /// The most documents of one `_bulk` call, at least 1; 5,000 by default.
    #[must_use]
    pub fn bulk_documents(mut self, documents: usize) -> Self {
        self.settings.bulk.records = documents.max(1);
        self
    }

    /// The longest that one call may take; 60 s by default.
    #[must_use]
    pub fn call_timeout(mut self, time: Duration) -> Self {
        self.settings.http.call = time;
        self
    }

    /// The longest that connecting to a node may take; 10 s by default.
    #[must_use]
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.settings.http.connect = time;
        self
    }

    delivery_settings!();

    /// How long to wait at the start for a node that answers; 60 s by default.
    #[must_use]
    pub fn start_within(mut self, time: Duration) -> Self {
        self.settings.start_within = time;
        self
    }
}

impl<T> Clone for OpenSearch<T> {
    fn clone(&self) -> Self {
        let Self { settings, shape, target, delivery } = self;
        Self { settings: settings.clone(), shape: shape.clone(), target: target.clone(), delivery: delivery.clone() }
    }
}

impl<T> fmt::Debug for OpenSearch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { bulk, gzip, login, .. } = &self.settings;
        f.debug_struct("OpenSearch")
            .field("nodes", &self.settings.shown())
            .field("target", &self.target)
            .field("bulk", bulk)
            .field("gzip", gzip)
            .field("logs_in", &login.is_some())
            .field("delivery", &self.delivery)
            .finish_non_exhaustive()
    }
}

/// Opens a writer; the first of a start looks whether the job may begin there.
struct Opens<T> {
    sink: OpenSearch<T>,
    is_first: bool,
}

impl<T: Serialize + 'static> Destination<T> for Opens<T> {
    type Writer = BulkWriter<T>;

    fn open<'a>(&'a self, context: &'a SinkContext) -> BoxFuture<'a, Result<BulkWriter<T>>> {
        let OpenSearch { settings, shape, target, .. } = &self.sink;
        Box::pin(async move {
            let target = target::Resolved::of(target.as_ref(), shape)?;
            let connection = Connection::open(settings, target.fixed()).await?;
            if let Some(name) = &settings.pipeline {
                pipeline::check(&connection, name).await?;
            }
            let counts_starts = !shape.has_own_versions() && !shape.creates && !target.is_stream();
            if counts_starts && context.incarnation.number() > Version::LAST_START {
                return Err(Error::config(format!(
                    "could not give documents versions: this is start {} of the job, and a version of OpenSearch's has room for                      {}; give them versions of their own (version), or begin with an empty state and new indices",
                    context.incarnation,
                    Version::LAST_START
                )));
            }
            if let Some(pattern) = target.pattern()
                && self.is_first
                && counts_starts
                && !settings.may_have_documents
            {
                beginning::begin(&connection, &context.folder, &pattern).await?;
            }
            Ok(BulkWriter::new(connection, settings, shape.clone(), target))
        })
    }

    fn describe(&self) -> String {
        let OpenSearch { settings, target, .. } = &self.sink;
        let target = target.as_ref().map_or_else(|| "no index".to_owned(), ToString::to_string);
        format!("{target} at {}", settings.shown().join(", "))
    }
}

impl<T: Serialize + 'static> Sink<T> for OpenSearch<T> {
    fn committer(&self, context: &SinkContext) -> Result<Box<dyn Committer>> {
        self.delivery.of(Opens { sink: self.clone(), is_first: true }).committer(context)
    }

    fn writer(&self, context: &SinkContext, worker: usize) -> Result<Box<dyn SinkWriter<T>>> {
        self.delivery.of(Opens { sink: self.clone(), is_first: false }).writer(context, worker)
    }

    fn describe(&self) -> String {
        self.delivery.of(Opens { sink: self.clone(), is_first: false }).describe()
    }
}
