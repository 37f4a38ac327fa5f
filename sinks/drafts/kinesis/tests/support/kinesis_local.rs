//! kinesis-local (the Scala kinesis-mock, as a Node program): a second opinion on Kinesis.
//!
//! Its resharding, its ChildShards and fan-out over HTTP/2 are right where the embedded stand-in's are not. Wrong here: a
//! batch put is quadratic in what the shard holds (keep a shard under 2,000 records), a fan-out subscription does not end at
//! the shard's end, and a garbage iterator is answered with status 500. A subscription opens with its first event, a second
//! later, and not with an initial response; one made within 5 s of another is refused by an event and not by a status.

use std::fs;
use std::process::Command;

use super::servers::{Scratch, Server, free_ports, installed, missing};
use super::tls::Certificate;

/// The changes whose duration can be set.
const CHANGES: [&str; 7] = [
    "CREATE_STREAM",
    "DELETE_STREAM",
    "REGISTER_STREAM_CONSUMER",
    "DEREGISTER_STREAM_CONSUMER",
    "SPLIT_SHARD",
    "MERGE_SHARDS",
    "UPDATE_SHARD_COUNT",
];

/// A running kinesis-local, with no streams. It ends with this value.
#[derive(Debug)]
pub(crate) struct KinesisLocal {
    plain: String,
    tls: String,
    certificate: Certificate,
    server: Server,
}

impl KinesisLocal {
    /// Starts one on free ports; `None` where it is not installed.
    ///
    /// # Panics
    /// Where it does not come up within a minute; where it is not installed and `SHARDFLOW_REQUIRE_SERVERS` is set.
    pub(crate) async fn start() -> Option<Self> {
        let program = installed("kinesis-local", "node_modules/kinesis-local/main.js")?;
        if Command::new("node").arg("--version").output().is_err() {
            return missing("Node", "node in the PATH");
        }
        let [plain, tls] = free_ports();
        let scratch = Scratch::new("kinesis-local", plain);
        let certificate = Certificate::for_loopback();
        let file = scratch.path().join("server.json");
        let pair = serde_json::json!({"server": {"key": certificate.key_pem, "cert": certificate.pem}});
        fs::write(&file, pair.to_string()).unwrap();
        let mut command = Command::new("node");
        command.arg(program).env("KINESIS_MOCK_CERT_PATH", &file);
        command.env("KINESIS_MOCK_PLAIN_PORT", plain.to_string()).env("KINESIS_MOCK_TLS_PORT", tls.to_string());
        command.env("SHARD_LIMIT", "1000").env("LOG_LEVEL", "WARN");
        // Each change takes half a second by default.
        for change in CHANGES {
            command.env(format!("{change}_DURATION"), "1ms");
        }
        let mut server = Server::start("kinesis-local", &mut command, scratch);
        server.accepts(&[plain, tls]).await;
        let (plain, tls) = (format!("http://127.0.0.1:{plain}"), format!("https://127.0.0.1:{tls}"));
        Some(Self { plain, tls, certificate, server })
    }

    /// HTTP/1.1 without TLS.
    pub(crate) fn plain_endpoint(&self) -> &str {
        &self.plain
    }

    /// HTTP/2 over TLS, for clients that trust [`certificate`](Self::certificate).
    pub(crate) fn tls_endpoint(&self) -> &str {
        &self.tls
    }

    pub(crate) fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The process, to be stopped or killed by a test.
    pub(crate) fn process_id(&self) -> u32 {
        self.server.id()
    }
}
