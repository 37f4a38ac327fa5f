//! dynalite: DynamoDB for tests, a second opinion. Its conditional writes are atomic; it knows no transactions, and does not
//! give the item that a condition did not hold for.

use std::process::Command;

use crate::servers::{Scratch, Server, free_ports, installed};

/// A running dynalite, empty. It ends with this value.
#[derive(Debug)]
pub struct Dynalite {
    port: u16,
    _server: Server,
}

impl Dynalite {
    /// Starts one on a free port, with these arguments beside; `None` where it is not installed.
    ///
    /// # Panics
    /// Where it does not come up within a minute; where it is not installed and `SHARDFLOW_REQUIRE_SERVERS` is set.
    pub async fn start(arguments: &[&str]) -> Option<Self> {
        let program = installed("dynalite", "node_modules/dynalite/cli.js")?;
        let [port] = free_ports();
        let scratch = Scratch::new("dynalite", port);
        let mut command = Command::new("node");
        command.arg(program).args(["--host", "127.0.0.1", "--port", &port.to_string()]).args(arguments);
        let mut server = Server::start("dynalite", &mut command, scratch);
        server.accepts(&[port]).await;
        Some(Self { port, _server: server })
    }

    /// Where clients find it.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}
