//! The workload in files, generated once and kept beside what the build made.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use shardflow_examples::metering::generate::generate;
use shardflow_examples::metering::workload::Spec;

/// Files, so that two workers have something to share.
const FILES: usize = 4;
const SEED: u64 = 7;
/// Holds the spec of the files, one folder up from them: it is no input.
const SPEC: &str = "spec.txt";

/// What the programs read.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    /// The folder of files.
    pub(crate) dir: PathBuf,
    /// How many bytes.
    pub(crate) bytes: u64,
}

impl Input {
    /// Takes the files of an earlier run if they are of the same workload, else generates them. Each number of records has
    /// a folder of its own in `cache`.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub(crate) fn prepare(cache: &Path, records: u64) -> Result<Self> {
        let spec = Spec { lanes: FILES, ..Spec::new(records, SEED) };
        let base = cache.join(format!("input-{records}"));
        let (dir, note) = (base.join("files"), base.join(SPEC));
        let wanted = format!("{} {spec:?}\n", env!("CARGO_PKG_VERSION"));
        if fs::read_to_string(&note).ok().as_deref() != Some(&wanted) {
            eprintln!("generating {records} records into {}", dir.display());
            // In this order: a note says that the files beside it are whole.
            remove(&note)?;
            remove(&dir)?;
            generate(spec, &dir)?;
            fs::write(&note, wanted).with_context(|| format!("could not write \"{}\"", note.display()))?;
        }
        let bytes = read(&dir)?;
        Ok(Self { dir, bytes })
    }
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove \"{}\"", path.display()))
        }
        _ => Ok(()),
    }
}

/// Reads all files once, so that no program waits for a disk that the next one does not. Gives their bytes.
fn read(dir: &Path) -> Result<u64> {
    let mut bytes = 0_u64;
    for entry in fs::read_dir(dir).with_context(|| format!("could not list \"{}\"", dir.display()))? {
        let path = entry.with_context(|| format!("could not list \"{}\"", dir.display()))?.path();
        let read = File::open(&path).and_then(|mut file| io::copy(&mut file, &mut io::sink()));
        bytes = bytes.saturating_add(read.with_context(|| format!("could not read \"{}\"", path.display()))?);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_kept_for_the_same_workload_and_made_anew_for_another() {
        let dir = tempfile::tempdir().unwrap();
        let input = Input::prepare(dir.path(), 1_000).unwrap();
        let part = input.dir.join("part-00000.ndjson");
        let whole = fs::read(&part).unwrap();
        fs::write(&part, "changed").unwrap();
        assert!(Input::prepare(dir.path(), 1_000).unwrap().bytes < input.bytes);
        assert_eq!(fs::read(&part).unwrap(), b"changed");
        assert!(Input::prepare(dir.path(), 2_000).unwrap().bytes > input.bytes);
        fs::write(dir.path().join("input-1000").join(SPEC), "an older version's workload").unwrap();
        assert_eq!(Input::prepare(dir.path(), 1_000).unwrap().bytes, input.bytes);
        assert_eq!(fs::read(&part).unwrap(), whole);
    }
}
