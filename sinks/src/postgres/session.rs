//! One connection: how it is made, what is set on it, and what is prepared on it once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use shardflow::retry::Failed;
use shardflow::sink::Trouble;
use shardflow::{Outcome, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Connection, NoTls, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::dsn::{Dsn, Tls};
use super::failure::Failure;
use super::name::TableName;
use super::sql::{self, Upsert};
use super::{Password, tls};

/// How long connecting may take, with TLS and the password.
const CONNECTS_WITHIN: Duration = Duration::from_secs(15);

/// After how long the server ends a transaction in which it hears nothing: of a process that stands still, and holds up the
/// one that has taken its place.
const IDLES_WITHIN: Duration = Duration::from_secs(60);

/// A server, and how to get in.
#[derive(Clone)]
pub(crate) struct Server {
    dsn: Dsn,
    tls: Option<MakeRustlsConnect>,
    password: Option<Password>,
    call_timeout: Duration,
    /// What is run on each new connection.
    settings: String,
}

impl Server {
    /// Reads what TLS needs. `settings` are run on each new connection.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](shardflow::ErrorKind::Config).
    pub(crate) fn new(dsn: Dsn, password: Option<Password>, call_timeout: Duration, settings: String) -> Result<Self> {
        let tls = match dsn.tls {
            Tls::Off => None,
            Tls::IfOffered | Tls::Verified => Some(tls::connector(dsn.roots.as_deref())?),
        };
        Ok(Self { dsn, tls, password, call_timeout, settings })
    }

    /// `database "billing" at db.example.com:5432`.
    pub(crate) fn place(&self) -> String {
        self.dsn.place()
    }

    pub(crate) fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    async fn connect(&self) -> Result<(Client, JoinHandle<()>), Failure> {
        let mut config = self.dsn.config.clone();
        if let Some(password) = &self.password {
            let password = password().map_err(|error| {
                let text = format!("could not get the password: {error}");
                Failure::Trouble(Trouble { may_pass: Some(Failed::Credentials), outcome: Outcome::Determinate, text })
            })?;
            config.password(password);
        }
        match &self.tls {
            None => config.connect(NoTls).await.map(drive),
            Some(tls) => config.connect(tls.clone()).await.map(drive),
        }
        .map_err(Failure::from)
    }
}

/// Lets a connection run. It ends when its client is dropped.
fn drive<S, T>((client, connection): (Client, Connection<S, T>)) -> (Client, JoinHandle<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let running = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to PostgreSQL has ended");
        }
    });
    (client, running)
}

/// What brings rows of certain columns into the target.
#[derive(Clone)]
pub(crate) struct Copying {
    pub(crate) copy: Statement,
    /// The name under which the server speaks of the table that COPY writes to.
    pub(crate) relation: Arc<str>,
    pub(crate) merging: Option<Merging>,
}

/// For upserts: from the staging table into the target.
#[derive(Clone)]
pub(crate) struct Merging {
    pub(crate) merge: Statement,
    pub(crate) clear: Statement,
}

/// A connection with what is prepared on it. It is not used again after a failure.
pub(crate) struct Session {
    pub(crate) client: Client,
    connection: JoinHandle<()>,
    statements: HashMap<String, Statement>,
    copying: HashMap<Vec<String>, Copying>,
}

impl Session {
    /// Connects.
    pub(crate) async fn open(server: &Server) -> Result<Self, Failure> {
        let opening = async {
            let (client, connection) = server.connect().await?;
            let session = Self { client, connection, statements: HashMap::new(), copying: HashMap::new() };
            match session.client.batch_execute(&server.settings).await {
                Ok(()) => Ok(session),
                Err(error) => {
                    session.cut();
                    Err(error.into())
                }
            }
        };
        let opened = tokio::time::timeout(CONNECTS_WITHIN, opening).await;
        opened.unwrap_or_else(|_| Err(Failure::transient(format!("connecting took longer than {CONNECTS_WITHIN:?}"))))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Ends it at once, with whatever is under way on it: the server rolls that back.
    pub(crate) fn cut(self) {
        self.connection.abort();
    }

    /// Prepares a statement, once.
    pub(crate) async fn statement(&mut self, text: &str) -> Result<Statement, Failure> {
        if let Some(statement) = self.statements.get(text) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(text).await?;
        self.statements.insert(text.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Prepares what brings rows of these columns in, once. Not inside a transaction, which might take the staging table
    /// with it.
    pub(super) async fn copying(
        &mut self,
        target: &TableName,
        upsert: Option<&Upsert>,
        columns: &[String],
    ) -> Result<Copying, Failure> {
        if let Some(copying) = self.copying.get(columns) {
            return Ok(copying.clone());
        }
        let copying = match upsert {
            None => {
                let copy = self.client.prepare(&sql::copy(&target.sql(), columns)).await?;
                Copying { copy, relation: target.table.as_str().into(), merging: None }
            }
            Some(upsert) => {
                let number = self.copying.len();
                let staging = sql::staging(number);
                self.client.batch_execute(&sql::create_staging(&staging, target, columns)).await?;
                let copy = self.client.prepare(&sql::copy(&staging, columns)).await?;
                let merge = self.client.prepare(&sql::merge(target, &staging, columns, upsert)).await?;
                let clear = self.client.prepare(&sql::clear(&staging)).await?;
                let relation = format!("shardflow_staging_{number}").into();
                Copying { copy, relation, merging: Some(Merging { merge, clear }) }
            }
        };
        self.copying.insert(columns.to_vec(), copying.clone());
        Ok(copying)
    }
}

/// What a connection needs, whatever the database or the role has for defaults.
pub(crate) fn settings(call_timeout: Duration) -> String {
    let call = call_timeout.as_millis();
    let idle = call_timeout.min(IDLES_WITHIN).as_millis();
    format!(
        // Times without a zone are UTC, and dates read the same everywhere.
        "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, MDY'; SET client_min_messages = 'warning'; \
         SET statement_timeout = {call}; \
         SET lock_timeout = '10s'; \
         SET idle_in_transaction_session_timeout = {idle}; \
         SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; \
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
}
