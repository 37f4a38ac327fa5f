//! A ZooKeeper server of one's own on loopback: its data in a temporary folder, its end by its process id.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Where Debian's package has it.
const SCRIPT: &str = "/usr/share/zookeeper/bin/zkServer.sh";

/// How long the server may take to come up. A Java process on a busy machine is slow.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// A running server. Dropping it ends it.
pub struct ZooKeeper {
    port: u16,
    folder: TempDir,
    process: Option<Child>,
}

impl ZooKeeper {
    /// A server with nothing in it; `None` where it is not installed, unless the environment insists on it.
    pub fn start() -> Option<Self> {
        if !Path::new(SCRIPT).exists() {
            let insists = std::env::var_os("SHARDFLOW_REQUIRE_SERVERS").is_some();
            assert!(!insists, "SHARDFLOW_REQUIRE_SERVERS is set and there is no {SCRIPT}");
            eprintln!(
                "TEST LEFT OUT: there is no ZooKeeper server here ({SCRIPT}); install the Debian package `zookeeper`"
            );
            return None;
        }
        // A port that was free may be taken a moment later.
        Some((0..5).find_map(|_| Self::try_start()).expect("a server comes up"))
    }

    fn try_start() -> Option<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let config = format!(
            "dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\ntickTime=200\nminSessionTimeout=400\n\
             admin.enableServer=false\n4lw.commands.whitelist=srvr\n",
            data.display(),
        );
        std::fs::write(folder.path().join("zoo.cfg"), config).unwrap();
        let mut server = Self { port, folder, process: None };
        server.come_up().then_some(server)
    }

    /// Its address, as in a connect string.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it the hard way.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            process.wait().unwrap();
        }
    }

    /// Starts it again on the same port and data, and waits until it answers.
    pub fn restart(&mut self) {
        assert!(self.come_up(), "the server did not come up again");
    }

    /// Starts it and waits until it answers. Whether it does: it ends by itself where its port is taken.
    fn come_up(&mut self) -> bool {
        let mut command = Command::new("bash");
        // The script becomes the server, so that ending this process ends it.
        command.arg(SCRIPT).arg("start-foreground").arg(self.folder.path().join("zoo.cfg"));
        command.env("ZOO_LOG_DIR", self.folder.path()).env("JMXDISABLE", "true").env("JVMFLAGS", "-Xmx128m");
        let process = self.process.insert(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let deadline = Instant::now() + STARTS_WITHIN;
        while !answers(self.port) {
            if process.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(Instant::now() < deadline, "the server is not up after {STARTS_WITHIN:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        true
    }
}

/// Whether a server serves at this port, asked by its four-letter word.
fn answers(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { return false };
    let mut answer = String::new();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    stream.write_all(b"srvr").is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.contains("Mode:")
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        self.kill();
    }
}
