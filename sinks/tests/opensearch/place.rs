//! What the tests share: a cluster to write to, documents, and a job of one sink.

use serde::{Deserialize, Serialize};
use serde_json::json;
use shardflow::sink::{Refused, SinkContext};
use shardflow::testing::Collected;
use shardflow::testing::sink::{Driver, Promise};
use shardflow::vocabulary::Incarnation;
use shardflow_sinks::{OpenSearch, opensearch};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use shardflow_stand_ins::search::{Nature, Refusal, SearchStub};

/// What is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Doc {
    pub(crate) n: u64,
    pub(crate) text: String,
}

pub(crate) fn doc(n: u64) -> Doc {
    Doc { n, text: format!("number {n}") }
}

/// A node, with an index `results` in which `n` is a number.
pub(crate) struct Place {
    pub(crate) stub: SearchStub,
    pub(crate) io: Runtime,
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::of(Nature::default())
    }

    pub(crate) fn of(nature: Nature) -> Self {
        let io = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let stub = io.block_on(SearchStub::start(nature));
        stub.cluster().create("results", &json!({"properties": {"n": {"type": "long"}, "text": {"type": "keyword"}}}));
        Self { stub, io, folder: tempfile::tempdir().unwrap() }
    }

    /// Documents by their number, into `results`.
    pub(crate) fn documents(&self) -> OpenSearch<Doc> {
        documents(self.stub.endpoint())
    }

    /// The numbers in the index.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.stub.cluster().documents("results").values().map(|(_, doc)| doc["n"].as_u64().unwrap()).collect()
    }

    /// A job whose only sink is this one.
    pub(crate) fn job(&self, sink: OpenSearch<Doc>) -> Driver<'_, Doc> {
        Driver::new(Promise::AtLeastOnce, Box::new(sink), doc, || self.numbers())
    }

    pub(crate) fn context(&self) -> SinkContext {
        SinkContext { folder: self.folder.path().join("results"), ..context(&self.io) }
    }
}

pub(crate) fn documents(endpoint: &str) -> OpenSearch<Doc> {
    opensearch([endpoint], |doc: &Doc| format!("doc/{}", doc.n)).index("results")
}

/// The sink, with where it puts what is refused.
pub(crate) fn with_refused(documents: OpenSearch<Doc>) -> (OpenSearch<Doc>, Collected<Refused>) {
    let refused = Collected::new();
    (documents.rejected_to(refused.clone()), refused)
}

pub(crate) fn context(io: &Runtime) -> SinkContext {
    SinkContext {
        job: "job".to_owned(),
        step: "results".into(),
        incarnation: Incarnation::new(1),
        committed: None,
        workers: 1,
        folder: std::env::temp_dir(),
        runtime: io.handle().clone(),
    }
}

/// What a full queue is refused with.
pub(crate) fn rejection() -> Refusal {
    Refusal::new(429, "es_rejected_execution_exception", "rejected execution of coordinating operation")
}
