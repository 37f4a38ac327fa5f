//! A proxy on loopback that breaks connections to PostgreSQL at a chosen message.
//!
//! What enters: the protocol, without TLS. What leaves: the same, to the one server behind it. Each message of a client is
//! shown to a rule, which says what happens to it. A reset is TCP's RST.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Pass,
    /// The connection is reset, and the message does not arrive.
    ResetBefore,
    /// The message arrives and is worked off; then the connection is reset, and the answer does not arrive.
    ResetAfter,
    /// As [`ResetBefore`](Self::ResetBefore), but the server hears of it only so much later.
    ServerHearsLater(Duration),
    /// It arrives so much later.
    Delay(Duration),
    /// Nothing of this connection arrives any more, and nobody hears of that.
    Silence,
}

/// A message from a client: its kind as the protocol has it, and the SQL that it may hold.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) kind: char,
    pub(crate) sql: String,
}

impl Message {
    pub(crate) fn is(&self, sql: &str) -> bool {
        self.kind == 'Q' && self.sql.starts_with(sql)
    }

    /// A part of COPY's data.
    pub(crate) fn is_copy(&self) -> bool {
        self.kind == 'd'
    }
}

type Rule = Arc<dyn Fn(&Message) -> Fault + Send + Sync>;

/// A running proxy. It ends, and cuts its connections, with this value.
pub(crate) struct PgProxy {
    port: u16,
    rule: Arc<Mutex<Rule>>,
    faults: Arc<Mutex<Vec<Fault>>>,
    accepting: JoinHandle<()>,
}

impl PgProxy {
    /// A front of the server at `upstream`. Everything passes until [`inject`](Self::inject).
    pub(crate) fn start(runtime: &Handle, upstream: u16) -> Self {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(Arc::new(|_| Fault::Pass)));
        let faults = Arc::new(Mutex::new(Vec::new()));
        let (rules, seen) = (Arc::clone(&rule), Arc::clone(&faults));
        let accepting = runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = SocketAddr::from(([127, 0, 0, 1], upstream));
                tokio::spawn(serve(client, server, Arc::clone(&rules), Arc::clone(&seen)));
            }
        });
        Self { port, rule, faults, accepting }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From here on `rule` decides.
    pub(crate) fn inject(&self, rule: impl Fn(&Message) -> Fault + Send + Sync + 'static) {
        *self.rule.lock().unwrap() = Arc::new(rule);
    }

    /// The first message that `which` names meets `fault`, and all others pass.
    pub(crate) fn once(&self, fault: Fault, which: impl Fn(&Message) -> bool + Send + Sync + 'static) {
        let met = Mutex::new(false);
        self.inject(move |message| {
            let mut met = met.lock().unwrap();
            if !*met && which(message) {
                *met = true;
                return fault;
            }
            Fault::Pass
        });
    }

    /// The faults that messages have met.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        self.faults.lock().unwrap().clone()
    }
}

impl Drop for PgProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(client: TcpStream, upstream: SocketAddr, rule: Arc<Mutex<Rule>>, seen: Arc<Mutex<Vec<Fault>>>) {
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    // Closing with a linger time of zero makes the kernel send RST; a clean end is a FIN before that.
    client.set_zero_linger().unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let answers = watch::Sender::new(Answers::Pass);
    let watched = answers.subscribe();
    let back = pass_back(from_server, to_client, watched);
    let forth = pass_on(from_client, to_server, rule, seen, &answers);
    tokio::pin!(back, forth);
    tokio::select! {
        kept = &mut forth => {
            if let Ok(Some((server, time))) = kept {
                // The client's side is closed here, and the server's only later.
                drop_later(server, time);
            }
        }
        _ = &mut back => {}
    }
}

fn drop_later(server: OwnedWriteHalf, time: Duration) {
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        drop(server);
    });
}

/// What happens to the server's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    Pass,
    /// Lost; the connection ends with the next one that is complete.
    Lose,
    /// Lost for ever.
    Silence,
}

/// Ends where the connection is to be reset; gives the server's side where that is to live on.
async fn pass_on(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    rule: Arc<Mutex<Rule>>,
    seen: Arc<Mutex<Vec<Fault>>>,
    answers: &watch::Sender<Answers>,
) -> io::Result<Option<(OwnedWriteHalf, Duration)>> {
    // The first message has no kind.
    let length = client.read_u32().await?;
    let mut body = vec![0; length as usize - 4];
    client.read_exact(&mut body).await?;
    server.write_all(&[&length.to_be_bytes()[..], &body].concat()).await?;
    loop {
        let kind = client.read_u8().await?;
        let length = client.read_u32().await?;
        let mut body = vec![0; length as usize - 4];
        client.read_exact(&mut body).await?;
        let message = Message { kind: kind.into(), sql: sql(kind, &body) };
        let rule = Arc::clone(&rule.lock().unwrap());
        let fault = rule(&message);
        if fault != Fault::Pass {
            seen.lock().unwrap().push(fault);
        }
        match fault {
            Fault::Pass => {}
            Fault::ResetBefore => return Ok(None),
            Fault::ServerHearsLater(time) => return Ok(Some((server, time))),
            Fault::ResetAfter => answers.send_modify(|answers| *answers = Answers::Lose),
            Fault::Silence => {
                answers.send_modify(|answers| *answers = Answers::Silence);
                // Until the client leaves.
                while client.read_u8().await.is_ok() {}
                return Ok(None);
            }
            Fault::Delay(time) => tokio::time::sleep(time).await,
        }
        server.write_all(&[&[kind][..], &length.to_be_bytes(), &body].concat()).await?;
    }
}

/// Ends where an answer is lost, or the server has closed.
async fn pass_back(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    answers: watch::Receiver<Answers>,
) -> io::Result<()> {
    loop {
        let kind = server.read_u8().await?;
        let length = server.read_u32().await?;
        let mut body = vec![0; length as usize - 4];
        server.read_exact(&mut body).await?;
        let fate = *answers.borrow();
        match fate {
            Answers::Pass => client.write_all(&[&[kind][..], &length.to_be_bytes(), &body].concat()).await?,
            // Ready for the next query: the last is worked off.
            Answers::Lose if kind == b'Z' => return Ok(()),
            Answers::Lose | Answers::Silence => {}
        }
    }
}

fn sql(kind: u8, body: &[u8]) -> String {
    let text = match kind {
        b'Q' => body,
        // Behind the statement's name.
        b'P' => body.split(|byte| *byte == 0).nth(1).unwrap_or_default(),
        _ => return String::new(),
    };
    String::from_utf8_lossy(text).trim_end_matches('\0').to_owned()
}
