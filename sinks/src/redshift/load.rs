//! The one transaction that loads epochs: lock the table of loads, `COPY` what is due, write it down.
//!
//! The lock makes whoever comes second wait until the first is done, whether that is a zombie, or our own transaction whose
//! answer was lost. What is written down then is certain, and files that it counts are not loaded again.

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use fail::fail_point;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use shardflow::retry::Clock;
use shardflow::sink::Trouble;
use shardflow::{Epoch, Error, Outcome, Result};
use tokio_postgres::Client;

use super::RunCopy;
use super::answer::{BadRow, number, rows};
use super::handle::Handle;
use super::manifest::manifest;
use super::sql::{self, Merge};
use super::staging::Staging;
use super::writer::{refused, without_number};
use crate::postgres::failure::Failure;
use crate::postgres::handle::SetAside;
use crate::postgres::link::Committed;
use crate::postgres::marker::{Marker, Owner, Start};
use crate::postgres::name::TableName;
use crate::postgres::session::Session;

/// How often Redshift is asked for refused rows until it tells of all: it writes them down a little later.
const LOOKS: u32 = 20;

/// Between two of these times.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The most of a refused row that is kept, in bytes: Redshift's longest text is a little longer.
const KEPT: usize = 60_000;

/// Where rows go.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) table: TableName,
    pub(super) keys: Option<Vec<String>>,
    pub(super) rejected: Option<TableName>,
    pub(super) owner: Owner,
    /// How Redshift reaches the bucket, as SQL says it.
    pub(super) access: String,
    /// How many refused rows a load leaves out.
    pub(super) max_errors: u32,
    pub(super) is_serverless: bool,
}

/// A handle of an epoch.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) epoch: Epoch,
    pub(super) handle: Handle,
}

/// What a load needs beside a connection.
pub(super) struct Loader<'a, C> {
    pub(super) target: &'a Target,
    pub(super) staging: &'a Staging,
    pub(super) run_copy: &'a dyn RunCopy,
    pub(super) clock: &'a C,
}

/// Files of the same columns, in the order of their epochs.
struct Batch<'a> {
    columns: &'a [String],
    files: Vec<&'a str>,
    bucket: &'a str,
    rows: u64,
    bytes: u64,
}

impl Batch<'_> {
    fn urls(&self) -> Vec<String> {
        self.files.iter().map(|key| format!("{}/{key}", self.bucket)).collect()
    }
}

impl<C: Clock> Loader<'_, C> {
    /// Loads what is not written down yet. `in_doubt` holds what a COMMIT was to do while it is without an answer.
    pub(super) async fn load(
        &self,
        session: &mut Session,
        staged: &[Staged],
        in_doubt: &mut Option<Committed>,
    ) -> Result<Committed, Failure> {
        let (client, owner) = (&session.client, &self.target.owner);
        fail_point!("sink-redshift::before-begin", |_| Err(Error::sink("stopped before beginning").into()));
        begin(client, owner).await?;
        let found = marker(client, owner).await?;
        // Whatever was without an answer is decided now: the lock has waited for it.
        let pending = in_doubt.take();
        let through = owner.committed_through(found)?;
        fail_point!("sink-redshift::after-lock", |_| Err(Error::sink("stopped after locking").into()));
        let due: Vec<&Staged> = staged.iter().filter(|one| Some(one.epoch) > through).collect();
        let Some(last) = due.iter().map(|one| one.epoch).max() else {
            client.batch_execute(sql::ROLLBACK).await?;
            return Ok(pending.unwrap_or_default());
        };
        let mut set_aside: Vec<SetAside> = due.iter().flat_map(|one| one.handle.set_aside.clone()).collect();
        let mut done = Committed::default();
        for (number, batch) in batches(&due).iter().enumerate() {
            let refused = self.bring(client, batch, last, number).await?;
            done.rows = done.rows.saturating_add(batch.rows).saturating_sub(refused.len() as u64);
            done.bytes = done.bytes.saturating_add(batch.bytes);
            set_aside.extend(refused);
            fail_point!("sink-redshift::after-copy", |_| Err(Error::sink("stopped after copying").into()));
        }
        done.set_aside = set_aside.len() as u64;
        done.first = set_aside.first().map(|one| one.error.clone());
        self.put_aside(client, &set_aside, last).await?;
        self.write_down(client, &due, last).await?;
        fail_point!("sink-redshift::before-commit", |_| Err(Error::sink("stopped before committing").into()));
        *in_doubt = Some(done.clone());
        client.batch_execute(sql::COMMIT).await.map_err(|error| match Failure::from(error) {
            Failure::Trouble(trouble) => Failure::Trouble(Trouble { outcome: Outcome::Indeterminate, ..trouble }),
            other => other,
        })?;
        *in_doubt = None;
        fail_point!("sink-redshift::after-commit", |_| Err(Error::sink("stopped after committing").into()));
        Ok(done)
    }

    /// Brings the rows of a batch into the target, and gives those that Redshift refuses.
    async fn bring(
        &self,
        client: &Client,
        batch: &Batch<'_>,
        last: Epoch,
        number: usize,
    ) -> Result<Vec<SetAside>, Failure> {
        let manifest = self.staging.of_load(self.target.owner.incarnation, last, &format!("{number}.manifest"));
        let Some(keys) = &self.target.keys else {
            let refused = self.copy(client, batch, &manifest, &self.target.table.sql(), batch.columns).await?;
            return Ok(refused);
        };
        let Merge { create, stage, columns, merge } = sql::merge(self.target, batch.columns, keys);
        for statement in &create {
            client.batch_execute(statement).await?;
        }
        let refused = self.copy(client, batch, &manifest, stage, &columns).await?;
        for statement in &merge {
            client.batch_execute(statement).await?;
        }
        Ok(refused)
    }

    async fn copy(
        &self,
        client: &Client,
        batch: &Batch<'_>,
        manifest_key: &str,
        table: &str,
        columns: &[String],
    ) -> Result<Vec<SetAside>, Failure> {
        let Target { access, max_errors, .. } = self.target;
        self.staging.put(manifest_key, manifest(&batch.urls()).into()).await.map_err(Failure::Trouble)?;
        let statement = sql::copy(table, columns, &self.staging.url(manifest_key), access, *max_errors)?;
        if let Err(error) = self.run_copy.run(client, &statement).await {
            return Err(self.copy_failed(client, batch, error).await);
        }
        let loaded = number(client, sql::LOADED).await?;
        let Some(missing) = batch.rows.checked_sub(loaded) else {
            let rows = batch.rows;
            return Err(Error::sink(format!(
                "a load of {rows} rows has loaded {loaded}: its files are not as written"
            ))
            .into());
        };
        if missing == 0 {
            return Ok(Vec::new());
        }
        if *max_errors == 0 {
            return Err(Error::sink(format!("a load has left out {missing} rows without a word")).into());
        }
        self.find_refused(client, batch, missing).await
    }

    /// The rows that the last load has left out: as many as are missing, or the transaction is not committed.
    async fn find_refused(&self, client: &Client, batch: &Batch<'_>, missing: u64) -> Result<Vec<SetAside>, Failure> {
        for look in 0..LOOKS {
            if look > 0 {
                self.clock.sleep(LOOK_AGAIN_AFTER).await;
            }
            let mut bad: Vec<BadRow> =
                rows(client, sql::bad_rows(self.target.is_serverless)).await?.iter().map(BadRow::read).collect();
            // A row may be there once a column.
            bad.dedup_by(|one, before| one.place() == before.place());
            if bad.len() as u64 == missing {
                return self.read_back(batch, &bad).await;
            }
        }
        Err(Failure::transient(format!("{missing} rows were left out, and Redshift does not tell which")))
    }

    /// Reads refused rows out of their files again.
    async fn read_back(&self, batch: &Batch<'_>, bad: &[BadRow]) -> Result<Vec<SetAside>, Failure> {
        let mut refused = Vec::with_capacity(bad.len());
        for of_file in bad.chunk_by(|one, next| one.file == next.file) {
            let Some(first) = of_file.first() else { continue };
            let key = batch.files.iter().find(|key| format!("{}/{key}", batch.bucket) == first.file);
            let key = key
                .ok_or_else(|| Error::sink(format!("a refused row is in \"{}\", which was not loaded", first.file)))?;
            let packed = self.staging.get(key).await.map_err(Failure::Trouble)?;
            let text = unpack(key, &packed)?;
            let mut lines = (1_u64..).zip(text.lines());
            for one in of_file {
                let found = lines.find(|(number, _)| *number == one.line);
                let (_, line) =
                    found.ok_or_else(|| Error::sink(format!("there is no line {} in \"{key}\"", one.line)))?;
                refused.push(SetAside { error: one.told(), row: without_number(line) });
            }
        }
        Ok(refused)
    }

    /// What a `COPY` that failed means. One that failed for its rows does so again.
    async fn copy_failed(&self, client: &Client, batch: &Batch<'_>, error: tokio_postgres::Error) -> Failure {
        let text = error.as_db_error().map(|said| said.message().to_lowercase()).unwrap_or_default();
        if !["stl_load_errors", "sys_load_error_detail"].iter().any(|view| text.contains(view)) {
            return error.into();
        }
        match self.first_bad(client, batch).await {
            Ok(Some(first)) if self.target.rejected.is_none() => {
                Failure::Stop(refused(&self.target.table, &first.error, &first.row))
            }
            Ok(Some(first)) => Failure::Stop(Error::sink(format!(
                "could not load table \"{}\": more than {} rows were refused, the first of them: {}",
                self.target.table, self.target.max_errors, first.error
            ))),
            Ok(None) => {
                Failure::Stop(Error::sink(format!("could not load table \"{}\"", self.target.table)).caused_by(error))
            }
            Err(failure) => failure,
        }
    }

    async fn first_bad(&self, client: &Client, batch: &Batch<'_>) -> Result<Option<SetAside>, Failure> {
        client.batch_execute(sql::ROLLBACK).await?;
        let bad = rows(client, &sql::bad_rows_of(self.target.is_serverless, &batch.urls())?).await?;
        let Some(bad) = bad.first().map(BadRow::read) else { return Ok(None) };
        Ok(self.read_back(batch, &[bad]).await?.pop())
    }

    /// Loads the rows that are refused into their table, as they cannot all be written between quotes.
    async fn put_aside(&self, client: &Client, set_aside: &[SetAside], last: Epoch) -> Result<(), Failure> {
        let Some(table) = self.target.rejected.as_ref().filter(|_| !set_aside.is_empty()) else { return Ok(()) };
        let owner = &self.target.owner;
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        for SetAside { error, row } in set_aside {
            let line =
                serde_json::json!({ "job": owner.job, "step": owner.step, "error": kept(error), "row": kept(row) });
            let written = std::io::Write::write_all(&mut packed, format!("{line}\n").as_bytes());
            written.map_err(|cause| Error::internal("could not compress rows").caused_by(cause))?;
        }
        let packed = packed.finish().map_err(|cause| Error::internal("could not compress rows").caused_by(cause))?;
        let key = |what: &str| self.staging.of_load(owner.incarnation, last, what);
        let (file, manifest_key) = (key("rejected.json.gz"), key("rejected.manifest"));
        self.staging.put(&file, packed.into()).await.map_err(Failure::Trouble)?;
        let list = manifest(&[self.staging.url(&file)]);
        self.staging.put(&manifest_key, list.into()).await.map_err(Failure::Trouble)?;
        let url = self.staging.url(&manifest_key);
        let statement = sql::copy(&table.sql(), &sql::REJECTED_COLUMNS, &url, &self.target.access, 0)?;
        self.run_copy.run(client, &statement).await?;
        let (loaded, all) = (number(client, sql::LOADED).await?, set_aside.len());
        if loaded == all as u64 {
            return Ok(());
        }
        Err(Error::sink(format!("could not set {all} rows aside in table \"{table}\": it has taken {loaded}")).into())
    }

    async fn write_down(&self, client: &Client, due: &[&Staged], last: Epoch) -> Result<(), Failure> {
        let owner = &self.target.owner;
        let url = |epoch, handle: &Handle, key: &str| (epoch, format!("{}/{key}", handle.bucket));
        let files =
            due.iter().flat_map(|one| one.handle.files.iter().map(|file| url(one.epoch, &one.handle, &file.key)));
        let mut files: Vec<_> = files.collect();
        if files.iter().all(|(epoch, _)| *epoch < last) {
            // Of rejected rows alone: it is loaded all the same.
            files.push((last, self.staging.url(&self.staging.of_load(owner.incarnation, last, "rejected.json.gz"))));
        }
        client.batch_execute(&sql::forget(owner)?).await?;
        client.batch_execute(&sql::record(owner, &files)?).await?;
        Ok(())
    }
}

/// Makes the loads this start's, durably. Whoever had them can load no more. `in_doubt` is set while the COMMIT is without an
/// answer.
pub(super) async fn take_over(
    session: &mut Session,
    owner: &Owner,
    start: &mut Start,
    in_doubt: &mut Option<Committed>,
) -> Result<(), Failure> {
    let client = &session.client;
    begin(client, owner).await?;
    let found = marker(client, owner).await?;
    // The lock has waited for whatever was without an answer.
    *in_doubt = None;
    if owner.may_take_over(found, *start)? {
        client.batch_execute(&sql::begun(owner)?).await?;
        start.has_asked = true;
        *in_doubt = Some(Committed::default());
    }
    client.batch_execute(sql::COMMIT).await?;
    *in_doubt = None;
    Ok(())
}

async fn begin(client: &Client, owner: &Owner) -> Result<(), Failure> {
    client.batch_execute(sql::BEGIN).await?;
    client.batch_execute(&sql::lock(owner)).await?;
    Ok(())
}

async fn marker(client: &Client, owner: &Owner) -> Result<Option<Marker>, Failure> {
    let rows = rows(client, &sql::marker(owner)?).await?;
    let number = |column: usize| {
        let text = rows.first().and_then(|row| row.get(column));
        let number = text.map(str::parse::<i64>).transpose();
        number.map_err(|cause| Error::state("the table of loads holds what is no number").caused_by(cause))
    };
    let epoch = number(1)?;
    Ok(number(0)?.map(|incarnation| Marker::read(incarnation, epoch)).transpose()?)
}

/// Puts together what can be loaded together.
fn batches<'a>(due: &[&'a Staged]) -> Vec<Batch<'a>> {
    let is_alike = |one: &&Staged, next: &&Staged| {
        one.handle.columns == next.handle.columns && one.handle.bucket == next.handle.bucket
    };
    let mut batches = Vec::new();
    for run in due.chunk_by(is_alike) {
        let Some(first) = run.first() else { continue };
        let files: Vec<_> = run.iter().flat_map(|one| &one.handle.files).collect();
        if !files.is_empty() {
            batches.push(Batch {
                columns: &first.handle.columns,
                bucket: &first.handle.bucket,
                rows: files.iter().map(|file| file.rows).sum(),
                bytes: files.iter().map(|file| file.bytes).sum(),
                files: files.into_iter().map(|file| file.key.as_str()).collect(),
            });
        }
    }
    batches
}

fn unpack(key: &str, packed: &Bytes) -> Result<String> {
    let mut text = String::new();
    let read = MultiGzDecoder::new(packed.as_ref()).read_to_string(&mut text);
    read.map_err(|cause| Error::sink(format!("could not unpack \"{key}\"")).caused_by(cause))?;
    Ok(text)
}

/// The beginning of a text, as much as Redshift keeps.
fn kept(text: &str) -> String {
    match text.char_indices().map(|(at, c)| at.saturating_add(c.len_utf8())).take_while(|end| *end <= KEPT).last() {
        Some(end) if end < text.len() => format!("{}…", text.get(..end).unwrap_or_default()),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_kept_in_part() {
        assert_eq!(kept("short"), "short");
        let long = kept(&"ä".repeat(50_000));
        assert!(long.len() <= KEPT + 4 && long.ends_with("ä…"), "{}", long.len());
    }
}
