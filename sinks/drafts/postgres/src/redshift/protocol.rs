//! The transactions. The caller writes the manifest and runs the `COPY`, and makes a load again whose answer was lost.

use shardflow::{Epoch, Error, Result};
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::{Load, StagedFile};
use crate::postgres::marker::{Marker, Start};

/// Makes the loads of this job and step this start's, durably. Whoever had them can load nothing more. `committed`: the last epoch
/// that the engine knows to be committed. `has_asked`: whether this start has called this before, and got no answer.
///
/// # Errors
/// A later start has taken over, or the state is older than its output; or the server and the way to it.
pub async fn take_over(client: &Client, load: &Load, committed: Option<Epoch>, has_asked: bool) -> Result<()> {
    begin(client, load).await?;
    let found = marker(client, load).await?;
    let start = Start { committed, first_handle: None, has_asked };
    if load.owner.may_take_over(found, start)? {
        run(client, &load.begun()?).await?;
    }
    run(client, "COMMIT").await.map_err(Error::indeterminate)
}

/// Loads those of the files that are not loaded yet, and gives them. `copy` makes a manifest of them and runs the `COPY`.
///
/// # Errors
/// Another start has taken over; or the server and the way to it, as an indeterminate error where the load may have happened.
/// Then, and after every other failure, the connection is not to be used again: its transaction may still be open.
pub async fn load(
    client: &Client,
    load: &Load,
    files: &[StagedFile],
    copy: impl AsyncFnOnce(&Client, &[StagedFile]) -> Result<()>,
) -> Result<Vec<StagedFile>> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    begin(client, load).await?;
    load.owner.committed_through(marker(client, load).await?)?;
    let known: Vec<String> = rows(client, &load.known(files)?).await?.iter().filter_map(text).collect();
    let new: Vec<StagedFile> = files.iter().filter(|file| !known.contains(&file.url)).cloned().collect();
    if new.is_empty() {
        run(client, "ROLLBACK").await?;
        return Ok(new);
    }
    run(client, &load.record(&new)?).await?;
    copy(client, &new).await?;
    run(client, "COMMIT").await.map_err(Error::indeterminate)?;
    Ok(new)
}

async fn begin(client: &Client, load: &Load) -> Result<()> {
    run(client, "BEGIN").await?;
    run(client, &load.lock()).await
}

async fn marker(client: &Client, load: &Load) -> Result<Option<Marker>> {
    let rows = rows(client, &load.marker()?).await?;
    let number = |column: usize| {
        let text = rows.first().and_then(|row| row.get(column));
        text.map(|text| {
            text.parse::<i64>().map_err(|cause| Error::state(format!("a load says \"{text}\"")).caused_by(cause))
        })
        .transpose()
    };
    let epoch = number(1)?;
    number(0)?.map(|incarnation| Marker::read(incarnation, epoch)).transpose()
}

fn text(row: &SimpleQueryRow) -> Option<String> {
    row.get(0).map(ToOwned::to_owned)
}

async fn run(client: &Client, statement: &str) -> Result<()> {
    client.batch_execute(statement).await.map_err(|error| failed(statement, error))
}

async fn rows(client: &Client, statement: &str) -> Result<Vec<SimpleQueryRow>> {
    let answer = client.simple_query(statement).await.map_err(|error| failed(statement, error))?;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    };
    Ok(answer.into_iter().filter_map(row).collect())
}

fn failed(statement: &str, error: tokio_postgres::Error) -> Error {
    let what: String = statement.chars().take_while(|c| *c != '(').take(80).collect();
    Error::sink(format!("could not run \"{what}\" on Redshift")).caused_by(error)
}
