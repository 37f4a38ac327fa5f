//! The job that is killed: a value of 80 bytes for each key, changed by each record of the key.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};
use shardflow::sink::{Committer, Prepared, Sink, SinkContext, SinkWriter};
use shardflow::{Epoch, Error, EventTime, Job, KeyContext, KeyedLogic, Lag, init_logging, millis};

use super::source::Keys;
use crate::nothing::Nothing;
use crate::records::NumberDecoder;

/// Is there once every key is committed.
pub(super) const BUILT: &str = "built";
/// Is there once a restarted job has committed: [`Recovered`].
pub(super) const RECOVERED: &str = "recovered.json";

/// The hidden command.
#[derive(Debug, Args)]
pub(crate) struct Keep {
    /// How many keys there are.
    #[arg(long)]
    keys: u64,
    /// Whether every key is committed already: a value that begins anew is an error then.
    #[arg(long)]
    restarted: bool,
    /// Where the state is.
    #[arg(long)]
    state: PathBuf,
    /// Where the job tells how far it is.
    #[arg(long)]
    dir: PathBuf,
}

/// When something came of new records after a restart, in microseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recovered {
    /// The first result.
    pub(super) result: u64,
    /// The first commit with records.
    pub(super) commit: u64,
}

/// The wall clock, which both processes read, in microseconds since 1970.
pub(super) fn now_micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// What is kept for a key: 80 bytes in memory, some 82 when stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Value {
    count: u64,
    data: [u64; 9],
}

impl Value {
    fn of(key: u64) -> Self {
        // Large numbers: small ones would be stored in fewer bytes.
        Self { count: 0, data: std::array::from_fn(|index| !(key ^ ((index as u64) << 40))) }
    }
}

struct Change;

impl KeyedLogic<u64, u64> for Change {
    type State = Value;
    type Out = u64;

    fn on_record(&self, record: u64, key: &mut KeyContext<'_, u64, Value, u64>) {
        let value = key.get_or_insert_with(|| Value::of(record));
        value.count = value.count.saturating_add(1);
        let count = value.count;
        key.emit(count);
    }
}

/// Runs the job until it is killed.
///
/// # Errors
/// What the engine says.
pub(crate) fn keep(args: &Keep) -> Result<()> {
    init_logging()?;
    let source = Keys::new(args.keys);
    let first = First { restarted: args.restarted, result: Arc::default() };
    let (sink, result) = (first.clone(), Arc::clone(&first.result));
    let (dir, keys, restarted) = (args.dir.clone(), args.keys, args.restarted);
    let told = Mutex::new(false);
    Job::named("recovery")
        .workers(2)
        .state(&args.state)
        .on_commit(move |info| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if *told || info.records == 0 || (!restarted && info.records < keys) {
                return;
            }
            let result = *result.lock().unwrap_or_else(PoisonError::into_inner);
            let recovered = Recovered { result: result.unwrap_or_default(), commit: now_micros() };
            *told = tell(&dir, restarted, recovered).is_ok();
        })
        .run(move |flow| {
            let (keys, _rejected) = flow.source("keys", source.clone()).decode(NumberDecoder);
            keys.event_time(|_| EventTime::MIN, Lag::of(millis(0)))
                .key_by(|key| *key)
                .process("values", Change)
                .sink("results", sink.clone());
        })?;
    Ok(())
}

fn tell(dir: &Path, restarted: bool, recovered: Recovered) -> Result<()> {
    if !restarted {
        return std::fs::write(dir.join(BUILT), "").context("could not tell that the state is built");
    }
    let part = dir.join("recovered.part");
    std::fs::write(&part, serde_json::to_vec(&recovered)?).context("could not tell that the job has recovered")?;
    std::fs::rename(&part, dir.join(RECOVERED)).context("could not tell that the job has recovered")
}

/// A sink that notes when the first result came, and keeps nothing.
#[derive(Debug, Clone)]
struct First {
    restarted: bool,
    result: Arc<Mutex<Option<u64>>>,
}

impl Sink<u64> for First {
    fn committer(&self, _context: &SinkContext) -> shardflow::Result<Box<dyn Committer>> {
        Ok(Box::new(Nothing))
    }

    fn writer(&self, _context: &SinkContext, _worker: usize) -> shardflow::Result<Box<dyn SinkWriter<u64>>> {
        Ok(Box::new(FirstWriter { first: self.clone(), seen: false }))
    }
}

struct FirstWriter {
    first: First,
    seen: bool,
}

impl SinkWriter<u64> for FirstWriter {
    fn stage(&mut self, count: &u64) -> shardflow::Result<()> {
        if self.first.restarted && *count < 2 {
            return Err(Error::sink("a value that was committed is gone"));
        }
        if !std::mem::replace(&mut self.seen, true) {
            self.first.result.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(now_micros);
        }
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> shardflow::Result<Option<Prepared>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardflow::state::codec;

    #[test]
    fn a_value_is_some_eighty_bytes_in_memory_and_stored() {
        let mut bytes = Vec::new();
        codec::encode_into(&Value::of(7), &mut bytes).unwrap();
        assert_eq!((size_of::<Value>(), bytes.len()), (80, 82));
    }

    #[test]
    fn a_restarted_job_refuses_a_value_that_begins_anew() {
        let writer = |restarted| FirstWriter { first: First { restarted, result: Arc::default() }, seen: false };
        assert!(writer(false).stage(&1).is_ok());
        assert!(writer(true).stage(&1).is_err());
        let mut writer = writer(true);
        writer.stage(&2).unwrap();
        assert!(writer.first.result.lock().unwrap().is_some());
    }
}
