//! The object store sink on a disk beside an encoder and a file writer alone: the same format, one file.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use shardflow_sinks::{FileEncoder, FileFormat, Ndjson, Parquet, objects};

use super::drive::{Charge, charges, drive};
use super::{Kind, Wrote, once};
use crate::child::Usage;
use crate::limits::names::FILE_WRITER;
use crate::results::{Entry, Group, Measured, Speed};
use crate::throughput::Programs;

/// Enough for some forty objects: while the first spool file fills and while the last one is packed, one core has nothing to do.
const RECORDS: u64 = 12_000_000;
/// How often each charge is written: they are made before the clock starts, and lie in memory.
const ROUNDS: usize = 4;
/// How much of an encoder's output is written at a time.
const WRITE_BYTES: usize = 256 << 10;

fn parquet() -> Parquet {
    Parquet::of::<Charge>()
}

/// The limit, into one file that is durable at the end.
pub(super) fn encode(is_parquet: bool, folder: &str, records: u64) -> Result<Wrote> {
    let charges = charges(records / ROUNDS as u64);
    let path = Path::new(folder).join("file");
    let started = Instant::now();
    if is_parquet { alone(&parquet(), &charges, &path) } else { alone(&Ndjson, &charges, &path) }?;
    Ok(Wrote { records, seconds: started.elapsed().as_secs_f64() })
}

fn alone<F: FileFormat<Charge>>(format: &F, charges: &[Charge], path: &Path) -> Result<()> {
    let mut file = File::create(path).with_context(|| format!("could not make \"{}\"", path.display()))?;
    let mut encoder = format.encoder()?;
    for charge in (0..ROUNDS).flat_map(|_| charges) {
        encoder.write(charge).map_err(|unfit| anyhow::anyhow!("could not encode a charge: {unfit:?}"))?;
        if encoder.ready() >= WRITE_BYTES {
            file.write_all(&encoder.take()).context("could not write")?;
        }
    }
    file.write_all(&encoder.finish()?).context("could not write")?;
    file.sync_all().context("could not write")
}

/// The sink, until all of it is visible.
pub(super) fn store(is_parquet: bool, folder: &str, records: u64) -> Result<Wrote> {
    let charges = charges(records / ROUNDS as u64);
    let spool = Path::new(folder).join("spool");
    std::fs::create_dir_all(&spool).context("could not make the spool's folder")?;
    let sink = objects(format!("file://{folder}/store")).roll_after(Duration::from_secs(3_600)).roll_bytes(32 << 20);
    if is_parquet {
        drive(&sink.format(parquet()), &charges, ROUNDS, &spool)
    } else {
        drive(&sink, &charges, ROUNDS, &spool)
    }
}

/// Measures both formats, in turns with their limits.
pub(super) fn measure(programs: &Programs, scratch: &Path, runs: usize, quick: bool) -> Result<Vec<Entry>> {
    let records = if quick { RECORDS / 10 } else { RECORDS };
    let kinds = [Kind::EncodeNdjson, Kind::StoreNdjson, Kind::EncodeParquet, Kind::StoreParquet];
    let mut usages: [Vec<Usage>; 4] = Default::default();
    for run in 1..=runs {
        for (kind, usages) in kinds.into_iter().zip(&mut usages) {
            eprintln!("run {run} of {runs}: {}", kind.name());
            let to = tempfile::tempdir_in(scratch)?;
            let folder = to.path().to_str().context("the scratch folder's name is no UTF-8")?;
            usages.push(once(programs, scratch, kind, folder, "", records)?);
        }
    }
    let [encode_lines, lines, encode_parquet, parquet] = &usages;
    let entry = |id: &str, format: &str, ours: &[Usage], limit: &[Usage]| {
        Entry::Speed(Speed {
            id: id.to_owned(),
            group: Group::Sinks,
            title: format!("Object store on a disk, {format}"),
            ran: format!(
                "Charges staged by one worker, committed 100,000 at a time, until all are visible as {format} objects, and the same \
                 encoder with one file behind it,"
            ),
            records,
            ours: Measured::of("shardflow", ours, records),
            limits: vec![Measured::of(FILE_WRITER, limit, records)],
        })
    };
    Ok(vec![
        entry("store-ndjson", "NDJSON", lines, encode_lines),
        entry("store-parquet", "Parquet", parquet, encode_parquet),
    ])
}
