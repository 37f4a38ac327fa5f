//! The PostgreSQL sink beside a bare COPY of the same rows by the same driver, an epoch a transaction, of a server on this machine.

use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::SinkExt;
use shardflow_sinks::postgres;
use shardflow_stand_ins::postgres::Database;
use tokio_postgres::NoTls;

use super::drive::{Charge, EPOCH_RECORDS, charges, drive};
use super::{Kind, Wrote, once};
use crate::child::Usage;
use crate::limits::names::BARE_COPY;
use crate::results::{Entry, Group, Measured, Speed};
use crate::throughput::Programs;

const RECORDS: u64 = 1_500_000;
/// Bytes of a message.
const MESSAGE_BYTES: usize = 256 << 10;

/// The limit: text written by hand, an epoch a transaction.
pub(super) fn copy(address: &str, table: &str, records: u64) -> Result<Wrote> {
    let charges = charges(records);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.context("could not start tokio")?.block_on(async {
        let (client, connection) =
            tokio_postgres::connect(address, NoTls).await.context("could not reach the server")?;
        tokio::spawn(connection);
        let started = Instant::now();
        for charges in charges.chunks(EPOCH_RECORDS) {
            let mut text = String::with_capacity(charges.len().saturating_mul(64));
            for Charge { account, meter, hour, units, price } in charges {
                writeln!(text, "{account}\t{meter}\t{hour}\t{units}\t{price}").context("could not write a row")?;
            }
            let mut text = Bytes::from(text);
            client.batch_execute("BEGIN").await.context("could not begin")?;
            let rows = client.copy_in(&format!("COPY {table} FROM STDIN")).await.context("could not copy")?;
            tokio::pin!(rows);
            while !text.is_empty() {
                rows.send(text.split_to(text.len().min(MESSAGE_BYTES))).await.context("could not copy")?;
            }
            rows.finish().await.context("could not copy")?;
            client.batch_execute("COMMIT").await.context("could not commit")?;
        }
        Ok(Wrote { records, seconds: started.elapsed().as_secs_f64() })
    })
}

/// The sink, until all of it is committed.
pub(super) fn sink(address: &str, table: &str, records: u64, folder: &Path) -> Result<Wrote> {
    let charges = charges(records);
    let sink = postgres(address).table::<Charge>(table);
    let sink = sink.column("account", |c| &c.account).column("meter", |c| &c.meter).column("hour", |c| &c.hour);
    drive(&sink.column("units", |c| &c.units).column("price", |c| &c.price), &charges, 1, folder)
}

/// Measures both, in turns, each run into a table of its own.
pub(super) fn measure(programs: &Programs, scratch: &Path, runs: usize, quick: bool) -> Result<Vec<Entry>> {
    let records = if quick { RECORDS / 10 } else { RECORDS };
    let Some(database) = Database::fresh() else { return Ok(Vec::new()) };
    let mut usages: [Vec<Usage>; 2] = Default::default();
    for run in 1..=runs {
        for (kind, usages) in [Kind::Copy, Kind::Postgres].into_iter().zip(&mut usages) {
            eprintln!("run {run} of {runs}: {}", kind.name());
            database.run("DROP TABLE IF EXISTS shardflow_commits, charges");
            database.run("CREATE TABLE charges (account text, meter text, hour bigint, units bigint, price float8)");
            database.run("CHECKPOINT");
            usages.push(once(programs, scratch, kind, &database.address(), "charges", records)?);
            let found = database.text("SELECT count(*) FROM charges");
            anyhow::ensure!(found == records.to_string(), "{} wrote {found} rows, and not {records}", kind.name());
        }
    }
    let [bare, ours] = &usages;
    Ok(vec![Entry::Speed(Speed {
        id: "postgres".to_owned(),
        group: Group::Sinks,
        title: "PostgreSQL, inserts".to_owned(),
        ran: "Charges staged by one worker, committed 100,000 at a time, and COPY with the driver alone, of a server on the same two cores,"
            .to_owned(),
        records,
        ours: Measured::of("shardflow", ours, records),
        limits: vec![Measured::of(BARE_COPY, bare, records)],
    })])
}
