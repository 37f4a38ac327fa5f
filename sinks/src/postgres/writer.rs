//! One worker's side: records become rows in memory, and an epoch's rows become its handle.
//!
//! *Survives a crash*: what is in the handle of a durable epoch. The server knows nothing of it before the commit.

use std::mem;

use fail::fail_point;
use shardflow::sink::{Prepared, SinkWriter};
use shardflow::{Epoch, Result};

use super::handle::{Handle, Head, SetAside};
use super::name::TableName;
use super::row::{self, Layout};
use super::transaction::refused;

pub(super) struct RowWriter<T> {
    pub(super) layout: Layout<T>,
    pub(super) table: TableName,
    pub(super) sets_aside: bool,
    pub(super) step: String,
    pub(super) incarnation: u64,
    pub(super) worker: u32,
    /// The open epoch's rows.
    pub(super) rows: Vec<u8>,
    pub(super) count: u64,
    pub(super) set_aside: Vec<SetAside>,
}

impl<T> RowWriter<T> {
    fn add(&mut self, record: &T) -> Result<()> {
        let start = self.rows.len();
        let written = self.layout.write(record, &mut self.rows);
        let Err(error) = written else {
            self.count = self.count.saturating_add(1);
            return Ok(());
        };
        let row = row::show(self.layout.names(), self.rows.get(start..).unwrap_or_default());
        self.rows.truncate(start);
        if !self.sets_aside {
            return Err(refused(&self.table, &error, &row));
        }
        self.set_aside.push(SetAside { error, row });
        Ok(())
    }
}

impl<T: 'static> SinkWriter<T> for RowWriter<T> {
    fn stage(&mut self, record: &T) -> Result<()> {
        self.add(record).map_err(|error| error.in_step(&self.step))?;
        fail_point!("sink-postgres::after-stage", |_| Err(shardflow::Error::sink("stopped after staging")));
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Option<Prepared>> {
        fail_point!("sink-postgres::before-prepare", |_| Err(shardflow::Error::sink("stopped before preparing")));
        if self.rows.is_empty() && self.set_aside.is_empty() {
            return Ok(None);
        }
        // The next epoch is likely to be about as large.
        let rows = Vec::with_capacity(self.rows.len());
        let rows = mem::replace(&mut self.rows, rows);
        let head = Head {
            incarnation: self.incarnation,
            worker: self.worker,
            columns: self.layout.names().to_vec(),
            count: mem::take(&mut self.count),
            length: 0,
            packed: false,
            set_aside: mem::take(&mut self.set_aside),
        };
        // Packed on the commit thread, off the worker's.
        Ok(Some(Prepared::Flush(Box::new(move || Handle::new(head, rows)?.encode().map(Some)))))
    }

    fn in_flight(&self) -> u64 {
        self.rows.len() as u64
    }
}
