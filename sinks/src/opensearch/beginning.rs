//! Whether the documents of an index may be of an earlier state of the job.
//!
//! Starts are counted by the state. Where it is emptied they are counted from 1 again, and the documents of the old count may
//! hide new ones without a word. So a job whose state has not written to an index yet begins only on an empty one. That it has begun
//! is noted in the sink's folder, which is beside the state and goes with it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use shardflow::{Error, Result};

use super::connection::Connection;

/// The note: a line for each pattern of indices.
const NOTE: &str = "begun";

/// Begins to write to the indices of a pattern, or goes on.
///
/// # Errors
/// This state has not written there, and there are documents; or the note cannot be written.
pub(super) async fn begin(connection: &Connection, folder: &Path, pattern: &str) -> Result<()> {
    let begun = begun(folder)?;
    if begun.lines().any(|line| line == pattern) {
        return Ok(());
    }
    match connection.count(pattern).await? {
        None => tracing::warn!(pattern, "this login may not see whether there are documents already"),
        Some(0) => {}
        Some(count) => {
            return Err(Error::config(format!(
                "could not begin on index \"{pattern}\": it holds {count} documents already, and this job's state is new. If they \
                 are of an earlier state, they may hide what this one writes: write to another index, or with versions of the \
                 records' own (version); if not, call may_have_documents"
            )));
        }
    }
    note(folder, &format!("{begun}{pattern}\n"))
}

fn begun(folder: &Path) -> Result<String> {
    match fs::read_to_string(folder.join(NOTE)) {
        Ok(begun) => Ok(begun),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(failed("read", folder, error)),
    }
}

/// Writes the note, whole and to stay.
fn note(folder: &Path, text: &str) -> Result<()> {
    let write = || {
        fs::create_dir_all(folder)?;
        let (new, note) = (folder.join(format!("{NOTE}.new")), folder.join(NOTE));
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(new, note)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| failed("write", folder, error))
}

fn failed(what: &str, folder: &Path, error: std::io::Error) -> Error {
    Error::state(format!("could not {what} \"{}\"", folder.join(NOTE).display())).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read_again_and_is_whole() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("totals");
        assert_eq!(begun(&folder).unwrap(), "");
        note(&folder, "usage-*\n").unwrap();
        note(&folder, "usage-*\ntotals\n").unwrap();
        assert_eq!(begun(&folder).unwrap(), "usage-*\ntotals\n");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        let error = note(&file, "totals\n").unwrap_err().to_string();
        assert!(error.contains("could not write") && error.contains("file/begun"), "{error}");
    }
}
