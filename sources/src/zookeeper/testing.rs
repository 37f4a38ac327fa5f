//! What the tests of this folder share: a server with a spout's nodes in it, and clocks that do not make one wait.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shardflow::retry::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use zookeeper_client::{Acls, Client, CreateMode};

pub(super) use shardflow_stand_ins::zookeeper::ZooKeeper;

use super::SpoutNodes;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// The node above all those that the tests use, for the topology `metering` and the stream `usage`.
pub(super) const ROOT: &str = "/kinesis_storm_spout/metering/usage";

/// Settings for the server at `address`, with times as short as a test's.
pub(super) fn nodes_at(address: &str) -> SpoutNodes {
    let nodes = SpoutNodes::of_topology("metering").connect(address).session_timeout(Duration::from_secs(2));
    nodes.mirror_interval(Duration::from_millis(10)).connect_timeout(Duration::from_secs(30))
}

/// Polls until `look` gives something.
pub(super) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come about within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Somebody else at the same server: a topology, an operator, a reader.
#[derive(Clone)]
pub(super) struct Somebody(pub(super) Client);

impl Somebody {
    pub(super) async fn at(server: &ZooKeeper) -> Self {
        Self(Client::connector().connect(&server.address()).await.unwrap())
    }

    /// Creates or overwrites a node, whatever its version.
    pub(super) async fn write(&self, path: &str, data: &str) {
        let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
        if self.0.check_stat(path).await.unwrap().is_none() {
            if let Some((above, _)) = path.rsplit_once('/').filter(|(above, _)| !above.is_empty()) {
                self.0.mkdir(above, &options).await.unwrap();
            }
            self.0.create(path, data.as_bytes(), &options).await.unwrap();
        } else {
            self.0.set_data(path, data.as_bytes(), None).await.unwrap();
        }
    }

    /// What a node holds, and its version.
    pub(super) async fn read(&self, path: &str) -> Option<(String, i32)> {
        match self.0.get_data(path).await {
            Ok((data, stat)) => Some((String::from_utf8(data).unwrap(), stat.version)),
            Err(zookeeper_client::Error::NoNode) => None,
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// Waits until a node holds `data`. Gives its version.
    pub(super) async fn sees(&self, path: &str, data: &str) -> i32 {
        until(&format!("{path} = {data}"), async || {
            self.read(path).await.filter(|(found, _)| found == data).map(|(_, version)| version)
        })
        .await
    }
}

/// What a test does while somebody sleeps.
type Meanwhile = Arc<dyn Fn(u64) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A clock on which a sleep takes no time and time passes all the same. Before the n-th sleep ends, n being counted from 1,
/// what the test says happens.
#[derive(Clone)]
pub(super) struct SkippingClock {
    began: Instant,
    slept: Arc<AtomicU64>,
    sleeps: Arc<AtomicU64>,
    meanwhile: Meanwhile,
}

impl SkippingClock {
    pub(super) fn new<F: Future<Output = ()> + Send + 'static>(
        meanwhile: impl Fn(u64) -> F + Send + Sync + 'static,
    ) -> Self {
        let meanwhile: Meanwhile = Arc::new(move |sleep| Box::pin(meanwhile(sleep)));
        let (slept, sleeps) = (Arc::default(), Arc::default());
        Self { began: Instant::now(), slept, sleeps, meanwhile }
    }

    /// How long was slept, all in all.
    pub(super) fn slept(&self) -> Duration {
        Duration::from_micros(self.slept.load(Ordering::Relaxed))
    }
}

impl Clock for SkippingClock {
    fn now(&self) -> Instant {
        self.began + self.slept()
    }

    async fn sleep(&self, time: Duration) {
        (self.meanwhile)(self.sleeps.fetch_add(1, Ordering::Relaxed) + 1).await;
        self.slept.fetch_add(time.as_micros() as u64, Ordering::Relaxed);
    }
}

/// A clock on which every sleep lasts until the test ends it.
#[derive(Clone)]
pub(super) struct HeldClock {
    sleepers: Arc<Semaphore>,
    ends: Arc<Semaphore>,
}

impl HeldClock {
    pub(super) fn new() -> Self {
        Self { sleepers: Arc::new(Semaphore::new(0)), ends: Arc::new(Semaphore::new(0)) }
    }

    /// Waits until somebody sleeps.
    pub(super) async fn somebody_sleeps(&self) {
        self.sleepers.acquire().await.unwrap().forget();
    }

    /// Ends one sleep.
    pub(super) fn end_a_sleep(&self) {
        self.ends.add_permits(1);
    }
}

impl Clock for HeldClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    async fn sleep(&self, _time: Duration) {
        self.sleepers.add_permits(1);
        self.ends.acquire().await.unwrap().forget();
    }
}

/// A way to a server on which answers get lost: those to as many of the next writes as the test says, together with the
/// connection. The writes are done.
pub(super) struct LossyWay {
    pub(super) address: String,
    losses: Arc<AtomicU64>,
}

/// The requests of ZooKeeper's protocol that write a node: create and set data.
const WRITES: [i32; 2] = [1, 5];

impl LossyWay {
    pub(super) async fn to(server: &ZooKeeper) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let way = Self { address: listener.local_addr().unwrap().to_string(), losses: Arc::default() };
        let (losses, server) = (Arc::clone(&way.losses), server.address());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (losses, server) = (Arc::clone(&losses), server.clone());
                // It ends in an error where one of the two has gone, which is as good an end as any.
                tokio::spawn(async move { relay(client, TcpStream::connect(server).await?, &losses).await });
            }
        });
        way
    }

    /// Loses the answer to the next write, and waits until that has happened.
    pub(super) async fn lose_an_answer(&self) {
        self.losses.store(1, Ordering::Relaxed);
        until("a lost answer", async || (self.losses.load(Ordering::Relaxed) == 0).then_some(())).await;
    }
}

async fn relay(client: TcpStream, server: TcpStream, losses: &AtomicU64) -> io::Result<()> {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let lost = AtomicBool::new(false);
    let requests = async {
        loop {
            let length = from_client.read_u32().await?;
            let mut request = vec![0; length as usize];
            from_client.read_exact(&mut request).await?;
            let is_write = request.get(4..8).is_some_and(|code| WRITES.map(i32::to_be_bytes).iter().any(|w| w == code));
            if is_write && losses.swap(0, Ordering::Relaxed) > 0 {
                lost.store(true, Ordering::Relaxed);
            }
            to_server.write_u32(length).await?;
            to_server.write_all(&request).await?;
        }
    };
    let answers = async {
        let mut bytes = [0; 4096];
        loop {
            let read = from_server.read(&mut bytes).await?;
            if read == 0 || lost.load(Ordering::Relaxed) {
                return Ok(());
            }
            to_client.write_all(&bytes[..read]).await?;
        }
    };
    tokio::select! { ended = requests => ended, ended = answers => ended }
}
