//! What the user has set, and whether it can work. Pure.

use std::time::Duration;

use shardflow::sink::SinkContext;
use shardflow::{Error, Result};

use super::dsn::{self, Dsn};
use super::marker::Owner;
use super::name::{self, TableName};
use super::sql::{ROW_NUMBER, Upsert};
use super::transaction::Target;
use super::{Password, Postgres};

/// The shortest time that a call may be given.
const SHORTEST_CALL: Duration = Duration::from_secs(1);

/// What the user says of the table, as it was said.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) keys: Option<Vec<String>>,
    pub(super) guard: Option<String>,
    pub(super) rejected: Option<String>,
    pub(super) commits: String,
    pub(super) copy: Option<String>,
    pub(super) give_up_after: Duration,
    pub(super) call_timeout: Duration,
}

impl Table {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            keys: None,
            guard: None,
            rejected: None,
            commits: "shardflow_commits".to_owned(),
            copy: None,
            give_up_after: Duration::from_secs(300),
            call_timeout: Duration::from_secs(120),
        }
    }
}

/// What the sink works with.
pub(super) struct Settings {
    pub(super) dsn: Dsn,
    pub(super) password: Option<Password>,
    pub(super) columns: Vec<String>,
    pub(super) target: Target,
    pub(super) give_up_after: Duration,
    pub(super) call_timeout: Duration,
}

impl Settings {
    /// Takes them apart.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](shardflow::ErrorKind::Config): what cannot work.
    pub(super) fn read(server: &Postgres, table: &Table, columns: &[String], context: &SinkContext) -> Result<Self> {
        let mut dsn = dsn::parse(&server.connection)?;
        if let Some(roots) = &server.roots {
            dsn.roots = Some(roots.clone());
        }
        check_columns(columns)?;
        let job = match &table.copy {
            Some(copy) => format!("{}@{copy}", context.job),
            None => context.job.clone(),
        };
        let step = context.step.as_str().to_owned();
        if job.contains('\0') || step.contains('\0') {
            return Err(Error::config("the name of the job, its copy or this step holds a NUL character"));
        }
        let owner = Owner { job, step, incarnation: context.incarnation, table: table_name(&table.commits)? };
        let target = Target {
            table: table_name(&table.name)?,
            upsert: upsert(table, columns)?,
            rejected: table.rejected.as_deref().map(table_name).transpose()?,
            owner,
        };
        check_tables(&target)?;
        Ok(Self {
            dsn,
            password: server.password.clone(),
            columns: columns.to_vec(),
            target,
            give_up_after: table.give_up_after,
            call_timeout: table.call_timeout.max(SHORTEST_CALL),
        })
    }
}

fn table_name(text: &str) -> Result<TableName> {
    TableName::parse(text)
        .map_err(|why| Error::config(format!("\"{}\" is no name of a table: {why}", text.escape_debug())))
}

fn check_columns(columns: &[String]) -> Result<()> {
    if columns.is_empty() {
        return Err(Error::config("no column is written: name some with column, value, json or fields"));
    }
    for (index, column) in columns.iter().enumerate() {
        name::check(column)
            .map_err(|why| Error::config(format!("\"{}\" is no name of a column: {why}", column.escape_debug())))?;
        if columns.iter().skip(index.saturating_add(1)).any(|other| other == column) {
            return Err(Error::config(format!("column \"{column}\" is written twice")));
        }
    }
    Ok(())
}

fn upsert(table: &Table, columns: &[String]) -> Result<Option<Upsert>> {
    let Some(keys) = &table.keys else {
        return match &table.guard {
            Some(guard) => {
                Err(Error::config(format!("column \"{guard}\" guards upserts, and upsert_by names no keys")))
            }
            None => Ok(None),
        };
    };
    if keys.is_empty() {
        return Err(Error::config("upsert_by names no keys"));
    }
    if let Some(missing) = keys.iter().chain(&table.guard).find(|name| !columns.contains(name)) {
        return Err(Error::config(format!("column \"{missing}\" decides about upserts and is not written")));
    }
    if let Some(guard) = table.guard.as_ref().filter(|guard| keys.contains(guard)) {
        return Err(Error::config(format!("column \"{guard}\" is a key: it cannot be the guard as well")));
    }
    if columns.iter().any(|column| column == ROW_NUMBER) {
        return Err(Error::config(format!("column \"{ROW_NUMBER}\" has a name that the sink uses itself")));
    }
    Ok(Some(Upsert { keys: keys.clone(), guard: table.guard.clone() }))
}

/// Rows, rejected rows and markers are three things.
fn check_tables(target: &Target) -> Result<()> {
    let all = [Some(&target.table), target.rejected.as_ref(), Some(&target.owner.table)];
    let all: Vec<&TableName> = all.into_iter().flatten().collect();
    for (index, table) in all.iter().enumerate() {
        if all.iter().skip(index.saturating_add(1)).any(|other| other == table) {
            return Err(Error::config(format!(
                "table \"{table}\" cannot be two things: rows, rejected rows and commits go apart"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::new("charges".to_owned())
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn columns_have_names_and_each_is_written_once() {
        check_columns(&names(&["a", "b"])).unwrap();
        for (columns, what) in [
            (&[][..], "no column is written"),
            (&["a", "b", "a"], "\"a\" is written twice"),
            (&["a", ""], "a name is empty"),
            (&["a\0"], "\"a\\0\" is no name"),
        ] {
            let error = check_columns(&names(columns)).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn keys_and_guard_are_written_columns() {
        let columns = names(&["id", "version", "cents"]);
        let of = |keys: Option<&[&str]>, guard: Option<&str>| {
            let table = Table { keys: keys.map(names), guard: guard.map(ToOwned::to_owned), ..table() };
            upsert(&table, &columns).map_err(|error| error.to_string())
        };
        assert_eq!(of(None, None), Ok(None));
        let expected = Upsert { keys: names(&["id"]), guard: Some("version".to_owned()) };
        assert_eq!(of(Some(&["id"]), Some("version")), Ok(Some(expected)));
        assert!(of(None, Some("version")).unwrap_err().contains("upsert_by names no keys"));
        assert!(of(Some(&[]), None).unwrap_err().contains("upsert_by names no keys"));
        assert!(of(Some(&["other"]), None).unwrap_err().contains("\"other\" decides about upserts"));
        assert!(of(Some(&["id"]), Some("id")).unwrap_err().contains("is a key"));
    }
}
