//! A sink driven as a job drives it, by one worker, and the charges that are written.

use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use shardflow::Epoch;
use shardflow::sink::{Prepared, Sink, SinkContext, StagedHandle};
use shardflow::testing::sink::permit;
use shardflow::vocabulary::Incarnation;

use super::Wrote;

/// How many records an epoch has: what a worker stages in a fifth of a second.
pub(super) const EPOCH_RECORDS: usize = 100_000;

/// How many epochs may wait for the one that is being committed.
const OPEN_EPOCHS: usize = 1;

/// What is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Charge {
    pub(super) account: String,
    pub(super) meter: String,
    pub(super) hour: u64,
    pub(super) units: u64,
    pub(super) price: f64,
}

/// The charges, made before the clock starts.
pub(super) fn charges(records: u64) -> Vec<Charge> {
    let charge = |n: u64| Charge {
        account: format!("account-{:06}", n.wrapping_mul(2_654_435_761) % 20_000),
        meter: format!("meter-{}", n % 7),
        hour: 490_000_u64.saturating_add(n / 50_000),
        units: n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 44,
        price: (n % 1_000) as f64 / 64.0,
    };
    (0..records).map(charge).collect()
}

/// Stages, prepares and commits epoch after epoch, all charges so many times; over when all is visible.
pub(super) fn drive(sink: &dyn Sink<Charge>, charges: &[Charge], rounds: usize, folder: &Path) -> Result<Wrote> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("could not start tokio")?;
    let context = SinkContext {
        job: "bench".to_owned(),
        step: "charges".into(),
        incarnation: Incarnation::new(1),
        committed: None,
        workers: 1,
        folder: folder.to_owned(),
        runtime: runtime.handle().clone(),
    };
    let mut committer = sink.committer(&context)?;
    committer.recover(None, &[])?;
    let mut writer = sink.writer(&context, 0)?;
    let started = Instant::now();
    // As in a job: a thread of its own makes epochs durable and commits them, while the worker stages the next one.
    std::thread::scope(|scope| {
        let (send, prepared) = sync_channel(OPEN_EPOCHS);
        let commits = scope.spawn(move || -> Result<()> {
            for (epoch, prepared) in prepared {
                let handle = Prepared::finish(prepared)?;
                let handles: Vec<_> =
                    handle.into_iter().map(|handle| StagedHandle { epoch, worker: 0, handle }).collect();
                committer.commit(&permit(epoch), &handles)?;
            }
            Ok(committer.close()?)
        });
        let epochs = (0..rounds).flat_map(|_| charges.chunks(EPOCH_RECORDS));
        for (epoch, charges) in (1..).map(Epoch::new).zip(epochs) {
            charges.iter().try_for_each(|charge| writer.stage(charge))?;
            let Some(prepared) = writer.prepare(epoch)? else { continue };
            if send.send((epoch, prepared)).is_err() {
                break;
            }
        }
        drop(send);
        commits.join().map_err(|_| anyhow!("committing panicked"))?
    })?;
    let records = charges.len().saturating_mul(rounds) as u64;
    Ok(Wrote { records, seconds: started.elapsed().as_secs_f64() })
}
