//! Python with readers of other makers, and what it says of the files that a test wrote.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Python with its readers, where they are installed.
pub(crate) fn python() -> Option<PathBuf> {
    shardflow_stand_ins::servers::installed("Python with pyarrow, DuckDB and fastavro", "readers/bin/python")
}

/// Runs one check of `check_files.py` on a folder, and gives what it printed.
///
/// # Panics
/// Where the check fails, with what it said.
pub(crate) fn check(python: &Path, what: &str, folder: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/objects/readers/check_files.py");
    let run = Command::new(python).env("TZ", "UTC").arg("-B").arg(script).arg(what).arg(folder).output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{what}: {out}\n{error}");
    out.trim().to_owned()
}
