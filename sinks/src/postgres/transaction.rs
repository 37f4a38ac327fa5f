//! The one transaction that commits epochs: lock the marker, bring the rows, move the marker.
//!
//! The lock makes whoever comes second wait until the first is done, whether that is a zombie, or our own transaction whose
//! answer was lost. What the marker then says is certain, and rows that it counts are not brought again.

use std::ops::Range;

use bytes::Bytes;
use fail::fail_point;
use futures::SinkExt;
use shardflow::sink::Trouble;
use shardflow::{Epoch, Error, Outcome, Result};
use tokio_postgres::{Client, Statement};

use super::cell;
use super::failure::{Failure, Refusal, is_rolled_back};
use super::handle::{Handle, SetAside};
use super::link::Committed;
use super::marker::{Marker, Owner, Start};
use super::name::TableName;
use super::row;
use super::session::{Copying, Session};
use super::sql::{self, Upsert};

/// Bytes of one message of a COPY.
const PIECE: usize = 256 << 10;

/// Where rows go.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) table: TableName,
    pub(super) upsert: Option<Upsert>,
    pub(super) rejected: Option<TableName>,
    pub(super) owner: Owner,
}

/// A handle of an epoch.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) epoch: Epoch,
    pub(super) handle: Handle,
}

/// Rows of the same columns, in their order.
#[derive(Debug, PartialEq, Eq)]
struct Batch {
    columns: Vec<String>,
    rows: Bytes,
    count: u64,
}

/// How rows are brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Care {
    /// All together: one that is refused takes all others with it.
    Whole,
    /// In pieces, each under a savepoint, until every refused row is found.
    Pieces,
}

/// Commits what the marker does not count yet. `in_doubt` holds what a COMMIT was to do while it is without an answer.
pub(super) async fn commit(
    session: &mut Session,
    target: &Target,
    staged: &[Staged],
    in_doubt: &mut Option<Committed>,
) -> Result<Committed, Failure> {
    // Before the transaction, which might take the staging tables with it.
    for one in staged {
        session.copying(&target.table, target.upsert.as_ref(), &one.handle.head.columns).await?;
    }
    match attempt(session, target, staged, Care::Whole, in_doubt).await {
        Err(Failure::Refusal(refusal)) => {
            let table = target.table.to_string();
            tracing::debug!(table, refusal = refusal.text, "a row was refused: looking for it");
            session.client.batch_execute("ROLLBACK").await?;
            attempt(session, target, staged, Care::Pieces, in_doubt).await
        }
        done => done,
    }
}

async fn attempt(
    session: &mut Session,
    target: &Target,
    staged: &[Staged],
    care: Care,
    in_doubt: &mut Option<Committed>,
) -> Result<Committed, Failure> {
    fail_point!("sink-postgres::before-begin", |_| Err(Error::sink("stopped before beginning").into()));
    session.client.batch_execute(sql::BEGIN).await?;
    let marker = lock(session, &target.owner).await?;
    // Whatever was without an answer is decided now: the lock has waited for it.
    let pending = in_doubt.take();
    let through = target.owner.committed_through(marker)?;
    fail_point!("sink-postgres::after-lock", |_| Err(Error::sink("stopped after locking").into()));
    let due: Vec<&Staged> = staged.iter().filter(|one| Some(one.epoch) > through).collect();
    let Some(last) = due.iter().map(|one| one.epoch).max() else {
        session.client.batch_execute("ROLLBACK").await?;
        return Ok(pending.unwrap_or_default());
    };
    let mut set_aside: Vec<SetAside> = due.iter().flat_map(|one| one.handle.head.set_aside.clone()).collect();
    let mut done = Committed::default();
    let batches = batches(&due)?;
    if care == Care::Pieces {
        // Also those that would wait for the COMMIT, when nothing tells any more which row is to blame.
        session.client.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await?;
    }
    for batch in &batches {
        let copying = session.copying(&target.table, target.upsert.as_ref(), &batch.columns).await?;
        let refused = match care {
            Care::Whole => {
                let several = batches.len() > 1;
                bring(&session.client, &copying, batch.rows.clone(), several).await?;
                Vec::new()
            }
            Care::Pieces => bring_pieces(&session.client, target, &copying, batch).await?,
        };
        done.rows = done.rows.saturating_add(batch.count).saturating_sub(refused.len() as u64);
        done.bytes = done.bytes.saturating_add(batch.rows.len() as u64);
        set_aside.extend(refused);
        fail_point!("sink-postgres::after-copy", |_| Err(Error::sink("stopped after copying").into()));
    }
    done.set_aside = set_aside.len() as u64;
    done.first = set_aside.first().map(|one| one.error.clone());
    put_aside(session, target, &set_aside).await?;
    move_marker(session, &target.owner, last).await?;
    fail_point!("sink-postgres::before-commit", |_| Err(Error::sink("stopped before committing").into()));
    *in_doubt = Some(done.clone());
    let committed = session.client.batch_execute("COMMIT").await;
    committed.map_err(|error| commit_failed(error, target, care, in_doubt))?;
    *in_doubt = None;
    fail_point!("sink-postgres::after-commit", |_| Err(Error::sink("stopped after committing").into()));
    Ok(done)
}

/// What a COMMIT that failed means.
fn commit_failed(
    error: tokio_postgres::Error,
    target: &Target,
    care: Care,
    in_doubt: &mut Option<Committed>,
) -> Failure {
    if is_rolled_back(&error) {
        *in_doubt = None;
        return match Failure::of_rows(error, &target.table.table) {
            // It has been looked for, and there is no telling which it is.
            Failure::Refusal(refusal) if care == Care::Pieces => {
                Failure::Stop(Error::sink(format!("could not commit to table \"{}\": {}", target.table, refusal.text)))
            }
            failure => failure,
        };
    }
    match Failure::from(error) {
        Failure::Trouble(trouble) => Failure::Trouble(Trouble { outcome: Outcome::Indeterminate, ..trouble }),
        other => other,
    }
}

/// Locks the marker and reads it.
async fn lock(session: &mut Session, owner: &Owner) -> Result<Option<Marker>, Failure> {
    let statement = session.statement(&sql::lock_marker(&owner.table)).await?;
    let row = session.client.query_opt(&statement, &[&owner.job, &owner.step]).await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Marker::read(row.try_get(0)?, row.try_get(1)?)?))
}

async fn move_marker(session: &mut Session, owner: &Owner, to: Epoch) -> Result<(), Failure> {
    let statement = session.statement(&sql::set_marker(&owner.table)).await?;
    let (incarnation, epoch) = (stored(owner.incarnation.number())?, stored(to.number())?);
    let moved = session.client.execute(&statement, &[&owner.job, &owner.step, &incarnation, &epoch]).await?;
    if moved == 1 {
        return Ok(());
    }
    let table = &owner.table;
    Err(Error::sink(format!("could not move the marker in table \"{table}\": a trigger or a rule is in the way"))
        .into())
}

fn stored(number: u64) -> Result<i64> {
    i64::try_from(number)
        .map_err(|cause| Error::internal(format!("{number} is too large for a marker")).caused_by(cause))
}

/// Makes the marker this start's, durably. Whoever had it can commit no more. `in_doubt` is set while the COMMIT is without an
/// answer.
pub(super) async fn take_over(
    session: &mut Session,
    owner: &Owner,
    start: &mut Start,
    in_doubt: &mut Option<Committed>,
) -> Result<(), Failure> {
    session.client.batch_execute(sql::BEGIN).await?;
    let found = lock(session, owner).await?;
    // The lock has waited for whatever was without an answer.
    *in_doubt = None;
    if owner.may_take_over(found, *start)? {
        let statement = session.statement(&sql::take_over(&owner.table)).await?;
        let incarnation = stored(owner.incarnation.number())?;
        let taken = session.client.execute(&statement, &[&owner.job, &owner.step, &incarnation]).await?;
        if taken == 0 {
            return Err(Failure::transient("another start was faster: looking again"));
        }
        start.has_asked = true;
        *in_doubt = Some(Committed::default());
    }
    let committed = session.client.batch_execute("COMMIT").await;
    if committed.as_ref().map_or_else(is_rolled_back, |()| true) {
        *in_doubt = None;
    }
    Ok(committed?)
}

/// Puts together what can be brought together.
fn batches(due: &[&Staged]) -> Result<Vec<Batch>> {
    let mut batches: Vec<Batch> = Vec::new();
    for run in due.chunk_by(|one, next| one.handle.head.columns == next.handle.head.columns) {
        let (mut rows, mut count) = (Vec::new(), 0_u64);
        for one in run {
            one.handle.unpack(&mut rows)?;
            count = count.saturating_add(one.handle.head.count);
        }
        if let (Some(first), false) = (run.first(), rows.is_empty()) {
            batches.push(Batch { columns: first.handle.head.columns.clone(), rows: rows.into(), count });
        }
    }
    Ok(batches)
}

/// Brings rows into the target. `clear`: others may follow.
async fn bring(client: &Client, copying: &Copying, rows: Bytes, clear: bool) -> Result<(), Failure> {
    let of_rows = |error| Failure::of_rows(error, &copying.relation);
    copy(client, &copying.copy, rows).await.map_err(of_rows)?;
    if let Some(merging) = &copying.merging {
        client.execute(&merging.merge, &[]).await.map_err(of_rows)?;
        if clear {
            client.execute(&merging.clear, &[]).await?;
        }
    }
    Ok(())
}

async fn copy(client: &Client, statement: &Statement, mut rows: Bytes) -> Result<(), tokio_postgres::Error> {
    let sink = client.copy_in(statement).await?;
    tokio::pin!(sink);
    while !rows.is_empty() {
        let piece = rows.split_to(PIECE.min(rows.len()));
        sink.send(piece).await?;
    }
    sink.finish().await.map(drop)
}

/// Brings the rows of a batch but for those that the server refuses, and gives these.
async fn bring_pieces(
    client: &Client,
    target: &Target,
    copying: &Copying,
    batch: &Batch,
) -> Result<Vec<SetAside>, Failure> {
    let ends = row::ends(&batch.rows);
    let begin = |row: usize| row.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
    let mut refused = Vec::new();
    // The next piece is the last: pieces are brought in the order of the rows.
    let whole = 0..ends.len();
    let mut pieces = vec![whole];
    while let Some(piece) = pieces.pop() {
        let rows = batch.rows.slice(begin(piece.start)..begin(piece.end));
        client.batch_execute("SAVEPOINT piece").await?;
        match bring(client, copying, rows.clone(), true).await {
            Ok(()) => client.batch_execute("RELEASE SAVEPOINT piece").await?,
            Err(Failure::Refusal(refusal)) => {
                client.batch_execute("ROLLBACK TO SAVEPOINT piece; RELEASE SAVEPOINT piece").await?;
                if piece.len() == 1 {
                    refused.push(aside(target, &batch.columns, &rows, refusal)?);
                } else {
                    let parts = cut(piece.len(), refusal.row).into_iter().rev();
                    let at = |row: usize| row.saturating_add(piece.start);
                    pieces.extend(parts.map(|part| at(part.start)..at(part.end)));
                }
            }
            Err(other) => return Err(other),
        }
    }
    Ok(refused)
}

/// Cuts a piece that holds a refused row, of which the server may have said where it is. Pure.
fn cut(length: usize, row: Option<usize>) -> Vec<Range<usize>> {
    let parts = match row.filter(|row| *row < length) {
        Some(row) => vec![0..row, row..row.saturating_add(1), row.saturating_add(1)..length],
        None => vec![0..length / 2, length / 2..length],
    };
    parts.into_iter().filter(|part| !part.is_empty()).collect()
}

/// A row that the server refuses. Where there is no table for such rows it stops the job.
fn aside(target: &Target, columns: &[String], line: &[u8], refusal: Refusal) -> Result<SetAside, Failure> {
    let row = row::show(columns, line);
    if target.rejected.is_none() {
        return Err(Failure::Stop(refused(&target.table, &refusal.text, &row)));
    }
    Ok(SetAside { error: refusal.text, row })
}

/// The error that stops a job for a record that can never be written.
pub(super) fn refused(table: &TableName, why: &str, row: &str) -> Error {
    let row = row::beginning(row);
    Error::sink(format!(
        "could not write a row to table \"{table}\": {why}; the row is {row}; rejected_to_table(…) sets such rows aside"
    ))
}

/// Writes down the rows that are refused.
async fn put_aside(session: &mut Session, target: &Target, set_aside: &[SetAside]) -> Result<(), Failure> {
    let Some(table) = target.rejected.as_ref().filter(|_| !set_aside.is_empty()) else { return Ok(()) };
    let statement = session.statement(&sql::copy(&table.sql(), &sql::REJECTED_COLUMNS)).await?;
    let mut lines = Vec::new();
    for SetAside { error, row } in set_aside {
        for (index, text) in [&target.owner.job, &target.owner.step, error, row].into_iter().enumerate() {
            if index > 0 {
                lines.push(b'\t');
            }
            cell::escape(text.as_bytes(), &mut lines);
        }
        lines.push(b'\n');
    }
    copy(&session.client, &statement, lines.into()).await.map_err(|error| match Failure::of_rows(error, &table.table) {
        Failure::Refusal(refusal) => {
            let text = refusal.text;
            Failure::Stop(Error::sink(format!("could not set rows aside in table \"{table}\": {text}")))
        }
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::handle::Head;
    use proptest::prelude::*;

    fn staged(epoch: u64, columns: &[&str], rows: &str) -> Staged {
        let head = Head {
            incarnation: 1,
            worker: 0,
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            count: rows.lines().count() as u64,
            length: 0,
            packed: false,
            set_aside: Vec::new(),
        };
        Staged { epoch: Epoch::new(epoch), handle: Handle::new(head, rows.as_bytes().to_vec()).unwrap() }
    }

    #[test]
    fn rows_of_the_same_columns_go_together_and_keep_their_order() {
        let all = [
            staged(1, &["a"], "1\n2\n"),
            staged(1, &["a"], ""),
            staged(2, &["a"], "3\n"),
            staged(2, &["a", "b"], "4\t5\n"),
            staged(3, &["a"], "6\n"),
            staged(3, &["b"], ""),
        ];
        let batches = batches(&all.iter().collect::<Vec<_>>()).unwrap();
        let seen: Vec<_> = batches.iter().map(|batch| (batch.columns.len(), &*batch.rows, batch.count)).collect();
        assert_eq!(seen, [(1, &b"1\n2\n3\n"[..], 3), (2, &b"4\t5\n"[..], 1), (1, &b"6\n"[..], 1)]);
    }

    proptest! {
        #[test]
        fn whatever_the_server_refuses_is_found_and_the_rest_is_brought(
            bad in prop::collection::vec(any::<bool>(), 1..80), says_where: bool, lies: bool,
        ) {
            let whole = 0..bad.len();
            let (mut pieces, mut refused, mut brought) = (vec![whole], Vec::new(), Vec::new());
            let mut calls = 0;
            while let Some(piece) = pieces.pop() {
                calls += 1;
                let first = bad[piece.clone()].iter().position(|bad| *bad);
                match first {
                    None => brought.extend(piece),
                    Some(_) if piece.len() == 1 => refused.push(piece.start),
                    Some(at) => {
                        let row = if lies { Some(at + 7) } else { Some(at) };
                        let parts = cut(piece.len(), row.filter(|_| says_where));
                        prop_assert!(parts.iter().all(|part| !part.is_empty() && part.len() < piece.len()));
                        pieces.extend(parts.into_iter().rev().map(|part| part.start + piece.start..part.end + piece.start));
                    }
                }
            }
            let expected = |wanted: bool| (0..bad.len()).filter(|n| bad[*n] == wanted).collect::<Vec<_>>();
            prop_assert_eq!(&refused, &expected(true));
            prop_assert_eq!(brought, expected(false));
            if says_where && !lies {
                prop_assert!(calls <= 3 * refused.len() + 1, "{calls} calls for {} refused rows", refused.len());
            }
        }
    }
}
