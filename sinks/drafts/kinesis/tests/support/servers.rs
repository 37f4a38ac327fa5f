//! Servers started by a test: where they are installed, how they come up, and how they end.
//!
//! `.ci/setup-servers` installs them into `SHARDFLOW_SERVERS`, by default `<target folder>/servers`. A test whose server is
//! not there says so in one line and is left out, unless `SHARDFLOW_REQUIRE_SERVERS` is set: then it fails.

use std::env;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

/// The longest time for a server to come up; a machine that compiles at the same time is slow.
const START: Duration = Duration::from_secs(60);

/// The folder that the servers are installed in.
pub(crate) fn folder() -> PathBuf {
    if let Some(folder) = env::var_os("SHARDFLOW_SERVERS") {
        return PathBuf::from(folder);
    }
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    // A test runs from <target>/<profile>/deps.
    let own = || env::current_exe().ok()?.ancestors().nth(3).map(Path::to_owned);
    target.or_else(own).expect("a target folder").join("servers")
}

/// The path inside the folder of servers, if it is installed; otherwise says that `name` is missing.
pub(crate) fn installed(name: &str, path: &str) -> Option<PathBuf> {
    let path = folder().join(path);
    if path.exists() { Some(path) } else { missing(name, &path.display().to_string()) }
}

/// Says that a test is left out since `name` is not installed.
///
/// # Panics
/// Where `SHARDFLOW_REQUIRE_SERVERS` is set.
pub(crate) fn missing<T>(name: &str, looked_for: &str) -> Option<T> {
    let text = format!("{name} is not installed (no {looked_for}): run .ci/setup-servers");
    assert!(env::var_os("SHARDFLOW_REQUIRE_SERVERS").is_none(), "{text}");
    eprintln!("TEST LEFT OUT: {text}");
    None
}

/// Ports that are free now. Another process may take one before the server does: then the server ends, and the start fails.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    // All are held until each is known, so that they differ.
    let held: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// A folder for one server's files, removed at the end.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str, port: u16) -> Self {
        let path = env::temp_dir().join(format!("shardflow-{name}-{}-{port}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A child process that is killed, by its process id, when this value is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    child: Child,
    scratch: Scratch,
}

impl Server {
    /// Starts `command` in `scratch`, with what it says in `server.log` there.
    pub(crate) fn start(name: &'static str, command: &mut Command, scratch: Scratch) -> Self {
        let log = File::create(scratch.path().join("server.log")).unwrap();
        let command = command.current_dir(scratch.path()).stdin(Stdio::null());
        let command = command.stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("could not start {name}: {error}"));
        Self { name, child, scratch }
    }

    /// Waits until something accepts connections on each of the ports.
    ///
    /// # Panics
    /// With what the server said, where it ended or took longer than a minute.
    pub(crate) async fn accepts(&mut self, ports: &[u16]) {
        let deadline = Instant::now() + START;
        for &port in ports {
            while TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await.is_err() {
                self.still_starting(deadline).await;
            }
        }
    }

    /// One step of waiting for a server that is not ready.
    ///
    /// # Panics
    /// Where it ended, or `deadline` has passed.
    pub(crate) async fn still_starting(&mut self, deadline: Instant) {
        let ended = self.child.try_wait().unwrap();
        if ended.is_some() || Instant::now() > deadline {
            let log = fs::read_to_string(self.scratch.path().join("server.log")).unwrap_or_default();
            panic!("{} did not start: ended {ended:?}, and said: {log}", self.name);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It fails where the process has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
