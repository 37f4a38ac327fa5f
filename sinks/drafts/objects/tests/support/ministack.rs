//! ministack: DynamoDB and S3 for tests. Its conditional writes and its put-if-absent are atomic under races.
//!
//! Not for Kinesis: a split deletes the parent and its data there.

use std::process::Command;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::servers::{Scratch, Server, free_ports, installed};

/// A running ministack, empty. It ends with this value.
#[derive(Debug)]
pub(crate) struct Ministack {
    port: u16,
    server: Server,
}

impl Ministack {
    /// Starts one on a free port; `None` where it is not installed.
    ///
    /// # Panics
    /// Where it does not come up within a minute; where it is not installed and `SHARDFLOW_REQUIRE_SERVERS` is set.
    pub(crate) async fn start() -> Option<Self> {
        let program = installed("ministack", "python/bin/ministack")?;
        let [port] = free_ports();
        let scratch = Scratch::new("ministack", port);
        let mut command = Command::new(program);
        command.env("GATEWAY_PORT", port.to_string()).env("BIND_HOST", "127.0.0.1");
        // It keeps its process id and, for some services, files.
        command.env("TMPDIR", scratch.path()).env("STATE_DIR", scratch.path().join("state"));
        let server = Server::start("ministack", &mut command, scratch);
        let mut started = Self { port, server };
        let deadline = Instant::now() + Duration::from_secs(60);
        // It accepts connections a little before it answers.
        while !started.answers().await {
            started.server.still_starting(deadline).await;
        }
        Some(started)
    }

    /// One endpoint for all services.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn answers(&self) -> bool {
        let asked = async {
            let mut connection = TcpStream::connect(("127.0.0.1", self.port)).await?;
            connection.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
            let mut answer = Vec::new();
            connection.read_to_end(&mut answer).await?;
            std::io::Result::Ok(answer.starts_with(b"HTTP/1.1 "))
        };
        matches!(tokio::time::timeout(Duration::from_secs(5), asked).await, Ok(Ok(true)))
    }
}
