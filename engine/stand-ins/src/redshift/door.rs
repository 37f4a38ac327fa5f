//! The door: passes messages on, and keeps back those that are a `COPY` from S3.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::bucket::Bucket;
use super::copy::{Connection, Copies, SYSTEM};
use crate::postgres::Database;

/// A running cluster with the tables of one database. It takes no new connections once this value is gone.
pub struct Redshift {
    port: u16,
    accepting: JoinHandle<()>,
}

impl Redshift {
    /// Makes a cluster of a database, which runs on its runtime. It loads from this bucket.
    pub fn start(database: &Database, bucket: Bucket) -> Self {
        database.run(SYSTEM);
        let listener = database.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (server, copies, bucket) =
            (database.cluster.port(), Arc::new(Copies::new(database.other())), Arc::new(bucket));
        let accepting = database.runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // It ends where either side leaves.
                tokio::spawn(serve(client, server, Arc::clone(&copies), Arc::clone(&bucket)));
            }
        });
        Self { port, accepting }
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Redshift {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A message of the protocol.
struct Message {
    kind: u8,
    body: Vec<u8>,
}

impl Message {
    async fn read(from: &mut OwnedReadHalf) -> io::Result<Self> {
        Ok(Self { kind: from.read_u8().await?, body: body(from).await? })
    }

    async fn write(&self, to: &mut OwnedWriteHalf) -> io::Result<()> {
        to.write_all(&[&[self.kind][..], &framed(&self.body)].concat()).await
    }

    fn text(kind: u8, text: &str) -> Self {
        Self { kind, body: [text.as_bytes(), b"\0"].concat() }
    }

    /// A simple query that is a `COPY` from S3.
    fn copy(&self) -> Option<&str> {
        let sql = std::str::from_utf8(self.body.strip_suffix(b"\0")?).ok()?;
        (self.kind == b'Q' && sql.starts_with("COPY ") && sql.contains(" FROM 's3://")).then_some(sql)
    }

    /// What an error says: its field `M`.
    fn said(&self) -> String {
        let mut fields = self.body.split(|byte| *byte == 0);
        let said = fields.find_map(|field| field.strip_prefix(b"M")).unwrap_or_default();
        String::from_utf8_lossy(said).into_owned()
    }
}

/// What follows a length that counts itself.
async fn body(from: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let mut body = vec![0; (length as usize).checked_sub(4).ok_or(ErrorKind::InvalidData)?];
    from.read_exact(&mut body).await?;
    Ok(body)
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
}

/// Where the server's messages go: to the client, or to who asks in its place.
struct Answers {
    client: OwnedWriteHalf,
    kept_back: Option<UnboundedSender<Message>>,
}

async fn serve(client: TcpStream, server: u16, copies: Arc<Copies>, bucket: Arc<Bucket>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (from_client, client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let answers = Mutex::new(Answers { client, kept_back: None });
    tokio::select! {
        _ = pass_on(from_client, to_server, &answers, &copies, &bucket) => {}
        _ = pass_back(from_server, &answers) => {}
    }
}

async fn pass_on(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    answers: &Mutex<Answers>,
    copies: &Copies,
    bucket: &Bucket,
) -> io::Result<()> {
    // The first message has no kind.
    server.write_all(&framed(&body(&mut client).await?)).await?;
    loop {
        let message = Message::read(&mut client).await?;
        let Some(sql) = message.copy() else {
            message.write(&mut server).await?;
            continue;
        };
        // A client that asks one thing at a time has all earlier answers.
        let (keep, kept) = unbounded_channel();
        answers.lock().await.kept_back = Some(keep);
        let mut asking = Asking { server: &mut server, kept };
        let last = copies.run(sql, &mut asking, bucket).await?;
        let (refused, ready) = asking.ask(&last).await?;
        let mut answers = answers.lock().await;
        answers.kept_back = None;
        refused.unwrap_or_else(|| Message::text(b'C', "COPY")).write(&mut answers.client).await?;
        ready.write(&mut answers.client).await?;
    }
}

async fn pass_back(mut server: OwnedReadHalf, answers: &Mutex<Answers>) -> io::Result<()> {
    loop {
        let message = Message::read(&mut server).await?;
        let mut answers = answers.lock().await;
        match &answers.kept_back {
            Some(keep) => keep.send(message).map_err(|_| ErrorKind::BrokenPipe)?,
            None => message.write(&mut answers.client).await?,
        }
    }
}

/// The client's connection, while the door asks on it.
struct Asking<'a> {
    server: &'a mut OwnedWriteHalf,
    kept: UnboundedReceiver<Message>,
}

impl Asking<'_> {
    /// Asks; gives the error, if it is one, and that the server is ready.
    async fn ask(&mut self, sql: &str) -> io::Result<(Option<Message>, Message)> {
        Message::text(b'Q', sql).write(self.server).await?;
        let mut refused = None;
        loop {
            let message = self.kept.recv().await.ok_or(ErrorKind::UnexpectedEof)?;
            match message.kind {
                b'E' => refused = Some(message),
                b'Z' => return Ok((refused, message)),
                _ => {}
            }
        }
    }
}

impl Connection for Asking<'_> {
    type Lost = io::Error;

    async fn run(&mut self, sql: &str) -> io::Result<Result<(), String>> {
        let (refused, _) = self.ask(sql).await?;
        Ok(refused.map_or(Ok(()), |error| Err(error.said())))
    }
}
