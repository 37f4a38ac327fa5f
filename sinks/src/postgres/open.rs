//! What is looked at before a job starts: the server's version, the sink's own tables, and the target's schema.

use shardflow::Error;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::failure::Failure;
use super::name::TableName;
use super::schema::Facts;
use super::sql::{self, MARKER_COLUMNS, REJECTED_COLUMNS, Upsert};
use super::transaction::Target;

/// The oldest version whose catalog is asked here.
const OLDEST: i32 = 120_000;

/// Makes the tables that are the sink's own, checks all of them, and gives the target with the schemas they were found in.
///
/// # Errors
/// What does not fit, and what would help.
pub(super) async fn check(client: &Client, target: &Target, columns: &[String]) -> Result<Target, Failure> {
    let version: i32 = client.query_one("SELECT current_setting('server_version_num')::int4", &[]).await?.try_get(0)?;
    if version < OLDEST {
        return Err(Error::config(format!("PostgreSQL 12 or newer is needed, and this is {}", version / 10_000)).into());
    }
    let upsert = target.upsert.as_ref();
    let Some(facts) = Facts::of(client, &target.table).await? else {
        return Err(Error::config(format!("there is no table \"{}\", or this user cannot see it", target.table)).into());
    };
    facts.check(columns, upsert).map_err(|why| unfit(&facts.name, &why))?;
    let markers = own(client, &target.owner.table, &sql::create_markers(&target.owner.table)).await?;
    let keys = Upsert { keys: vec!["job".to_owned(), "step".to_owned()], guard: None };
    markers.check(&MARKER_COLUMNS, Some(&keys)).map_err(|why| unfit(&markers.name, &why))?;
    let mut found = target.clone();
    (found.table, found.owner.table) = (facts.name, markers.name);
    if let Some(rejected) = &target.rejected {
        let rejected = own(client, rejected, &sql::create_rejected(rejected)).await?;
        rejected.check(&REJECTED_COLUMNS, None).map_err(|why| unfit(&rejected.name, &why))?;
        found.rejected = Some(rejected.name);
    }
    Ok(found)
}

fn unfit(table: &TableName, why: &str) -> Failure {
    Error::config(format!("could not use table \"{table}\": {why}")).into()
}

/// A table of the sink's own, made where it is not there.
async fn own(client: &Client, name: &TableName, create: &str) -> Result<Facts, Failure> {
    if let Some(facts) = Facts::of(client, name).await? {
        return Ok(facts);
    }
    if let Err(error) = client.batch_execute(create).await {
        // Another start makes it at this moment.
        let is_race = matches!(error.code(), Some(code) if [SqlState::DUPLICATE_TABLE, SqlState::UNIQUE_VIOLATION].contains(code));
        match Failure::from(error) {
            _ if is_race => {}
            Failure::Trouble(trouble) if trouble.may_pass.is_none() => {
                let error = Error::config(format!("could not make table \"{name}\": make it once by hand: {create}"));
                return Err(error.caused_by(trouble).into());
            }
            other => return Err(other),
        }
        tracing::debug!(table = %name, "another start has made the table");
    }
    let made = Facts::of(client, name).await?;
    made.ok_or_else(|| Failure::transient(format!("table \"{name}\" was made and is not there")))
}
