//! Writes each committed record to a table in PostgreSQL exactly once.
//!
//! *Enters*: records, worker by worker. *Leaves*: rows, which appear all together when their epoch is committed. *Survives a
//! crash*: everything committed, nothing else; of this process, of the server, and of the way between them at any moment.
//!
//! # Staging
//! A record becomes a row in memory when it is staged. When its epoch closes, the rows go with the handle into the engine's
//! durable batch; the server sees nothing of them before. So an epoch's rows have to fit in memory, and are written to disk
//! once on this machine, compressed.
//!
//! # Committing
//! One transaction a call brings the rows with `COPY` and moves the *marker*, a row of the table `shardflow_commits` that says
//! for each job and step through which epoch everything is committed. Rows and marker cannot come apart. When the answer to
//! a `COMMIT` is lost, the marker tells on the next connection whether it happened.
//!
//! Each start writes its incarnation into the marker before anything else. An older start that is still alive somewhere finds
//! another incarnation there and can commit no more.
//!
//! # On recovery
//! | found | done |
//! |---|---|
//! | a committed handle, the marker before its epoch | its rows are committed |
//! | a committed handle, the marker at or past its epoch | nothing: it was committed before the crash |
//! | a committed handle, no marker | an error: another database, or the marker was removed |
//! | a marker of a later start | an error: that start has taken over |
//! | a marker beyond the last committed epoch | an error: the state is older than its output, going on would repeat it |
//!
//! # Rows that the server refuses
//! A bad value, a constraint, a trigger that raises an exception: the transaction is repeated in pieces under savepoints until
//! each such row is found. It goes, in the same transaction, to the table of [`PostgresSink::rejected_to_table`]; without one
//! the job stops, and the error shows the row. The other rows are none the worse.
//!
//! # What is checked at the start
//! That the table is one that keeps rows, that it has the columns, none is missing that must be written, upserts have their
//! index, and this user has the rights on each column that it needs. Not that values fit the columns' types: what a record writes
//! is only known from the first one on, and what does not fit then is a row that the server refuses.
//!
//! # What it does not promise
//! It trusts the server to keep what a `COMMIT` confirmed. Where a replica takes over that has lost commits, it has lost the
//! marker with them, but the engine does not send those epochs again. It needs a connection of its own: a pooler in
//! transaction mode takes prepared statements and temporary tables away from it. Where rows refer to others of the same table,
//! and one of an epoch is refused, a row that comes before the one that it refers to may be refused as well.

pub(crate) mod cell;
mod committer;
pub(crate) mod dsn;
pub(crate) mod failure;
pub(crate) mod fields;
pub(crate) mod handle;
pub(crate) mod link;
pub(crate) mod marker;
pub(crate) mod name;
mod open;
pub(crate) mod row;
mod scalar;
mod schema;
pub(crate) mod session;
mod settings;
mod sql;
mod tls;
mod transaction;
mod writer;

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use shardflow::sink::{Committer, Sink, SinkContext, SinkWriter};
use shardflow::{Error, Result};

use cell::Form;
use committer::RowCommitter;
use row::Layout;
use settings::{Settings, Table};
use writer::RowWriter;

/// Where a password comes from, each time that a connection is made.
pub(crate) type Password = Arc<dyn Fn() -> Result<String, Box<dyn StdError + Send + Sync>> + Send + Sync>;

/// A PostgreSQL server (12 or newer), by a connection string: a URL or key-value pairs, as `libpq` has them.
///
/// `sslmode` is `disable`, `prefer`, `require` or `verify-full`. Left out it is `require`, except for servers on this machine:
/// there it is `disable`. `require` verifies the server's certificate and name like `verify-full`, against the certificates of
/// `sslrootcert` or else those that the system trusts.
///
/// # Examples
/// ```
/// use serde::Serialize;
/// use shardflow_sinks::postgres;
///
/// #[derive(Serialize)]
/// struct Charge {
///     account: String,
///     hour: u64,
///     cents: i64,
///     usage: Vec<(String, u64)>,
/// }
///
/// let server = postgres("postgres://billing@db.example.com/billing?sslrootcert=/etc/rds.pem").password("hunter2");
/// // Each column by itself…
/// let charges = server
///     .table("charges")
///     .column("account", |charge: &Charge| &charge.account)
///     .value("at", |charge| format!("epoch {}", charge.hour * 3600))
///     .column("cents", |charge| &charge.cents)
///     .json("usage", |charge| &charge.usage)
///     .rejected_to_table("charges_rejected");
/// assert!(!format!("{charges:?}").contains("hunter2"));
/// // …or by the names of the record's fields; a correction overwrites what it corrects.
/// let totals = server.table::<Charge>("billing.totals").fields(["account", "hour", "cents"]).upsert_by(["account", "hour"]);
/// assert!(format!("{totals:?}").contains("database \"billing\" at db.example.com:5432"));
/// ```
pub fn postgres(connection: impl Into<String>) -> Postgres {
    Postgres { connection: connection.into(), password: None, roots: None }
}

/// A PostgreSQL server. Made by [`postgres`](postgres()); [`table`](Self::table) makes a sink of it.
#[derive(Clone)]
pub struct Postgres {
    pub(crate) connection: String,
    pub(crate) password: Option<Password>,
    pub(crate) roots: Option<PathBuf>,
}

impl Postgres {
    /// The password, in place of one in the connection string.
    #[must_use]
    pub fn password(self, password: impl Into<String>) -> Self {
        let password = password.into();
        self.password_from(move || Ok(password.clone()))
    }

    /// Asks for the password each time that a connection is made: for tokens that expire, as IAM gives them. The error's text
    /// is told in logs and errors.
    #[must_use]
    pub fn password_from(
        mut self,
        password: impl Fn() -> Result<String, Box<dyn StdError + Send + Sync>> + Send + Sync + 'static,
    ) -> Self {
        self.password = Some(Arc::new(password));
        self
    }

    /// A file (PEM) of the certificates to trust, in place of `sslrootcert` in the connection string.
    #[must_use]
    pub fn root_certificates(mut self, file: impl Into<PathBuf>) -> Self {
        self.roots = Some(file.into());
        self
    }

    /// A sink that writes to this table: `table` or `schema.table`, in upper and lower case as the database has it. A name with a
    /// dot in it stands between double quotes.
    #[must_use]
    pub fn table<T>(&self, name: impl Into<String>) -> PostgresSink<T> {
        PostgresSink { server: self.clone(), table: Table::new(name.into()), layout: Layout::new() }
    }
}

impl Postgres {
    /// A table of it, as far as the settings say. Where they cannot be read, neither is shown: what is given may have a password in
    /// it, and not where one would look for it.
    pub(crate) fn describe(&self, table: &str) -> String {
        match dsn::parse(&self.connection) {
            Ok(dsn) => format!("table \"{table}\" in {}", dsn.place()),
            Err(_) => "a table of a database whose connection string cannot be read".to_owned(),
        }
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The string may have a password in it, and not where one would look for it.
        let place = dsn::parse(&self.connection).map_or_else(|_| "unreadable".to_owned(), |dsn| dsn.place());
        f.debug_struct("Postgres")
            .field("place", &format_args!("{place}"))
            .field("roots", &self.roots)
            .finish_non_exhaustive()
    }
}

/// A table in PostgreSQL. Made by [`Postgres::table`].
///
/// A value becomes what its `Serialize` says: numbers, truth values and text as they are (timestamps and decimals are text
/// as a rule; a time without a zone is UTC), `None` becomes NULL, bytes go to `bytea`, and whatever has an inside (structs,
/// lists, maps) becomes JSON text.
pub struct PostgresSink<T> {
    server: Postgres,
    table: Table,
    layout: Layout<T>,
}

impl<T> Clone for PostgresSink<T> {
    fn clone(&self) -> Self {
        Self { server: self.server.clone(), table: self.table.clone(), layout: self.layout.clone() }
    }
}

impl<T> PostgresSink<T> {
    /// Writes a column from a part of the record.
    #[must_use]
    pub fn column<V>(mut self, name: impl Into<String>, part: impl Fn(&T) -> &V + Send + Sync + 'static) -> Self
    where
        V: Serialize + ?Sized,
    {
        self.layout.column(name.into(), move |record, out| cell::write(part(record), out));
        self
    }

    /// Writes a column from a value that is computed.
    #[must_use]
    pub fn value<V: Serialize>(
        mut self,
        name: impl Into<String>,
        value: impl Fn(&T) -> V + Send + Sync + 'static,
    ) -> Self {
        self.layout.column(name.into(), move |record, out| cell::write(&value(record), out));
        self
    }

    /// Writes a `json` or `jsonb` column from a part of the record, as JSON even where it is one text. What would be `null`
    /// becomes NULL.
    #[must_use]
    pub fn json<V>(mut self, name: impl Into<String>, part: impl Fn(&T) -> &V + Send + Sync + 'static) -> Self
    where
        V: Serialize + ?Sized,
    {
        self.layout.column(name.into(), move |record, out| cell::write_json(part(record), out));
        self
    }

    /// Writes columns from the record's fields of these names, as serde has them. The record is a struct, or a map with text
    /// for keys, where a key that is missing is NULL.
    #[must_use]
    pub fn fields(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self
    where
        T: Serialize,
    {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let taken = names.clone();
        self.layout.columns(&names, move |record, out| fields::write(record, &taken, Form::Copy, out));
        self
    }

    /// Overwrites the row that has the same values in these columns, in place of adding one. They are NOT NULL, and a unique
    /// index is on exactly them. Of several records of one key in an epoch the last counts, so records of one key must come
    /// to the sink on one worker, as they do behind `key_by`.
    #[must_use]
    pub fn upsert_by(mut self, keys: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.table.keys = Some(keys.into_iter().map(Into::into).collect());
        self
    }

    /// For upserts: only a row with a greater value in this column overwrites another. The column is NOT NULL.
    #[must_use]
    pub fn guarded_by(mut self, column: impl Into<String>) -> Self {
        self.table.guard = Some(column.into());
        self
    }

    /// Where rows go that the server refuses for good: `at`, `job`, `step`, `error`, and the `row` as JSON. The table is made
    /// at the start if it is missing. Without this setting such a row stops the job.
    #[must_use]
    pub fn rejected_to_table(mut self, name: impl Into<String>) -> Self {
        self.table.rejected = Some(name.into());
        self
    }

    /// The table that says through which epoch each job and step has committed, in the same database; by default
    /// `shardflow_commits`, in the first schema of the user's search path. It is made at the start if it is missing.
    #[must_use]
    pub fn commits_table(mut self, name: impl Into<String>) -> Self {
        self.table.commits = name.into();
        self
    }

    /// Tells copies of one job apart that share its work and write to one table: each has a name of its own, which stays the
    /// same over all its starts.
    #[must_use]
    pub fn copy_name(mut self, name: impl Into<String>) -> Self {
        self.table.copy = Some(name.into());
        self
    }

    /// After how long of nothing but failures the job fails; 5 min by default. At the start it is 1 min at most.
    #[must_use]
    pub fn give_up_after(mut self, time: Duration) -> Self {
        self.table.give_up_after = time;
        self
    }

    /// How long one transaction may take, at least 1 s; 2 min by default. One that takes longer is given up and repeated.
    #[must_use]
    pub fn call_timeout(mut self, time: Duration) -> Self {
        self.table.call_timeout = time;
        self
    }
}

impl<T> fmt::Debug for PostgresSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSink")
            .field("server", &self.server)
            .field("table", &self.table)
            .field("columns", &self.layout)
            .finish()
    }
}

impl<T: 'static> Sink<T> for PostgresSink<T> {
    fn committer(&self, context: &SinkContext) -> Result<Box<dyn Committer>> {
        let settings = Settings::read(&self.server, &self.table, self.layout.names(), context);
        let opened = settings.and_then(|settings| RowCommitter::open(settings, context));
        Ok(Box::new(opened.map_err(|error| error.in_step(context.step.as_str()))?))
    }

    fn writer(&self, context: &SinkContext, worker: usize) -> Result<Box<dyn SinkWriter<T>>> {
        let settings = Settings::read(&self.server, &self.table, self.layout.names(), context);
        let settings = settings.map_err(|error| error.in_step(context.step.as_str()))?;
        let worker = u32::try_from(worker)
            .map_err(|cause| Error::config(format!("worker {worker} is too many")).caused_by(cause))?;
        Ok(Box::new(RowWriter {
            layout: self.layout.clone(),
            table: settings.target.table,
            sets_aside: settings.target.rejected.is_some(),
            step: context.step.as_str().to_owned(),
            incarnation: context.incarnation.number(),
            worker,
            rows: Vec::new(),
            count: 0,
            set_aside: Vec::new(),
        }))
    }

    fn describe(&self) -> String {
        self.server.describe(&self.table.name)
    }
}
