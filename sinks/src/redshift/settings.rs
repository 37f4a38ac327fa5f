//! What the user has set, checked. Pure but for the way to the bucket, which is found last.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use object_store::ObjectStore;
use shardflow::sink::SinkContext;
use shardflow::vocabulary::Incarnation;
use shardflow::{Epoch, Error, Result};

use super::load::Target;
use super::sql::{self, ROW_NUMBER};
use super::staging::Staging;
use super::{Direct, Redshift, RunCopy};
use crate::objects::reach::Reach;
use crate::postgres::Password;
use crate::postgres::dsn::{self, Dsn};
use crate::postgres::marker::Owner;
use crate::postgres::name::{self, TableName};

/// The most rows that a load may leave out: `MAXERROR` goes to 100,000, and fails where it is reached.
const MOST_ERRORS: u32 = 99_999;

/// The longest URL of a file, in bytes: `filename` in `stl_load_errors`, as `file_name` in `sys_load_error_detail`, is a
/// `character(256)`. A longer one would come back cut, and be taken for a file that was never loaded.
const LONGEST_URL: usize = 256;

/// A shorter time would not let a load succeed.
const SHORTEST_CALL: Duration = Duration::from_secs(1);

/// What the user says of a table.
#[derive(Clone)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) staged_in: Option<String>,
    pub(super) store: Option<Arc<dyn ObjectStore>>,
    pub(super) endpoint: Option<String>,
    pub(super) sdk_config: Option<SdkConfig>,
    pub(super) options: Vec<(String, String)>,
    pub(super) iam_role: Option<String>,
    /// The bucket's, to the staging as to `COPY`.
    pub(super) region: Option<String>,
    pub(super) keys: Option<Vec<String>>,
    pub(super) rejected: Option<String>,
    pub(super) max_errors: u32,
    pub(super) loads: String,
    pub(super) copy: Option<String>,
    pub(super) keeps_files: bool,
    pub(super) give_up_after: Duration,
    pub(super) call_timeout: Duration,
    pub(super) run_copy: Arc<dyn RunCopy>,
}

impl Table {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            staged_in: None,
            store: None,
            endpoint: None,
            sdk_config: None,
            options: Vec::new(),
            iam_role: None,
            region: None,
            keys: None,
            rejected: None,
            max_errors: MOST_ERRORS,
            loads: "shardflow_loads".to_owned(),
            copy: None,
            keeps_files: false,
            give_up_after: Duration::from_secs(5 * 60),
            call_timeout: Duration::from_secs(15 * 60),
            run_copy: Arc::new(Direct),
        }
    }

    fn reach(&self) -> Reach<'_> {
        let Self { endpoint, region, sdk_config, options, .. } = self;
        let (endpoint, region) = (endpoint.as_deref(), region.as_deref());
        Reach { endpoint, region, sdk_config: sdk_config.as_ref(), options }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options: Vec<&String> = self.options.iter().map(|(name, _)| name).collect();
        f.debug_struct("Table")
            .field("name", &self.name)
            .field("staged_in", &self.staged_in.as_deref().map(Staging::shown))
            .field("staging_options", &options)
            .field("keys", &self.keys)
            .field("rejected", &self.rejected)
            .field("loads", &self.loads)
            .finish_non_exhaustive()
    }
}

/// The settings of a start.
pub(super) struct Settings {
    pub(super) dsn: Dsn,
    pub(super) password: Option<Password>,
    pub(super) columns: Vec<String>,
    pub(super) target: Target,
    pub(super) staging: Staging,
    pub(super) keeps_files: bool,
    pub(super) give_up_after: Duration,
    pub(super) call_timeout: Duration,
    pub(super) run_copy: Arc<dyn RunCopy>,
}

impl Settings {
    /// Checks what the user has set.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](shardflow::ErrorKind::Config); [`ErrorKind::Sink`](shardflow::ErrorKind::Sink) where the bucket's
    /// credentials took too long.
    pub(super) fn read(cluster: &Redshift, table: &Table, columns: &[String], context: &SinkContext) -> Result<Self> {
        let mut dsn = dsn::parse(&cluster.server.connection)?;
        if let Some(roots) = &cluster.server.roots {
            dsn.roots = Some(roots.clone());
        }
        check_columns(columns)?;
        let job = match &table.copy {
            Some(copy) => format!("{}@{copy}", context.job),
            None => context.job.clone(),
        };
        let step = context.step.as_str().to_owned();
        for name in [&job, &step] {
            sql::literal(name)?;
        }
        let url = table.staged_in.as_deref();
        let url =
            url.ok_or_else(|| Error::config("nothing says where files are staged: name a place with staged_in"))?;
        let target = Target {
            table: table_name(&table.name)?,
            keys: keys(table.keys.as_deref(), columns)?,
            rejected: table.rejected.as_deref().map(table_name).transpose()?,
            owner: Owner { job, step, incarnation: context.incarnation, table: table_name(&table.loads)? },
            access: access(table.iam_role.as_deref(), table.region.as_deref())?,
            max_errors: max_errors(table)?,
            is_serverless: cluster.is_serverless,
        };
        check_tables(&target)?;
        let opening = Staging::open(url, table.store.clone(), table.reach(), &target.owner.job, &target.owner.step);
        let staging = context.runtime.block_on(opening)?;
        check_urls(&staging)?;
        Ok(Self {
            dsn,
            password: cluster.server.password.clone(),
            columns: columns.to_vec(),
            target,
            staging,
            keeps_files: table.keeps_files,
            give_up_after: table.give_up_after,
            call_timeout: table.call_timeout.max(SHORTEST_CALL),
            run_copy: Arc::clone(&table.run_copy),
        })
    }
}

fn table_name(text: &str) -> Result<TableName> {
    let name = TableName::parse(text).and_then(|name| {
        let is_lower = |text: &str| text == text.to_ascii_lowercase();
        match is_lower(&name.table) && name.schema.as_deref().is_none_or(is_lower) {
            true => Ok(name),
            false => Err("Redshift has names in lower case".to_owned()),
        }
    });
    name.map_err(|why| Error::config(format!("\"{}\" is no name of a table: {why}", text.escape_debug())))
}

fn check_columns(columns: &[String]) -> Result<()> {
    if columns.is_empty() {
        return Err(Error::config("no column is written: name some with column, value or fields"));
    }
    for (index, column) in columns.iter().enumerate() {
        let refuse =
            |why: &str| Err(Error::config(format!("\"{}\" is no name of a column: {why}", column.escape_debug())));
        if let Err(why) = name::check(column) {
            return refuse(&why);
        }
        if *column != column.to_ascii_lowercase() {
            // A key in another case would be found nowhere, and its column be NULL without a word.
            return refuse("Redshift has names in lower case");
        }
        if column == ROW_NUMBER {
            return refuse("the sink uses it itself");
        }
        if columns.iter().skip(index.saturating_add(1)).any(|other| other == column) {
            return Err(Error::config(format!("column \"{column}\" is written twice")));
        }
    }
    Ok(())
}

fn keys(keys: Option<&[String]>, columns: &[String]) -> Result<Option<Vec<String>>> {
    let Some(keys) = keys else { return Ok(None) };
    if keys.is_empty() {
        return Err(Error::config("upsert_by names no keys"));
    }
    match keys.iter().find(|key| !columns.contains(key)) {
        Some(missing) => Err(Error::config(format!("column \"{missing}\" decides about upserts and is not written"))),
        None => Ok(Some(keys.to_vec())),
    }
}

/// How Redshift reaches the bucket, as SQL says it.
fn access(iam_role: Option<&str>, region: Option<&str>) -> Result<String> {
    let role = match iam_role {
        None => "default".to_owned(),
        Some(arn) if arn.starts_with("arn:") => sql::literal(arn)?,
        Some(_) => return Err(Error::config("the IAM role is no ARN")),
    };
    let region = region.map(|name| Ok::<_, Error>(format!(" REGION {}", sql::literal(name)?))).transpose()?;
    Ok(format!("IAM_ROLE {role}{}", region.unwrap_or_default()))
}

fn max_errors(table: &Table) -> Result<u32> {
    if table.max_errors > MOST_ERRORS {
        let rows = table.max_errors;
        return Err(Error::config(format!("a load may leave out {MOST_ERRORS} rows at most, and not {rows}")));
    }
    Ok(if table.rejected.is_some() { table.max_errors } else { 0 })
}

/// The URLs of a writer's files are no longer than Redshift tells them, however far the numbers in their names come.
fn check_urls(staging: &Staging) -> Result<()> {
    const EPOCHS: u64 = 9_999_999_999_999;
    let longest = staging.url(&staging.file(Incarnation::new(u32::MAX.into()), Epoch::new(EPOCHS), 99_999, 9_999));
    let Some(more) = longest.len().checked_sub(LONGEST_URL).filter(|more| *more > 0) else { return Ok(()) };
    Err(Error::config(format!(
        "files would be staged under URLs of up to {} bytes, and Redshift tells of refused rows by {LONGEST_URL} bytes of them: the \
         prefix of staged_in, with the names of the job and this step, has to be {more} bytes shorter; such a URL is {longest}",
        longest.len()
    )))
}

/// Rows, rejected rows and loads are three things.
fn check_tables(target: &Target) -> Result<()> {
    let all = [Some(&target.table), target.rejected.as_ref(), Some(&target.owner.table)];
    let all: Vec<&TableName> = all.into_iter().flatten().collect();
    for (index, table) in all.iter().enumerate() {
        if all.iter().skip(index.saturating_add(1)).any(|other| other == table) {
            return Err(Error::config(format!(
                "table \"{table}\" cannot be two things: rows, rejected rows and loads go apart"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn columns_are_in_lower_case_and_written_once() {
        check_columns(&names(&["a", "b"])).unwrap();
        for (columns, what) in [
            (&[][..], "no column is written"),
            (&["a", "a"], "written twice"),
            (&["Account"], "lower case"),
            (&["shardflow_row"], "uses it itself"),
            (&[""], "a name is empty"),
        ] {
            let error = check_columns(&names(columns)).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
        assert!(table_name("billing.Charges").is_err());
    }

    #[tokio::test]
    async fn a_prefix_is_as_long_as_redshift_tells_urls() {
        let open = async |prefix: usize| {
            let store: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
            let url = format!("s3://staging/{}", "x".repeat(prefix));
            let staging = Staging::open(&url, Some(store), Reach::default(), "billing", "charges").await.unwrap();
            check_urls(&staging).map_err(|error| error.to_string())
        };
        // Beside it there are s3://staging/, /billing/charges/, and the longest name of a file.
        let fits = LONGEST_URL
            - "s3://staging/".len()
            - "/billing/charges/".len()
            - "4294967295-9999999999999-99999-9999.json.gz".len();
        assert_eq!(open(fits).await, Ok(()));
        let error = open(fits + 3).await.unwrap_err();
        assert!(error.contains("URLs of up to 259 bytes") && error.contains("has to be 3 bytes shorter"), "{error}");
    }

    #[test]
    fn the_bucket_is_reached_by_a_role() {
        assert_eq!(access(None, None).unwrap(), "IAM_ROLE default");
        let access_of = access(Some("arn:aws:iam::1:role/x"), Some("eu-west-1")).unwrap();
        assert_eq!(access_of, "IAM_ROLE 'arn:aws:iam::1:role/x' REGION 'eu-west-1'");
        assert!(access(Some("x"), None).is_err());
        assert!(access(None, Some("\\")).is_err());
    }

    #[test]
    fn bad_rows_are_left_out_only_where_they_have_a_place_to_go() {
        let table = Table::new("t".to_owned());
        assert_eq!(max_errors(&table).unwrap(), 0);
        assert_eq!(max_errors(&Table { rejected: Some("r".to_owned()), ..table.clone() }).unwrap(), 99_999);
        assert!(max_errors(&Table { max_errors: 100_000, ..table }).is_err());
    }
}
