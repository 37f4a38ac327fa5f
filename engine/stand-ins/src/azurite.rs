//! azurite: Azure's blobs for tests, by Microsoft. Put-if-absent holds, blocks become a blob when they are listed.

use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::servers::{Scratch, Server, free_ports, installed};

/// Its one account, and the key of it, which are the same everywhere.
pub const ACCOUNT: &str = "devstoreaccount1";
pub const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A shared access signature of that account, for everything in it, until 2099.
pub const SAS: &str = "sv=2019-12-12&ss=b&srt=sco&sp=rwdlac&se=2099-01-01T00%3A00%3A00Z&sig=YKAtmJudHaH98kax9IHOYkiCF9veHhGg4TBHNwluLXo%3D";

/// A running azurite, empty, in memory. It ends with this value.
#[derive(Debug)]
pub struct Azurite {
    port: u16,
    _server: Server,
}

impl Azurite {
    /// Starts one on a free port; `None` where it is not installed.
    ///
    /// # Panics
    /// Where it does not come up within a minute; where it is not installed and `SHARDFLOW_REQUIRE_SERVERS` is set.
    pub async fn start() -> Option<Self> {
        let program = installed("azurite", "node_modules/azurite/dist/src/blob/main.js")?;
        let [port] = free_ports();
        let scratch = Scratch::new("azurite", port);
        let mut command = Command::new("node");
        command.arg(program).args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
        // Clients are newer than it is, and say so.
        command.args(["--inMemoryPersistence", "--silent", "--skipApiVersionCheck", "--disableTelemetry"]);
        let mut server = Server::start("azurite", &mut command, scratch);
        server.accepts(&[port]).await;
        Some(Self { port, _server: server })
    }

    /// Where clients find it, without the account.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a container.
    ///
    /// # Panics
    /// Where it does not.
    pub async fn create(&self, container: &str) {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let call = format!(
            "PUT /{ACCOUNT}/{container}?restype=container&{SAS} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-ms-version: 2019-12-12\r\n\
             content-length: 0\r\nconnection: close\r\n\r\n"
        );
        connection.write_all(call.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    }
}
