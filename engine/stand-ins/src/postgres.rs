//! A PostgreSQL server of one's own on loopback: its data in a temporary folder, its end by its process id. Tests of one binary
//! that run at the same time share it, each with a database of its own.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rcgen::generate_simple_self_signed;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

use crate::servers::missing;

/// Where Debian's packages have it, a folder a version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// How long the server may take to come up or to go down.
const WITHIN: Duration = Duration::from_secs(60);

/// The role that needs a password, and its password.
pub const LOCKED: (&str, &str) = ("locked", "open-sesame-8841");

/// A running server. Dropping it ends it.
pub struct Cluster {
    bin: PathBuf,
    port: u16,
    folder: TempDir,
    process: Mutex<Option<Child>>,
}

static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());

impl Cluster {
    /// The server that this binary's tests share; `None` where none is installed, unless the environment insists on it.
    pub fn shared() -> Option<Arc<Self>> {
        let bin = installed()?;
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return Some(running);
        }
        // A port that was free may be taken a moment later.
        let cluster = Arc::new((0..5).find_map(|_| Self::try_start(&bin)).expect("a server comes up"));
        *shared = Arc::downgrade(&cluster);
        Some(cluster)
    }

    /// A server that only this test has, so that it can be ended and started again.
    pub fn own() -> Option<Self> {
        let bin = installed()?;
        Some((0..5).find_map(|_| Self::try_start(&bin)).expect("a server comes up"))
    }

    fn try_start(bin: &Path) -> Option<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let cluster = Self { bin: bin.to_owned(), port, folder, process: Mutex::new(None) };
        cluster.initialize();
        cluster.come_up().then_some(cluster)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn initialize(&self) {
        own_it(self.folder.path());
        let mut command = self.command("initdb");
        command.arg("-D").arg(self.data()).args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8"]);
        let output = command.args(["--no-sync", "--no-instructions"]).output().unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        let made = generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        for (name, text) in [
            ("data/server.crt", made.cert.pem()),
            ("data/server.key", made.signing_key.serialize_pem()),
            ("data/pg_hba.conf", hba()),
        ] {
            let path = self.folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            own_it(&path);
        }
    }

    /// What a client has to trust.
    pub fn certificate(&self) -> PathBuf {
        self.data().join("server.crt")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        if let Some((user, group)) = other_user() {
            command.uid(user).gid(group);
        }
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    /// Starts it, and waits until it answers. Whether it does: it ends by itself where its port is taken.
    fn come_up(&self) -> bool {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-h", "127.0.0.1", "-k", "", "-p"]).arg(self.port.to_string());
        for setting in ["fsync=off", "ssl=on", "max_connections=200", "max_prepared_transactions=0"] {
            command.args(["-c", setting]);
        }
        let log = fs::File::create(self.folder.path().join("server.log")).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mut process = self.process.lock().unwrap();
        let child = process.insert(child);
        let deadline = Instant::now() + WITHIN;
        let runtime = runtime();
        while runtime.block_on(connect(self.port, "postgres", "postgres")).is_err() {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(Instant::now() < deadline, "the server is not up after {WITHIN:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// Ends it without a word to its clients, as a crash would.
    pub fn crash(&self) {
        self.end("-QUIT");
    }

    /// Starts it again on the same port and data.
    pub fn restart(&self) {
        assert!(self.come_up(), "the server did not come up again");
    }

    fn end(&self, signal: &str) {
        let Some(mut child) = self.process.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        // Not killed at once: it has children and shared memory of its own to end.
        let _ = Command::new("kill").args([signal, &child.id().to_string()]).status();
        let deadline = Instant::now() + WITHIN;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end("-QUIT");
    }
}

fn hba() -> String {
    let (locked, _) = LOCKED;
    format!("host all {locked} 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n")
}

/// The programs of the newest version that is installed.
fn installed() -> Option<PathBuf> {
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let bins = versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists());
    let newest = bins.max_by_key(|bin| {
        let version = bin.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        version.and_then(|version| version.parse::<u32>().ok())
    });
    newest.or_else(|| missing("PostgreSQL", VERSIONS))
}

/// The user and group to run as, where this process is root, as whom PostgreSQL refuses to run.
fn other_user() -> Option<(u32, u32)> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let is_root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    if !is_root {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        let user = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = user.split(':').skip(2);
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody"))
}

fn own_it(path: &Path) {
    if let Some((user, group)) = other_user() {
        chown(path, Some(user), Some(group)).unwrap();
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

async fn connect(port: u16, user: &str, database: &str) -> Result<Client, tokio_postgres::Error> {
    let text = format!("host=127.0.0.1 port={port} user={user} dbname={database}");
    let (client, connection) = tokio_postgres::connect(&text, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A database with nothing in it, and a connection to look into it.
pub struct Database {
    client: Client,
    pub name: String,
    pub cluster: Arc<Cluster>,
    pub runtime: Runtime,
}

impl Database {
    /// `None` where no server is installed.
    pub fn fresh() -> Option<Self> {
        Some(Self::on(&Cluster::shared()?))
    }

    pub fn on(cluster: &Arc<Cluster>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let runtime = runtime();
        let client = runtime.block_on(async {
            let admin = connect(cluster.port, "postgres", "postgres").await.unwrap();
            admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
            connect(cluster.port, "postgres", &name).await.unwrap()
        });
        Self { client, name, cluster: Arc::clone(cluster), runtime }
    }

    /// How a sink reaches it.
    pub fn address(&self) -> String {
        self.address_at(self.cluster.port)
    }

    /// As [`address`](Self::address), by way of another port.
    pub fn address_at(&self, port: u16) -> String {
        format!("host=127.0.0.1 port={port} user=postgres dbname={}", self.name)
    }

    pub fn run(&self, sql: &str) {
        self.runtime.block_on(self.client.batch_execute(sql)).unwrap_or_else(|error| {
            panic!("{sql}: {error}: {:?}", error.as_db_error());
        });
    }

    /// The first column of every row, as text.
    pub fn texts(&self, sql: &str) -> Vec<Option<String>> {
        let rows = self.runtime.block_on(self.client.query(&format!("SELECT v::text FROM ({sql}) AS q(v)"), &[]));
        rows.unwrap_or_else(|error| panic!("{sql}: {error}: {:?}", error.as_db_error()))
            .iter()
            .map(|row| row.get(0))
            .collect()
    }

    /// The first column of the first row, as text.
    pub fn text(&self, sql: &str) -> String {
        self.texts(sql).first().cloned().flatten().unwrap_or_else(|| panic!("{sql}: no text"))
    }

    pub fn numbers(&self, sql: &str) -> Vec<u64> {
        self.texts(sql).into_iter().map(|text| text.unwrap().parse().unwrap()).collect()
    }

    /// What `psql`, a reader that shares no code with the sink, says to a query.
    pub fn psql(&self, sql: &str) -> String {
        let mut command = Command::new(self.cluster.bin.join("psql"));
        command.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, "-d"]).arg(self.address());
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end_matches('\n').to_owned()
    }

    /// A connection that a test holds something with.
    pub fn other(&self) -> Client {
        self.runtime.block_on(connect(self.cluster.port, "postgres", &self.name)).unwrap()
    }

    /// Ends all other connections to this database.
    pub fn end_others(&self) {
        let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        self.texts(others);
    }
}
