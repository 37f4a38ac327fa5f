//! Loads files from S3 into a table in Amazon Redshift exactly once: the protocol of the loads, without the staging of files.
//!
//! *Enters*: files of committed epochs, each complete on S3 under a name that never repeats. *Leaves*: their rows, all of a load
//! together. *Survives a crash*: at any moment, a file whose rows are in the table has its name in the table of loads, and the
//! other way round, since one transaction writes both.
//!
//! # Committing
//! Redshift enforces no constraint, so nothing here relies on one. A load is one transaction: lock the table of loads, look
//! which files it does not name yet, write down their names, `COPY` them by a manifest, commit. The lock makes loads come one
//! after the other. Where the answer to the commit is lost, the same load is made again, and finds the names or does not.
//!
//! Each start writes down its incarnation first, as a row without a file. An older start that is still alive finds it, and
//! loads nothing more.
//!
//! # Rows that Redshift refuses
//! With [`Load::max_errors`] a `COPY` leaves out bad rows, up to so many, and the rest is loaded. They are not lost silently:
//! [`bad_rows`] is what to ask on the same connection afterwards. Columnar files have no such setting: one bad row fails the load
//! (Amazon Redshift Developer Guide, "COPY from columnar data formats").

mod manifest;
mod protocol;
mod sql;

use shardflow::sink::SinkContext;
use shardflow::{Epoch, Error, Result};

pub use manifest::manifest;
pub use protocol::{load, take_over};
pub use sql::bad_rows;

use crate::postgres::marker::Owner;
use crate::postgres::name::{self, TableName};

/// The most rows that a load may leave out: `MAXERROR` goes to 100,000, and fails where it is reached.
const MOST_ERRORS: u32 = 99_999;

/// A file on S3 that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedFile {
    /// `s3://bucket/key`.
    pub url: String,
    /// Its length, in bytes.
    pub bytes: u64,
    /// The epoch in which it was prepared.
    pub epoch: Epoch,
}

/// What files are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// A JSON object a line, fields by the names of columns.
    Json,
    /// Comma-separated values, in the order of the columns.
    Csv,
    /// Avro, fields by the names of columns.
    Avro,
    /// Parquet, in the order of the columns.
    Parquet,
}

/// What kind of Redshift it is: they keep bad rows in different places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deployment {
    /// A provisioned cluster.
    Provisioned,
    /// Serverless.
    Serverless,
}

/// The loads of one step of one start of a job.
///
/// # Examples
/// ```
/// use shardflow_sinks::redshift::{FileFormat, Load};
/// # let runtime = tokio::runtime::Runtime::new()?;
/// # let context = shardflow::sink::SinkContext {
/// #     job: "billing".into(), step: "charges".into(), incarnation: shardflow::vocabulary::Incarnation::new(1),
/// #     committed: None, workers: 1, folder: "/tmp".into(), runtime: runtime.handle().clone(),
/// # };
/// let load = Load::new(&context, "billing.charges", ["account", "cents"])?
///     .iam_role("arn:aws:iam::123456789012:role/loads")?
///     .format(FileFormat::Json)
///     .max_errors(10)?;
/// assert_eq!(
///     load.copy("s3://staging/load-7.manifest")?,
///     "COPY \"billing\".\"charges\" (\"account\", \"cents\") FROM 's3://staging/load-7.manifest' \
///      IAM_ROLE 'arn:aws:iam::123456789012:role/loads' FORMAT AS JSON 'auto' TIMEFORMAT 'auto' MANIFEST MAXERROR 11"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Load {
    owner: Owner,
    target: TableName,
    columns: Vec<String>,
    /// As SQL writes it.
    iam_role: String,
    format: FileFormat,
    max_errors: u32,
}

impl Load {
    /// Loads columns of `table` (`table` or `schema.table`), from JSON files, with the cluster's default role, and without bad rows.
    /// Names down what was loaded in `shardflow_loads`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](shardflow::ErrorKind::Config): names that Redshift cannot have.
    pub fn new(
        context: &SinkContext,
        table: &str,
        columns: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self> {
        let columns: Vec<String> = columns.into_iter().map(Into::into).collect();
        for column in &columns {
            name::check(column).map_err(|why| refuse("column", column, &why))?;
        }
        if columns.is_empty() {
            return Err(Error::config("no column is loaded"));
        }
        let (job, step) = (context.job.clone(), context.step.as_str().to_owned());
        sql::literal(&job)?;
        sql::literal(&step)?;
        let owner = Owner { job, step, incarnation: context.incarnation, table: table_name("shardflow_loads")? };
        let target = table_name(table)?;
        Ok(Self { owner, target, columns, iam_role: "default".to_owned(), format: FileFormat::Json, max_errors: 0 })
    }

    /// The table of loads, in the same database.
    ///
    /// # Errors
    /// That is no name of a table.
    pub fn loads_table(mut self, name: &str) -> Result<Self> {
        self.owner.table = table_name(name)?;
        Ok(self)
    }

    /// The role that reads the files; by default the one that is the cluster's default.
    ///
    /// # Errors
    /// That is no ARN.
    pub fn iam_role(mut self, arn: &str) -> Result<Self> {
        if !arn.starts_with("arn:") {
            return Err(refuse("IAM role", arn, "it is no ARN"));
        }
        self.iam_role = sql::literal(arn)?;
        Ok(self)
    }

    /// What the files are made of.
    #[must_use]
    pub fn format(mut self, format: FileFormat) -> Self {
        self.format = format;
        self
    }

    /// How many bad rows a load may leave out, 99,999 at most; none by default. Not for Parquet. As Redshift loads in parallel,
    /// a few more may be left out.
    ///
    /// # Errors
    /// Too many.
    pub fn max_errors(mut self, rows: u32) -> Result<Self> {
        if rows > MOST_ERRORS {
            return Err(Error::config(format!("a load may leave out {MOST_ERRORS} rows at most, and not {rows}")));
        }
        self.max_errors = rows;
        Ok(self)
    }
}

fn refuse(what: &str, name: &str, why: &str) -> Error {
    Error::config(format!("could not use {what} \"{}\": {why}", name.escape_debug()))
}

fn table_name(text: &str) -> Result<TableName> {
    TableName::parse(text).map_err(|why| refuse("table", text, &why))
}
