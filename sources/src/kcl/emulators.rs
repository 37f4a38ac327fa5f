//! Stand-ins for DynamoDB: real processes on loopback, and a proxy before them that loses answers.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_dynamodb::types::AttributeValue;
use shardflow_stand_ins::servers;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::row::Item;
use super::{IfAbsent, Leases, Table};
use crate::kcl::testing::metrics;

/// A stand-in, ended when it is dropped.
pub(super) struct Emulator {
    pub(super) endpoint: String,
    address: SocketAddr,
    _process: Child,
}

impl Emulator {
    /// ministack, where it is installed.
    pub(super) async fn ministack() -> Option<Self> {
        let [port] = servers::free_ports();
        let mut command = Command::new(servers::installed("ministack", "python/bin/ministack")?);
        command.env("GATEWAY_PORT", port.to_string());
        Some(Self::start(command, port).await)
    }

    /// dynalite, where it is installed.
    pub(super) async fn dynalite() -> Option<Self> {
        let [port] = servers::free_ports();
        let mut command = Command::new("node");
        command.arg(servers::installed("dynalite", "node_modules/dynalite/cli.js")?);
        command.args(["--port", &port.to_string(), "--createTableMs", "50"]);
        Some(Self::start(command, port).await)
    }

    async fn start(mut command: Command, port: u16) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let mut process = command.spawn().unwrap_or_else(|error| panic!("could not start {command:?}: {error}"));
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(address).await.is_err() {
            assert!(process.try_wait().unwrap().is_none(), "{command:?} has ended");
            assert!(Instant::now() < deadline, "{command:?} does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self { endpoint: format!("http://{address}"), address, _process: process }
    }

    /// A proxy before it.
    pub(super) async fn proxy(&self) -> Proxy {
        Proxy::start(self.address).await
    }

    /// The table of this name, made.
    pub(super) async fn table(&self, name: &str) -> Table {
        table(&self.endpoint, name, IfAbsent::Make).await.unwrap()
    }

    /// A client of nobody's.
    pub(super) fn raw(&self) -> Raw {
        Raw(aws_sdk_dynamodb::Client::new(&sdk_config(&self.endpoint)))
    }
}

/// Rows as they are.
pub(super) struct Raw(pub(super) aws_sdk_dynamodb::Client);

impl Raw {
    pub(super) async fn put(&self, table: &str, item: Item) {
        self.0.put_item().table_name(table).set_item(Some(item)).send().await.unwrap();
    }

    pub(super) async fn row(&self, table: &str, key: &str) -> Option<Item> {
        let call = self.0.get_item().table_name(table).key("leaseKey", AttributeValue::S(key.to_owned()));
        call.consistent_read(true).send().await.unwrap().item
    }
}

pub(super) fn sdk_config(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("test", "test", None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

/// The table of this name.
pub(super) async fn table(endpoint: &str, name: &str, if_absent: IfAbsent) -> shardflow::Result<Table> {
    Leases::table(name).sdk_config(sdk_config(endpoint)).open(None, if_absent, &metrics()).await
}

/// What a proxy has seen and is to do.
#[derive(Default)]
struct Orders {
    /// To which operation answers are to be lost.
    lose: Mutex<Option<&'static str>>,
    lost: AtomicUsize,
    down: AtomicBool,
}

/// Hands requests on, and answers back unless it is told to lose them: then the work was done and nobody hears of it.
pub(super) struct Proxy {
    pub(super) endpoint: String,
    orders: Arc<Orders>,
}

impl Proxy {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let orders = Arc::<Orders>::default();
        let theirs = Arc::clone(&orders);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let orders = Arc::clone(&theirs);
                // An error is a connection that is over.
                tokio::spawn(async move { drop(serve(client, to, &orders).await) });
            }
        });
        Self { endpoint, orders }
    }

    /// Loses all answers to `operation` from now on.
    pub(super) fn lose(&self, operation: &'static str) {
        *self.orders.lose.lock().unwrap() = Some(operation);
    }

    /// Loses no more.
    pub(super) fn lose_nothing(&self) {
        *self.orders.lose.lock().unwrap() = None;
    }

    /// How many answers were lost.
    pub(super) fn lost(&self) -> usize {
        self.orders.lost.load(Ordering::SeqCst)
    }

    /// Whether to let nothing through.
    pub(super) fn set_down(&self, down: bool) {
        self.orders.down.store(down, Ordering::SeqCst);
    }
}

async fn serve(mut client: TcpStream, to: SocketAddr, orders: &Orders) -> std::io::Result<()> {
    let mut server = TcpStream::connect(to).await?;
    loop {
        let request = message(&mut client).await?;
        if orders.down.load(Ordering::SeqCst) {
            return Ok(());
        }
        server.write_all(&request).await?;
        let answer = message(&mut server).await?;
        let lose = *orders.lose.lock().unwrap();
        let is_lost =
            |operation: &str| String::from_utf8_lossy(&request).contains(&format!("DynamoDB_20120810.{operation}"));
        if lose.is_some_and(is_lost) {
            orders.lost.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        client.write_all(&answer).await?;
    }
}

/// One message of HTTP/1.1 with its body.
async fn message(from: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut end = None;
    while end.is_none_or(|end| bytes.len() < end) {
        if from.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        end = head.map(|head| head + 4 + body_length(&String::from_utf8_lossy(&bytes[..head])));
    }
    Ok(bytes)
}

fn body_length(head: &str) -> usize {
    let header = head.lines().filter_map(|line| line.split_once(':'));
    let length = header.filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).map(|(_, value)| value.trim());
    length.map(|value| value.parse().unwrap()).next().unwrap_or(0)
}
