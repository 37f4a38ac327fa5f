//! Python with readers of other makers: where it is installed, and what it says of the files that a test wrote.
//!
//! `.ci/setup-servers` installs it into `SHARDFLOW_SERVERS`, by default `<target folder>/servers`, as `readers`. Without it a
//! test says so in one line and is left out, unless `SHARDFLOW_REQUIRE_SERVERS` is set: then it fails.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder that servers and readers are installed in.
fn folder() -> PathBuf {
    if let Some(folder) = env::var_os("SHARDFLOW_SERVERS") {
        return PathBuf::from(folder);
    }
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    // A test runs from <target>/<profile>/deps.
    let own = || env::current_exe().ok()?.ancestors().nth(3).map(Path::to_owned);
    target.or_else(own).expect("a target folder").join("servers")
}

/// Python with its readers, where it is installed and has them all.
pub(crate) fn python() -> Option<PathBuf> {
    let python = folder().join("readers/bin/python");
    let imports = "import pyarrow, duckdb, fastavro, zstandard, cramjam";
    let has_all =
        |python: &Path| Command::new(python).args(["-c", imports]).output().is_ok_and(|run| run.status.success());
    if python.exists() && has_all(&python) {
        return Some(python);
    }
    let text = format!(
        "no Python with pyarrow, duckdb, fastavro, zstandard and cramjam at {}: run .ci/setup-servers",
        python.display()
    );
    assert!(env::var_os("SHARDFLOW_REQUIRE_SERVERS").is_none(), "{text}");
    eprintln!("TEST LEFT OUT: {text}");
    None
}

/// Runs one check of `check_files.py` on a folder, and gives what it printed.
///
/// # Panics
/// Where the check fails, with what it said.
pub(crate) fn check(python: &Path, what: &str, folder: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/check_files.py");
    let run = Command::new(python).arg("-B").arg(script).arg(what).arg(folder).output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{what}: {out}\n{error}");
    out.trim().to_owned()
}
