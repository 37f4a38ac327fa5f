//! One worker's side: records become lines of JSON in compressed files, which are put into the bucket when their epoch closes.
//!
//! *Survives a crash*: the files that the handle of a durable epoch names. Others are removed by the next start.

use std::io::Write;
use std::mem;
use std::time::Duration;

use bytes::Bytes;
use fail::fail_point;
use flate2::Compression;
use flate2::write::GzEncoder;
use shardflow::metrics::{DeliveryMetrics, RetryMetrics};
use shardflow::retry::{Retries, WallClock};
use shardflow::sink::{Prepared, SinkContext, SinkWriter, Version};
use shardflow::vocabulary::Incarnation;
use shardflow::{Epoch, Error, Result};
use tokio::runtime::Handle as Runtime;

use super::handle::{Handle, StagedFile};
use super::settings::Settings;
use super::sql::ROW_NUMBER;
use super::staging::Staging;
use crate::postgres::handle::SetAside;
use crate::postgres::name::TableName;
use crate::postgres::row::{self, Layout};

/// Of a file, compressed: Redshift reads several at a time.
const FILE_BYTES: usize = 64 << 20;

/// The longest row that Redshift takes from JSON, 4 MB, with room for its number.
const ROW_BYTES: usize = 4_000_000;

pub(super) struct FileWriter<T> {
    layout: Layout<T>,
    /// `"account":`, a column.
    keys: Vec<String>,
    table: TableName,
    sets_aside: bool,
    step: String,
    incarnation: Incarnation,
    worker: u32,
    /// The open epoch.
    epoch: Epoch,
    staging: Staging,
    runtime: Runtime,
    retries: RetryMetrics,
    give_up_after: Duration,
    /// Records that were taken in this start.
    taken: u64,
    open: File,
    full: Vec<File>,
    set_aside: Vec<SetAside>,
    line: Vec<u8>,
}

/// Rows of the open epoch.
struct File {
    rows: u64,
    packed: GzEncoder<Vec<u8>>,
}

impl File {
    fn new() -> Self {
        Self { rows: 0, packed: GzEncoder::new(Vec::new(), Compression::fast()) }
    }

    fn bytes(&self) -> usize {
        self.packed.get_ref().len()
    }
}

impl<T> FileWriter<T> {
    pub(super) fn new(layout: Layout<T>, settings: Settings, context: &SinkContext, worker: u32) -> Self {
        let key = |name: &String| format!("{}:", serde_json::Value::from(name.as_str()));
        Self {
            keys: layout.names().iter().map(key).collect(),
            layout,
            table: settings.target.table,
            sets_aside: settings.target.rejected.is_some(),
            step: context.step.as_str().to_owned(),
            incarnation: context.incarnation,
            worker,
            epoch: Epoch::default(),
            staging: settings.staging,
            runtime: context.runtime.clone(),
            retries: DeliveryMetrics::register(&context.step, 0).retries,
            give_up_after: settings.give_up_after,
            taken: 0,
            open: File::new(),
            full: Vec::new(),
            set_aside: Vec::new(),
            line: Vec::new(),
        }
    }

    fn add(&mut self, record: &T) -> Result<()> {
        let number = Version::new(self.incarnation, self.epoch, self.taken);
        self.taken = self.taken.saturating_add(1);
        self.line.clear();
        let written = self.layout.write(record, &mut self.line).and_then(|()| check(&self.line, self.keys.len()));
        let object = object(&self.keys, &self.line, number);
        let error = match written {
            Ok(()) if object.len() <= ROW_BYTES => return self.append(&object),
            Ok(()) => format!("it has {} bytes, and Redshift takes {ROW_BYTES} at most", object.len()),
            Err(error) => error,
        };
        let row = without_number(&object);
        if !self.sets_aside {
            return Err(refused(&self.table, &error, &row));
        }
        self.set_aside.push(SetAside { error, row });
        Ok(())
    }

    fn append(&mut self, object: &str) -> Result<()> {
        let written = self.open.packed.write_all(object.as_bytes()).and_then(|()| self.open.packed.write_all(b"\n"));
        written.map_err(|cause| Error::internal("could not compress rows").caused_by(cause))?;
        self.open.rows = self.open.rows.saturating_add(1);
        if self.open.bytes() >= FILE_BYTES {
            self.full.push(mem::replace(&mut self.open, File::new()));
        }
        Ok(())
    }
}

impl<T: 'static> SinkWriter<T> for FileWriter<T> {
    fn begin(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    fn stage(&mut self, record: &T) -> Result<()> {
        self.add(record).map_err(|error| error.in_step(&self.step))?;
        fail_point!("sink-redshift::after-stage", |_| Err(Error::sink("stopped after staging")));
        Ok(())
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<Option<Prepared>> {
        fail_point!("sink-redshift::before-prepare", |_| Err(Error::sink("stopped before preparing")));
        let mut files = mem::take(&mut self.full);
        files.push(mem::replace(&mut self.open, File::new()));
        files.retain(|file| file.rows > 0);
        if files.is_empty() && self.set_aside.is_empty() {
            return Ok(None);
        }
        let handle = Handle {
            incarnation: self.incarnation.number(),
            worker: self.worker,
            bucket: self.staging.bucket().to_owned(),
            columns: self.layout.names().to_vec(),
            files: Vec::new(),
            set_aside: mem::take(&mut self.set_aside),
        };
        let (staging, incarnation, worker) = (self.staging.clone(), self.incarnation, self.worker);
        let upload = Upload {
            files: files
                .into_iter()
                .enumerate()
                .map(|(part, file)| (staging.file(incarnation, epoch, worker, part), file))
                .collect(),
            staging,
            retries: self.retries.clone(),
            give_up_after: self.give_up_after,
        };
        let (runtime, step) = (self.runtime.clone(), self.step.clone());
        let flush = move || runtime.block_on(upload.run(handle)).map_err(|error| error.in_step(step));
        Ok(Some(Prepared::Flush(Box::new(flush))))
    }

    fn in_flight(&self) -> u64 {
        let files = self.full.iter().chain([&self.open]);
        files.map(|file| file.bytes() as u64).sum()
    }
}

/// Files on their way into the bucket.
struct Upload {
    staging: Staging,
    files: Vec<(String, File)>,
    retries: RetryMetrics,
    give_up_after: Duration,
}

impl Upload {
    async fn run(self, mut handle: Handle) -> Result<Option<Vec<u8>>> {
        fail_point!("sink-redshift::before-put", |_| Err(Error::sink("stopped before putting")));
        for (key, file) in self.files {
            let packed = file.packed.finish();
            let packed = packed.map_err(|cause| Error::internal("could not compress rows").caused_by(cause))?;
            let packed = Bytes::from(packed);
            let attempted = format!("stage \"{}\"", self.staging.url(&key));
            let retries = Retries::new(self.give_up_after, &WallClock, &self.retries, attempted);
            let put = retries.run(|| self.staging.put(&key, packed.clone())).await;
            put.map_err(|trouble| Error::sink("could not stage rows").caused_by(trouble))?;
            handle.files.push(StagedFile { key, bytes: packed.len() as u64, rows: file.rows });
        }
        fail_point!("sink-redshift::after-put", |_| Err(Error::sink("stopped after putting")));
        handle.encode().map(Some)
    }
}

/// A raw value inside of a cell (`serde_json::value::RawValue`) may bring tabs and line breaks of its own: then it is no row.
fn check(line: &[u8], columns: usize) -> Result<(), String> {
    let count = |byte: u8| line.iter().filter(|one| **one == byte).count();
    let is_row = count(b'\n') == 1 && count(b'\t').saturating_add(1) == columns;
    if is_row { Ok(()) } else { Err("it holds JSON with line breaks or tabs in it, between its values".to_owned()) }
}

/// A line of JSON: the columns' values, and the row's number.
fn object(keys: &[String], cells: &[u8], number: Version) -> String {
    let cells = String::from_utf8_lossy(cells.strip_suffix(b"\n").unwrap_or(cells));
    let mut object = String::with_capacity(cells.len().saturating_add(keys.len().saturating_mul(16)));
    object.push('{');
    for (key, cell) in keys.iter().zip(cells.split('\t')) {
        object.push_str(key);
        object.push_str(cell);
        object.push(',');
    }
    object.push_str(&format!("\"{ROW_NUMBER}\":\"{number}\"}}"));
    object
}

/// A line as it is shown.
pub(super) fn without_number(line: &str) -> String {
    match line.rfind(&format!(",\"{ROW_NUMBER}\":")) {
        Some(at) => format!("{}}}", line.get(..at).unwrap_or_default()),
        None => line.to_owned(),
    }
}

/// The error that stops a job for a record that can never be written.
pub(super) fn refused(table: &TableName, why: &str, row: &str) -> Error {
    let row = row::beginning(row);
    Error::sink(format!(
        "could not write a row to table \"{table}\": {why}; the row is {row}; rejected_to_table(…) sets such rows aside"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_json_object_with_its_number() {
        let keys = ["\"a\":".to_owned(), "\"b\":".to_owned()];
        // More starts than a version has room for as a number.
        let number = Version::new(Incarnation::new(1 << 20), Epoch::new(3), 7);
        let object = object(&keys, b"1\t\"x\\ty\"\n", number);
        assert_eq!(object, format!("{{\"a\":1,\"b\":\"x\\ty\",\"shardflow_row\":\"{number}\"}}"));
        assert_eq!(check(b"1\t\"x\\ty\"\n", 2), Ok(()));
        for raw in [&b"1\t[\n1]\n"[..], b"1\t[\t1]\n"] {
            assert!(check(raw, 2).unwrap_err().contains("line breaks"));
        }
        assert_eq!(without_number(&object), "{\"a\":1,\"b\":\"x\\ty\"}");
    }
}
