//! What a job leaves on its disk: its state folder and its rejected output, after runs that worked and runs that did not.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use shardflow::sink::{Committer, Refused, Sink, SinkContext, SinkWriter, at_least_once};
use shardflow::testing::{Collected, Feed};
use shardflow::{Job, Result, json as as_json};
use shardflow_sinks::{dynamodb, files, kinesis, opensearch, webhook};
use shardflow_stand_ins::hook::{Got, Hook, status};
use shardflow_stand_ins::search::{Fault, Nature, Refusal, SearchStub};
use tempfile::TempDir;

use crate::amazon::{config, operation, refuses, works};
use crate::{Doc, LOG, assert_none_logged, assert_none_of, doc, runtime};

/// The job's name: it lies in the state, also of a job that has committed nothing, so that a search that finds it can find what is
/// beside it.
const JOB: &str = "job-of-the-test";

/// The name of the only split, which lies in the state once something is committed.
const SPLIT: &str = "split-of-the-test";

type Shared = Arc<dyn Sink<Doc>>;

/// A sink as a program can give it each time that it is run: not all can be copied.
struct Given(Shared);

impl Sink<Doc> for Given {
    fn committer(&self, context: &SinkContext) -> Result<Box<dyn Committer>> {
        self.0.committer(context)
    }

    fn writer(&self, context: &SinkContext, worker: usize) -> Result<Box<dyn SinkWriter<Doc>>> {
        self.0.writer(context, worker)
    }
}

/// Where a job has its state and its rejected output.
struct Disk(TempDir);

impl Disk {
    fn new() -> Self {
        // From the first line on.
        let _ = LOG.text();
        Self(tempfile::tempdir().unwrap())
    }

    fn rejected(&self) -> impl Sink<Refused> + use<> {
        files(self.0.path().join("rejected"))
    }

    /// Runs a job over some documents into this sink. Gives what its error tells.
    fn run(&self, sink: impl Sink<Doc>) -> String {
        let sink: Shared = Arc::new(sink);
        let feed = Feed::new();
        for n in 0..20 {
            feed.push(SPLIT, serde_json::to_vec(&doc(n)).unwrap());
        }
        feed.close();
        let ran = Job::named(JOB).workers(1).state(self.0.path().join("state")).run(move |flow| {
            let (docs, broken) = flow.source("docs", feed.clone()).decode(as_json::<Doc>());
            broken.sink("broken", Collected::new());
            docs.sink("written", Given(Arc::clone(&sink)));
        });
        ran.err().map(|error| format!("{error} {error:?}")).unwrap_or_default()
    }

    /// Fails where one of these lies in a file.
    fn assert_none_of(&self, has_committed: bool, secrets: &[&str]) {
        let files = below(self.0.path());
        let bytes: Vec<(PathBuf, Vec<u8>)> =
            files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
        let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        let is_found = |text| bytes.iter().any(|(_, bytes)| holds(bytes, text));
        assert!(is_found(JOB), "the state was not found");
        // What a sink hands over for a commit lies beside it.
        assert!(!has_committed || is_found(SPLIT), "nothing was committed");
        for secret in secrets {
            let found: Vec<&PathBuf> =
                bytes.iter().filter(|(_, bytes)| holds(bytes, secret)).map(|(path, _)| path).collect();
            assert!(found.is_empty(), "{secret} lies in {found:?}");
        }
    }
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
}

#[test]
fn the_credentials_of_a_stream_lie_nowhere() {
    let keys = ["AKIASTATEKINESIS", "hunter2-state-kinesis-key", "hunter2-state-kinesis-token"];
    let (disk, io) = (Disk::new(), runtime());
    let hook = io.block_on(Hook::start());
    let sink = |disk: &Disk| {
        kinesis("usage")
            .partition_key(|doc: &Doc| if doc.id == "doc-7" { String::new() } else { doc.id.clone() })
            .sdk_config(config(hook.endpoint(), keys))
            .give_up_after(Duration::ZERO)
            .rejected_to(disk.rejected())
    };
    hook.answers(works);
    assert_eq!(disk.run(sink(&disk)), "");
    disk.assert_none_of(true, &keys);
    let disk = Disk::new();
    hook.answers(|got| {
        if operation(got) == "PutRecords" { refuses(400, "InvalidSignatureException", got) } else { works(got) }
    });
    let told = disk.run(sink(&disk));
    assert!(told.contains("InvalidSignatureException"), "{told}");
    assert_none_of(&keys, &told);
    disk.assert_none_of(false, &keys);
    assert_none_logged(&keys[1..]);
}

#[test]
fn the_credentials_of_a_table_lie_nowhere() {
    let keys = ["AKIASTATEDYNAMODB", "hunter2-state-dynamodb-key", "hunter2-state-dynamodb-token"];
    let (disk, io) = (Disk::new(), runtime());
    let hook = io.block_on(Hook::start());
    let sink = |disk: &Disk| {
        let newest = dynamodb("charges").key("id").sdk_config(config(hook.endpoint(), keys));
        let newest = newest.newest_by("version", |_: &Doc| 1_u64);
        at_least_once(newest).give_up_after(Duration::ZERO).rejected_to(disk.rejected())
    };
    // One is refused, and all that was sent is said back with the reason.
    hook.answers(|got| match operation(got) {
        "PutItem" if String::from_utf8_lossy(&got.body).contains("doc-7\"") => refuses(400, "ValidationException", got),
        _ => works(got),
    });
    assert_eq!(disk.run(sink(&disk)), "");
    disk.assert_none_of(true, &keys);
    let disk = Disk::new();
    hook.answers(
        |got| if operation(got) == "PutItem" { refuses(400, "InvalidSignatureException", got) } else { works(got) },
    );
    let told = disk.run(sink(&disk));
    assert!(told.contains("InvalidSignatureException"), "{told}");
    assert_none_of(&keys, &told);
    disk.assert_none_of(false, &keys);
    assert_none_logged(&keys[1..]);
}

#[test]
fn the_login_of_a_search_index_lies_nowhere() {
    let (disk, io) = (Disk::new(), runtime());
    let password = "hunter2-state-search";
    let encoded = BASE64_STANDARD.encode(format!("elastic:{password}"));
    let accepts = vec![format!("Basic {encoded}")];
    let stub = io.block_on(SearchStub::start(Nature { accepts, ..Nature::default() }));
    stub.cluster().create("results", &json!({"properties": {"id": {"type": "keyword"}}}));
    let sink = |disk: &Disk| {
        opensearch([stub.endpoint()], |doc: &Doc| doc.id.clone())
            .index("results")
            .basic_auth("elastic", password)
            .may_have_documents()
            .give_up_after(Duration::ZERO)
            .rejected_to(disk.rejected())
    };
    let secrets = [password, encoded.as_str()];
    let reason = format!("no such thing for [{password}] [Basic {encoded}]");
    let refused = Refusal::new(400, "mapper_parsing_exception", reason.clone());
    stub.inject(move |_| {
        let refused = refused.clone();
        Fault::Items(Arc::new(move |id: &str| (id == "doc-7").then(|| refused.clone())))
    });
    assert_eq!(disk.run(sink(&disk)), "");
    disk.assert_none_of(true, &secrets);
    let disk = Disk::new();
    stub.inject(move |_| Fault::Refuse(Refusal::new(401, "security_exception", reason.clone()), None));
    let told = disk.run(sink(&disk));
    assert!(told.contains("[secret]"), "{told}");
    assert_none_of(&secrets, &told);
    disk.assert_none_of(false, &secrets);
    assert_none_logged(&secrets);
}

#[test]
fn the_secrets_of_a_webhook_lie_nowhere() {
    let (disk, io) = (Disk::new(), runtime());
    let hook = io.block_on(Hook::start());
    let url = hook.endpoint().to_owned() + "/hunter2-state-path?key=hunter2-state-query";
    let sink = |disk: &Disk| {
        webhook(&url)
            .secret_header("Authorization", "Bearer hunter2-state-token")
            .hmac_sha256("X-Signature", "hunter2-state-signing")
            .id(|doc: &Doc| doc.id.clone())
            .give_up_after(Duration::ZERO)
            .rejected_to(disk.rejected())
    };
    let secrets = ["hunter2-state-path", "hunter2-state-query", "hunter2-state-token", "hunter2-state-signing"];
    let says_back = |got: &Got| format!("Cannot POST {} for {:?}", got.path, got.header("authorization"));
    hook.answers(move |got| if got.json()["id"] == "doc-7" { status(404, &says_back(got)) } else { status(204, "") });
    assert_eq!(disk.run(sink(&disk)), "");
    disk.assert_none_of(true, &secrets);
    let disk = Disk::new();
    hook.answers(move |got| status(401, &says_back(got)));
    let told = disk.run(sink(&disk));
    assert!(told.contains("[secret]"), "{told}");
    assert_none_of(&secrets, &told);
    disk.assert_none_of(false, &secrets);
    assert_none_logged(&secrets);
}
