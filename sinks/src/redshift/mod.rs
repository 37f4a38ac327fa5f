//! Writes each committed record to a table in Amazon Redshift exactly once, by files on S3 and `COPY`.
//!
//! *Enters*: records, worker by worker. *Leaves*: rows, which appear all together when their epoch is committed. *Survives a
//! crash*: everything committed, nothing else; of this process, of the cluster, and of the way to it and to S3 at any moment.
//!
//! # Staging
//! A record becomes a line of JSON, compressed in memory as it is staged. When its epoch closes, the worker's file is put on S3
//! under a name that never repeats, and its key goes with the handle into the engine's durable batch. A load takes Redshift
//! seconds, so such a job has epochs of a minute or more; of each worker a whole epoch, compressed, has to fit in memory.
//!
//! # Committing
//! Redshift enforces no key, so nothing here relies on one. A load is one transaction: lock the table of loads
//! (`shardflow_loads`), see through which epoch everything is loaded, `COPY` the files that are due by a manifest, write down their
//! names with their epochs, commit. The lock makes loads come one after the other: of all jobs that share this table.
//! When the answer to a `COMMIT` is lost, the table of loads tells on the next connection whether it happened. Loaded files are
//! removed from S3 afterwards, and what a crash left there at the next start.
//!
//! Each start writes its incarnation down before anything else. An older start that is still alive somewhere finds it there, and
//! loads nothing more.
//!
//! # On recovery
//! As for the sink `postgres`: what is due is loaded, what the table of loads counts is not loaded again, and a later start, a
//! state that is older than its output, or rows whose marker is gone are errors.
//!
//! # Rows that Redshift refuses
//! With [`RedshiftSink::rejected_to_table`] a `COPY` leaves out bad rows, up to [`RedshiftSink::max_errors`]. Each is read out of
//! its file again and goes, in the same transaction, to that table with the reason; and the transaction is not committed unless
//! the rows that were loaded and those that were found make up all that there were. Without it one bad row fails the load, and
//! the job stops with an error that names it.
//!
//! Redshift names the file of a refused row by 256 bytes of its URL, so a start whose files could have longer ones is refused.
//!
//! # A process that stands still
//! One that is stopped in the middle of a load, and not killed, keeps the lock, and so does one whose machine is gone until Redshift
//! notices. A new start waits for it, and fails after [`RedshiftSink::give_up_after`]. PostgreSQL would be told to end a transaction
//! that idles; Redshift has no such setting of a session, and only `statement_timeout` is set here. What an administrator can do:
//! give the user of the loads a limit, `ALTER USER loader SESSION TIMEOUT 1800` (seconds without a statement, at least 60; the waits
//! inside of a load are for S3 and last seconds); or look for the lock in `svv_transactions` and end its session with
//! `pg_terminate_backend(pid)`, which rolls its load back. Nothing is lost or loaded twice by either.
//!
//! # What it has run on
//! Never on Redshift, which cannot be had on a machine of one's own. Its tests run on PostgreSQL, with a stand-in that does what a
//! `COPY … MANIFEST` says by inserts, and tells of refused rows as `stl_load_errors` does. So the protocol is run: its locks, crashes,
//! lost answers. The statements are what Redshift's documentation has, held word by word in tests. What no test can show is that
//! Redshift takes each of them: load a copy of a table first.
//!
//! # Columns
//! A value becomes what its `Serialize` says: lists, maps and structs are for `SUPER` columns. Redshift finds columns by the JSON
//! keys, which are their names; so these are in lower case here. An inner NaN becomes NULL, since JSON has none; a column of its own
//! is text, which Redshift reads.

mod answer;
mod committer;
mod handle;
mod load;
mod manifest;
mod open;
mod settings;
mod sql;
mod staging;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use object_store::ObjectStore;
use serde::Serialize;
use shardflow::sink::{Committer, Sink, SinkContext, SinkWriter};
use shardflow::source::BoxFuture;
use shardflow::{Error, Result};
use tokio_postgres::Client;

use crate::postgres::cell::Form;
use crate::postgres::row::Layout;
use crate::postgres::{Postgres, fields, postgres};
use committer::LoadCommitter;
use settings::{Settings, Table};
use staging::Staging;
use writer::FileWriter;

/// A Redshift cluster or workgroup, by a connection string as [`postgres`](crate::postgres()) takes it.
///
/// # Examples
/// ```
/// use serde::Serialize;
/// use shardflow_sinks::redshift;
///
/// #[derive(Serialize)]
/// struct Charge {
///     account: String,
///     hour: u64,
///     cents: i64,
///     usage: Vec<(String, u64)>,
/// }
///
/// let cluster = redshift("postgres://loader@billing.abc.eu-west-1.redshift.amazonaws.com:5439/billing").password("hunter2");
/// let charges = cluster
///     .table::<Charge>("billing.charges")
///     .staged_in("s3://staging/redshift")
///     .iam_role("arn:aws:iam::123456789012:role/loads")
///     .fields(["account", "hour", "cents", "usage"])
///     .rejected_to_table("billing.charges_rejected");
/// assert!(format!("{charges:?}").contains("s3://staging/redshift"));
/// assert!(!format!("{charges:?}").contains("hunter2"));
/// ```
pub fn redshift(connection: impl Into<String>) -> Redshift {
    Redshift { server: postgres(connection), is_serverless: false }
}

/// A Redshift cluster. Made by [`redshift`](redshift()); [`table`](Self::table) makes a sink of it.
#[derive(Debug, Clone)]
pub struct Redshift {
    server: Postgres,
    is_serverless: bool,
}

impl Redshift {
    /// The password, in place of one in the connection string.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.server = self.server.password(password);
        self
    }

    /// Asks for the password each time that a connection is made: for those that `GetClusterCredentials` gives, which expire.
    #[must_use]
    pub fn password_from(
        mut self,
        password: impl Fn() -> Result<String, Box<dyn std::error::Error + Send + Sync>> + Send + Sync + 'static,
    ) -> Self {
        self.server = self.server.password_from(password);
        self
    }

    /// A file (PEM) of the certificates to trust, in place of those that the system trusts.
    #[must_use]
    pub fn root_certificates(mut self, file: impl Into<PathBuf>) -> Self {
        self.server = self.server.root_certificates(file);
        self
    }

    /// It is Redshift Serverless, which tells of refused rows elsewhere (`sys_load_error_detail`).
    #[must_use]
    pub fn serverless(mut self) -> Self {
        self.is_serverless = true;
        self
    }

    /// A sink that writes to this table: `table` or `schema.table`.
    #[must_use]
    pub fn table<T>(&self, name: impl Into<String>) -> RedshiftSink<T> {
        RedshiftSink { cluster: self.clone(), table: Table::new(name.into()), layout: Layout::new() }
    }
}

/// A table in Redshift. Made by [`Redshift::table`].
pub struct RedshiftSink<T> {
    cluster: Redshift,
    table: Table,
    layout: Layout<T>,
}

impl<T> Clone for RedshiftSink<T> {
    fn clone(&self) -> Self {
        Self { cluster: self.cluster.clone(), table: self.table.clone(), layout: self.layout.clone() }
    }
}

impl<T> RedshiftSink<T> {
    /// Where files are staged: `s3://bucket/prefix`. Credentials, region and endpoint come from the environment, the profile, SSO or
    /// the machine's role, as the AWS SDK finds them, or from the settings.
    #[must_use]
    pub fn staged_in(mut self, url: impl Into<String>) -> Self {
        self.table.staged_in = Some(url.into());
        self
    }

    /// How the bucket of [`staged_in`](Self::staged_in) is reached, in place of all that finds it otherwise. Paths in this store are
    /// the bucket's keys.
    #[must_use]
    pub fn staging_store(mut self, store: Arc<dyn ObjectStore>) -> Self {
        self.table.store = Some(store);
        self
    }

    /// Another endpoint of the bucket's than the region's own, by which this sink reaches it: a URL. Redshift does not learn of it.
    /// Not with [`staging_store`](Self::staging_store).
    #[must_use]
    pub fn staging_endpoint(mut self, url: impl Into<String>) -> Self {
        self.table.endpoint = Some(url.into());
        self
    }

    /// An AWS configuration of the user's own for the bucket: credentials, region, endpoint. Not with
    /// [`staging_store`](Self::staging_store).
    #[must_use]
    pub fn staging_sdk_config(mut self, config: SdkConfig) -> Self {
        self.table.sdk_config = Some(config);
        self
    }

    /// An option of the bucket's store, by its name in the crate `object_store`: `aws_access_key_id`, `timeout`. Values are shown
    /// nowhere. Not with [`staging_store`](Self::staging_store).
    #[must_use]
    pub fn staging_option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.table.options.push((name.into(), value.into()));
        self
    }

    /// The role (ARN) with which Redshift reads the bucket; by default the one that is the cluster's default.
    #[must_use]
    pub fn iam_role(mut self, arn: impl Into<String>) -> Self {
        self.table.iam_role = Some(arn.into());
        self
    }

    /// The bucket's region, where it is not the cluster's, or not that of the environment.
    #[must_use]
    pub fn region(mut self, name: impl Into<String>) -> Self {
        self.table.region = Some(name.into());
        self
    }

    /// Writes a column from a part of the record.
    #[must_use]
    pub fn column<V>(mut self, name: impl Into<String>, part: impl Fn(&T) -> &V + Send + Sync + 'static) -> Self
    where
        V: Serialize + ?Sized,
    {
        self.layout.column(name.into(), move |record, out| Form::Json.write(part(record), out));
        self
    }

    /// Writes a column from a value that is computed.
    #[must_use]
    pub fn value<V: Serialize>(
        mut self,
        name: impl Into<String>,
        value: impl Fn(&T) -> V + Send + Sync + 'static,
    ) -> Self {
        self.layout.column(name.into(), move |record, out| Form::Json.write(&value(record), out));
        self
    }

    /// Writes columns from the record's fields of these names, as serde has them.
    #[must_use]
    pub fn fields(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self
    where
        T: Serialize,
    {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        let taken = names.clone();
        self.layout.columns(&names, move |record, out| fields::write(record, &taken, Form::Json, out));
        self
    }

    /// Puts a row in the place of those that have the same values in these columns, which are NOT NULL. Of several records of one
    /// key in a load the last counts, so records of one key must come to the sink on one worker, as they do behind `key_by`.
    #[must_use]
    pub fn upsert_by(mut self, keys: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.table.keys = Some(keys.into_iter().map(Into::into).collect());
        self
    }

    /// Where rows go that Redshift refuses: `at`, `job`, `step`, `error`, and the `row` as JSON, at most 60,000 bytes of it. The table
    /// is made at the start if it is missing. Without this setting such a row stops the job.
    #[must_use]
    pub fn rejected_to_table(mut self, name: impl Into<String>) -> Self {
        self.table.rejected = Some(name.into());
        self
    }

    /// How many refused rows one load may set aside; more stop the job. 99,999 by default, which is the most.
    #[must_use]
    pub fn max_errors(mut self, rows: u32) -> Self {
        self.table.max_errors = rows;
        self
    }

    /// The table that says through which epoch each job and step has loaded, in the same database; by default `shardflow_loads`. Loads
    /// of jobs that share it wait for each other.
    #[must_use]
    pub fn loads_table(mut self, name: impl Into<String>) -> Self {
        self.table.loads = name.into();
        self
    }

    /// Tells copies of one job apart that share its work and write to one table: each has a name of its own, which stays the same
    /// over all its starts.
    #[must_use]
    pub fn copy_name(mut self, name: impl Into<String>) -> Self {
        self.table.copy = Some(name.into());
        self
    }

    /// Leaves loaded files on S3.
    #[must_use]
    pub fn keep_files(mut self) -> Self {
        self.table.keeps_files = true;
        self
    }

    /// After how long of nothing but failures the job fails; 5 min by default. At the start it is 1 min at most.
    #[must_use]
    pub fn give_up_after(mut self, time: Duration) -> Self {
        self.table.give_up_after = time;
        self
    }

    /// How long one load may take; 15 min by default. One that takes longer is given up and repeated.
    #[must_use]
    pub fn call_timeout(mut self, time: Duration) -> Self {
        self.table.call_timeout = time;
        self
    }

    /// What runs a `COPY`, in place of the cluster: for tests against a server that has none from S3.
    #[doc(hidden)]
    #[must_use]
    pub fn copy_with(mut self, run: impl RunCopy) -> Self {
        self.table.run_copy = Arc::new(run);
        self
    }
}

/// Runs a `COPY` on a connection.
#[doc(hidden)]
pub trait RunCopy: Send + Sync + 'static {
    /// Runs this statement.
    fn run<'a>(&'a self, client: &'a Client, statement: &'a str) -> BoxFuture<'a, Result<(), tokio_postgres::Error>>;
}

/// The cluster does.
struct Direct;

impl RunCopy for Direct {
    fn run<'a>(&'a self, client: &'a Client, statement: &'a str) -> BoxFuture<'a, Result<(), tokio_postgres::Error>> {
        Box::pin(client.batch_execute(statement))
    }
}

impl<T> fmt::Debug for RedshiftSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedshiftSink")
            .field("cluster", &self.cluster)
            .field("table", &self.table)
            .field("columns", &self.layout)
            .finish()
    }
}

impl<T: 'static> Sink<T> for RedshiftSink<T> {
    fn committer(&self, context: &SinkContext) -> Result<Box<dyn Committer>> {
        let settings = Settings::read(&self.cluster, &self.table, self.layout.names(), context);
        let opened = settings.and_then(|settings| LoadCommitter::open(settings, context));
        Ok(Box::new(opened.map_err(|error| error.in_step(context.step.as_str()))?))
    }

    fn writer(&self, context: &SinkContext, worker: usize) -> Result<Box<dyn SinkWriter<T>>> {
        let settings = Settings::read(&self.cluster, &self.table, self.layout.names(), context);
        let settings = settings.map_err(|error| error.in_step(context.step.as_str()))?;
        let worker = u32::try_from(worker)
            .map_err(|cause| Error::config(format!("worker {worker} is too many")).caused_by(cause))?;
        Ok(Box::new(FileWriter::new(self.layout.clone(), settings, context, worker)))
    }

    fn describe(&self) -> String {
        let staged = self.table.staged_in.as_deref().map_or_else(|| "nowhere".to_owned(), Staging::shown);
        format!("{}, staged in {staged}", self.cluster.server.describe(&self.table.name))
    }
}
