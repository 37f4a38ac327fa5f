//! The statements, word by word. Pure.

use super::name::{TableName, quoted, quoted_list};

/// What numbers the rows of a batch, in the order in which they came.
pub(super) const ROW_NUMBER: &str = "shardflow_row";

/// The columns of the table of markers.
pub(super) const MARKER_COLUMNS: [&str; 4] = ["job", "step", "incarnation", "epoch"];

/// The columns of a table of rejected rows; `at` is the server's time.
pub(super) const REJECTED_COLUMNS: [&str; 4] = ["job", "step", "error", "row"];

/// Every transaction. What the database has for a default would change what a locked row shows.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// How rows of one key overwrite one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Upsert {
    /// What makes rows the same.
    pub(super) keys: Vec<String>,
    /// Only a greater one overwrites.
    pub(super) guard: Option<String>,
}

pub(super) fn create_markers(table: &TableName) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {} (job text NOT NULL, step text NOT NULL, incarnation bigint NOT NULL, epoch bigint, \
         PRIMARY KEY (job, step))",
        table.sql()
    )
}

pub(super) fn create_rejected(table: &TableName) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {} (at timestamptz NOT NULL DEFAULT now(), job text NOT NULL, step text NOT NULL, \
         error text NOT NULL, \"row\" text NOT NULL)",
        table.sql()
    )
}

/// Locks the marker until the transaction ends: a commit that is still under way elsewhere is waited for.
pub(super) fn lock_marker(table: &TableName) -> String {
    format!("SELECT incarnation, epoch FROM {} WHERE job = $1 AND step = $2 FOR UPDATE", table.sql())
}

/// Where there was nothing to lock, another start may have been faster: then it changes no row.
pub(super) fn take_over(table: &TableName) -> String {
    format!(
        "INSERT INTO {} AS marker (job, step, incarnation) VALUES ($1, $2, $3) \
         ON CONFLICT (job, step) DO UPDATE SET incarnation = excluded.incarnation \
         WHERE marker.incarnation < excluded.incarnation",
        table.sql()
    )
}

pub(super) fn set_marker(table: &TableName) -> String {
    format!("UPDATE {} SET epoch = $4 WHERE job = $1 AND step = $2 AND incarnation = $3", table.sql())
}

pub(super) fn copy<S: AsRef<str>>(table: &str, columns: &[S]) -> String {
    format!("COPY {table} ({}) FROM STDIN", quoted_list(columns))
}

/// The temporary table with this number.
pub(super) fn staging(number: usize) -> String {
    format!("pg_temp.\"shardflow_staging_{number}\"")
}

/// Makes it, once a connection: with the types of the target and without its constraints, empty after each transaction.
pub(super) fn create_staging(staging: &str, target: &TableName, columns: &[String]) -> String {
    format!(
        "CREATE TEMPORARY TABLE {staging} ON COMMIT DELETE ROWS AS SELECT {} FROM {} WITH NO DATA; \
         ALTER TABLE {staging} ADD COLUMN {ROW_NUMBER} bigint GENERATED ALWAYS AS IDENTITY",
        quoted_list(columns),
        target.sql(),
    )
}

/// Brings the staged rows into the target: of each key the last, or with a guard the first of those with the greatest guard.
///
/// The same comes out where the rows are brought in one after the other, which is what happens while refused ones are looked
/// for. The order of the keys is fixed, so that two such statements do not wait for each other in a circle.
pub(super) fn merge(target: &TableName, staging: &str, columns: &[String], upsert: &Upsert) -> String {
    let Upsert { keys, guard } = upsert;
    let (list, key_list) = (quoted_list(columns), quoted_list(keys));
    let order = match guard {
        Some(guard) => format!("{} DESC, {ROW_NUMBER}", quoted(guard)),
        None => format!("{ROW_NUMBER} DESC"),
    };
    let others = columns.iter().filter(|column| !keys.contains(column));
    let sets: Vec<String> = others.map(|column| quoted(column)).map(|c| format!("{c} = excluded.{c}")).collect();
    let action = if sets.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", sets.join(", ")) };
    let only = guard.as_ref().map(|guard| quoted(guard)).map(|g| format!(" WHERE excluded.{g} > target.{g}"));
    format!(
        "INSERT INTO {} AS target ({list}) SELECT {list} FROM \
         (SELECT DISTINCT ON ({key_list}) * FROM {staging} ORDER BY {key_list}, {order}) AS latest \
         ON CONFLICT ({key_list}) DO {action}{}",
        target.sql(),
        only.unwrap_or_default(),
    )
}

pub(super) fn clear(staging: &str) -> String {
    format!("DELETE FROM {staging}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charges() -> TableName {
        TableName::parse("billing.charges").unwrap()
    }

    fn columns(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_last_row_of_a_key_counts() {
        let upsert = Upsert { keys: columns(&["account", "hour"]), guard: None };
        assert_eq!(
            merge(&charges(), &staging(0), &columns(&["account", "hour", "cents", "say \"hi\""]), &upsert),
            "INSERT INTO \"billing\".\"charges\" AS target (\"account\", \"hour\", \"cents\", \"say \"\"hi\"\"\") \
             SELECT \"account\", \"hour\", \"cents\", \"say \"\"hi\"\"\" FROM \
             (SELECT DISTINCT ON (\"account\", \"hour\") * FROM pg_temp.\"shardflow_staging_0\" \
             ORDER BY \"account\", \"hour\", shardflow_row DESC) AS latest \
             ON CONFLICT (\"account\", \"hour\") DO UPDATE SET \"cents\" = excluded.\"cents\", \
             \"say \"\"hi\"\"\" = excluded.\"say \"\"hi\"\"\""
        );
    }

    #[test]
    fn with_a_guard_only_a_greater_one_overwrites() {
        let upsert = Upsert { keys: columns(&["id"]), guard: Some("version".to_owned()) };
        assert_eq!(
            merge(&charges(), &staging(1), &columns(&["id", "version"]), &upsert),
            "INSERT INTO \"billing\".\"charges\" AS target (\"id\", \"version\") SELECT \"id\", \"version\" FROM \
             (SELECT DISTINCT ON (\"id\") * FROM pg_temp.\"shardflow_staging_1\" \
             ORDER BY \"id\", \"version\" DESC, shardflow_row) AS latest \
             ON CONFLICT (\"id\") DO UPDATE SET \"version\" = excluded.\"version\" \
             WHERE excluded.\"version\" > target.\"version\""
        );
    }

    #[test]
    fn rows_that_are_all_key_stay_as_they_are() {
        let upsert = Upsert { keys: columns(&["id"]), guard: None };
        assert!(
            merge(&charges(), &staging(0), &columns(&["id"]), &upsert).ends_with("ON CONFLICT (\"id\") DO NOTHING")
        );
    }
}
