//! What is looked at before a job starts: the target's schema, and the sink's own tables, which are made where they are missing.

use shardflow::Error;
use tokio_postgres::Client;

use super::answer::rows;
use super::load::Target;
use super::sql::{self, LOADS_COLUMNS, REJECTED_COLUMNS};
use crate::postgres::failure::Failure;
use crate::postgres::name::TableName;

/// A column as the catalog has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    name: String,
    may_be_null: bool,
    has_default: bool,
}

/// Checks that rows of these columns can be written.
///
/// # Errors
/// What does not fit, and what would help.
pub(super) async fn check(client: &Client, target: &Target, written: &[String]) -> Result<(), Failure> {
    let columns = ask(client, &target.table).await?;
    fits(&columns, written, target.keys.as_deref()).map_err(|why| unfit(&target.table, &why))?;
    own(client, &target.owner.table, &LOADS_COLUMNS, &sql::create_loads(&target.owner.table)).await?;
    if let Some(rejected) = &target.rejected {
        own(client, rejected, &REJECTED_COLUMNS, &sql::create_rejected(rejected)).await?;
    }
    Ok(())
}

fn unfit(table: &TableName, why: &str) -> Failure {
    Error::config(format!("could not use table \"{table}\": {why}")).into()
}

async fn ask(client: &Client, table: &TableName) -> Result<Vec<Column>, Failure> {
    let rows = rows(client, &sql::columns(table)?).await?;
    let column = |row: &tokio_postgres::SimpleQueryRow| Column {
        name: row.get(0).unwrap_or_default().to_owned(),
        may_be_null: row.get(1).is_some_and(|text| text.eq_ignore_ascii_case("yes")),
        has_default: row.get(2).is_some_and(|text| text == "t"),
    };
    Ok(rows.iter().map(column).collect())
}

/// A table of the sink's own.
async fn own(client: &Client, table: &TableName, needed: &[&str], create: &str) -> Result<(), Failure> {
    if ask(client, table).await?.is_empty() {
        match client.batch_execute(create).await.map_err(Failure::from) {
            Ok(()) => {}
            Err(Failure::Trouble(trouble)) if trouble.may_pass.is_none() => {
                let error = Error::config(format!("could not make table \"{table}\": make it once by hand: {create}"));
                return Err(error.caused_by(trouble).into());
            }
            Err(other) => return Err(other),
        }
    }
    let columns = ask(client, table).await?;
    match needed.iter().find(|name| !columns.iter().any(|column| column.name == **name)) {
        Some(missing) => Err(unfit(table, &format!("it has no column \"{missing}\""))),
        None => Ok(()),
    }
}

/// Whether rows of these columns can be written. Pure.
fn fits(columns: &[Column], written: &[String], keys: Option<&[String]>) -> Result<(), String> {
    if columns.is_empty() {
        return Err("it is not there, or this user cannot see it".to_owned());
    }
    let find = |name: &String| columns.iter().find(|column| column.name == *name);
    if let Some(missing) = written.iter().find(|name| find(name).is_none()) {
        let known: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        return Err(format!("it has no column \"{missing}\": it has {}", known.join(", ")));
    }
    if let Some(key) = keys.unwrap_or_default().iter().find(|key| find(key).is_some_and(|key| key.may_be_null)) {
        return Err(format!("its column \"{key}\" may be NULL, which a key must not: make it NOT NULL"));
    }
    let needs = |column: &&Column| !column.may_be_null && !column.has_default;
    match columns.iter().filter(needs).find(|column| !written.contains(&column.name)) {
        Some(column) => Err(format!("its column \"{}\" is NOT NULL, has no default and is not written", column.name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_named() {
        let column = |name: &str, may_be_null, has_default| Column { name: name.to_owned(), may_be_null, has_default };
        let columns = [column("account", false, false), column("cents", true, false), column("at", false, true)];
        let of = |written: &[&str], keys: Option<&[&str]>| {
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            fits(&columns, &names(written), keys.map(names).as_deref())
        };
        assert_eq!(of(&["account", "cents"], Some(&["account"])), Ok(()));
        assert!(of(&["account", "cent"], None).unwrap_err().contains("it has account, cents, at"));
        assert!(of(&["cents"], None).unwrap_err().contains("\"account\" is NOT NULL"));
        assert!(of(&["account", "cents"], Some(&["cents"])).unwrap_err().contains("may be NULL"));
        assert!(fits(&[], &[], None).unwrap_err().contains("not there"));
    }
}
