//! The statements, word by word. Pure. All of them but `COPY`, `GETDATE()` and what asks for bad rows mean the same to PostgreSQL.

use std::time::Duration;

use shardflow::{Epoch, Error, Result};

use super::load::Target;
use crate::postgres::marker::Owner;
use crate::postgres::name::{TableName, quoted, quoted_list};

/// What numbers the rows of a file, in the order in which they came: text that sorts as they did, since a number of 64 bits has no
/// room for every start and every row.
pub(super) const ROW_NUMBER: &str = "shardflow_row";

/// Where the rows of an upsert lie first. Temporary.
const STAGE: &str = "shardflow_stage";

/// The columns of a table of rejected rows that are written.
pub(super) const REJECTED_COLUMNS: [&str; 4] = ["job", "step", "error", "row"];

/// The columns of the table of loads.
pub(super) const LOADS_COLUMNS: [&str; 5] = ["job", "step", "incarnation", "epoch", "file"];

/// Every transaction, its end, and its end without effect.
pub(super) const BEGIN: &str = "BEGIN";
pub(super) const COMMIT: &str = "COMMIT";
pub(super) const ROLLBACK: &str = "ROLLBACK";

/// What a connection needs, whatever the user has for defaults. Redshift has no setting by which a session would limit how long it
/// idles in a transaction.
pub(super) fn on_connection(call_timeout: Duration) -> String {
    format!("SET statement_timeout = {}", call_timeout.as_millis())
}

/// A text between quotes. Redshift may take a backslash for the beginning of something, so there must not be any.
pub(super) fn literal(text: &str) -> Result<String> {
    if text.contains(['\\', '\0']) {
        return Err(Error::config(format!("\"{}\" holds a backslash or a NUL", text.escape_debug())));
    }
    Ok(format!("'{}'", text.replace('\'', "''")))
}

/// The table of loads. It has no key, since Redshift would not enforce it.
pub(super) fn create_loads(table: &TableName) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {} (job varchar(256) NOT NULL, step varchar(256) NOT NULL, incarnation bigint NOT NULL, \
         epoch bigint, file varchar(2048))",
        table.sql()
    )
}

pub(super) fn create_rejected(table: &TableName) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {} (at timestamp DEFAULT GETDATE(), job varchar(256), step varchar(256), \
         error varchar(65535), \"row\" varchar(65535))",
        table.sql()
    )
}

/// Asks for the columns of a table: name, whether it may be NULL, whether it has a default.
pub(super) fn columns(table: &TableName) -> Result<String> {
    let schema = match &table.schema {
        Some(schema) => literal(schema)?,
        None => "current_schema()".to_owned(),
    };
    Ok(format!(
        "SELECT column_name, is_nullable, column_default IS NOT NULL FROM information_schema.columns \
         WHERE table_schema = {schema} AND table_name = {} ORDER BY ordinal_position",
        literal(&table.table)?
    ))
}

/// The first statement of each transaction, so that what the next ones see is no older than the lock.
pub(super) fn lock(owner: &Owner) -> String {
    format!("LOCK TABLE {}", owner.table.sql())
}

fn own(owner: &Owner) -> Result<String> {
    Ok(format!("job = {} AND step = {}", literal(&owner.job)?, literal(&owner.step)?))
}

/// The last start and the last epoch that are written down.
pub(super) fn marker(owner: &Owner) -> Result<String> {
    Ok(format!("SELECT MAX(incarnation), MAX(epoch) FROM {} WHERE {}", owner.table.sql(), own(owner)?))
}

/// Writes down that this start has begun.
pub(super) fn begun(owner: &Owner) -> Result<String> {
    let (table, incarnation) = (owner.table.sql(), owner.incarnation);
    let (job, step) = (literal(&owner.job)?, literal(&owner.step)?);
    Ok(format!("INSERT INTO {table} (job, step, incarnation) VALUES ({job}, {step}, {incarnation})"))
}

/// Takes out what was written down before: of a job and step the last load stays.
pub(super) fn forget(owner: &Owner) -> Result<String> {
    Ok(format!("DELETE FROM {} WHERE {}", owner.table.sql(), own(owner)?))
}

/// Writes down the files of a load.
pub(super) fn record(owner: &Owner, files: &[(Epoch, String)]) -> Result<String> {
    let (job, step, incarnation) = (literal(&owner.job)?, literal(&owner.step)?, owner.incarnation);
    let row =
        |(epoch, url): &(Epoch, String)| Ok(format!("({job}, {step}, {incarnation}, {epoch}, {})", literal(url)?));
    let rows = files.iter().map(row).collect::<Result<Vec<_>>>()?.join(", ");
    Ok(format!("INSERT INTO {} ({}) VALUES {rows}", owner.table.sql(), LOADS_COLUMNS.join(", ")))
}

/// The `COPY` of the files of a manifest. It leaves out `max_errors` rows.
pub(super) fn copy<S: AsRef<str>>(
    table: &str,
    columns: &[S],
    manifest: &str,
    access: &str,
    max_errors: u32,
) -> Result<String> {
    // It fails with as many as it says, and goes on with fewer.
    let errors = match max_errors {
        0 => String::new(),
        most => format!(" MAXERROR {}", most.saturating_add(1)),
    };
    Ok(format!(
        "COPY {table} ({}) FROM {} {access} FORMAT AS JSON 'auto' GZIP MANIFEST TIMEFORMAT 'auto'{errors}",
        quoted_list(columns),
        literal(manifest)?
    ))
}

/// How many rows the last `COPY` of this connection has loaded.
pub(super) const LOADED: &str = "SELECT pg_last_copy_count()";

/// Asks which rows the last `COPY` of this connection has left out: file, line, column, code and reason.
pub(super) fn bad_rows(is_serverless: bool) -> &'static str {
    if is_serverless {
        "SELECT TRIM(file_name), line_number, TRIM(column_name), error_code, TRIM(error_message) FROM sys_load_error_detail \
         WHERE query_id = pg_last_copy_id() ORDER BY file_name, line_number"
    } else {
        "SELECT TRIM(filename), line_number, TRIM(colname), err_code, TRIM(err_reason) FROM stl_load_errors \
         WHERE query = pg_last_copy_id() ORDER BY filename, line_number"
    }
}

/// As [`bad_rows`], for a `COPY` that has failed: by its files, whose names never repeat.
pub(super) fn bad_rows_of(is_serverless: bool, urls: &[String]) -> Result<String> {
    let urls = urls.iter().map(|url| literal(url)).collect::<Result<Vec<_>>>()?.join(", ");
    Ok(if is_serverless {
        format!(
            "SELECT TRIM(file_name), line_number, TRIM(column_name), error_code, TRIM(error_message) \
             FROM sys_load_error_detail WHERE TRIM(file_name) IN ({urls}) ORDER BY file_name, line_number LIMIT 1"
        )
    } else {
        format!(
            "SELECT TRIM(filename), line_number, TRIM(colname), err_code, TRIM(err_reason) FROM stl_load_errors \
             WHERE TRIM(filename) IN ({urls}) ORDER BY filename, line_number LIMIT 1"
        )
    })
}

/// The way of an upsert: a table for its rows, which takes and refuses what the target does; then out with the rows of the same
/// keys, and in with the last of each key.
pub(super) struct Merge {
    pub(super) create: [String; 2],
    /// The table that is copied to, as SQL writes it, and its columns.
    pub(super) stage: &'static str,
    pub(super) columns: Vec<String>,
    pub(super) merge: [String; 3],
}

pub(super) fn merge(target: &Target, columns: &[String], keys: &[String]) -> Merge {
    let (table, list, key_list) = (target.table.sql(), quoted_list(columns), quoted_list(keys));
    let same = keys.iter().map(|key| quoted(key)).map(|key| format!("{table}.{key} = {STAGE}.{key}"));
    let same = same.collect::<Vec<_>>().join(" AND ");
    Merge {
        create: [
            format!("CREATE TEMP TABLE {STAGE} (LIKE {table} INCLUDING DEFAULTS)"),
            format!("ALTER TABLE {STAGE} ADD COLUMN {ROW_NUMBER} varchar(62)"),
        ],
        stage: STAGE,
        columns: columns.iter().cloned().chain([ROW_NUMBER.to_owned()]).collect(),
        merge: [
            format!("DELETE FROM {table} USING {STAGE} WHERE {same}"),
            format!(
                "INSERT INTO {table} ({list}) SELECT {list} FROM (SELECT {list}, ROW_NUMBER() OVER \
                 (PARTITION BY {key_list} ORDER BY {ROW_NUMBER} DESC) AS shardflow_rank FROM {STAGE}) AS latest \
                 WHERE shardflow_rank = 1"
            ),
            format!("DROP TABLE {STAGE}"),
        ],
    }
}

#[cfg(test)]
#[path = "sql_tests.rs"]
mod tests;
