//! Reads what the job has made visible: every `*.ndjson` file below a folder whose name, and whose folders' names, do
//! not begin with a dot.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;

/// All visible files below `dir`, in order of their paths; none where there is no such folder.
///
/// # Errors
/// A folder that cannot be read.
pub fn visible_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("could not list \"{}\"", folder.display())),
        };
        for entry in entries {
            let path = entry.with_context(|| format!("could not list \"{}\"", folder.display()))?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "ndjson") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// All rows in the visible files below `dir`.
///
/// # Errors
/// A file that cannot be read, a line that is no `T`, or a last line without its end: a visible file is whole.
pub fn read_rows<T: DeserializeOwned>(dir: &Path) -> Result<Vec<T>> {
    let mut rows = Vec::new();
    each_line(dir, |path, number, line| {
        let row = serde_json::from_slice(line);
        rows.push(row.with_context(|| format!("line {number} of \"{}\" is no row", path.display()))?);
        Ok(())
    })?;
    Ok(rows)
}

/// All lines in the visible files below `dir`, as they stand there; what is no UTF-8 is replaced by U+FFFD.
///
/// # Errors
/// A file that cannot be read, or a last line without its end: a visible file is whole.
pub fn read_lines(dir: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    each_line(dir, |_path, _number, line| {
        lines.push(String::from_utf8_lossy(line).into_owned());
        Ok(())
    })?;
    Ok(lines)
}

fn each_line(dir: &Path, mut visit: impl FnMut(&Path, usize, &[u8]) -> Result<()>) -> Result<()> {
    for path in visible_files(dir)? {
        let bytes = fs::read(&path).with_context(|| format!("could not read \"{}\"", path.display()))?;
        if bytes.last().is_some_and(|last| *last != b'\n') {
            bail!("the last line of \"{}\" is cut", path.display());
        }
        for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            if !line.is_empty() {
                visit(&path, number + 1, line)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_and_foreign_files_are_no_output() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("b.ndjson", "2\n3\n");
        write("a/a.ndjson", "1\n");
        write(".staged.ndjson", "9\n");
        write(".hidden/x.ndjson", "9\n");
        write("notes.txt", "9\n");
        assert_eq!(read_rows::<u64>(dir.path()).unwrap(), [1, 2, 3]);
        assert!(read_rows::<u64>(&dir.path().join("none")).unwrap().is_empty());
    }

    #[test]
    fn a_cut_file_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.ndjson"), "1\n2").unwrap();
        assert!(read_rows::<u64>(dir.path()).unwrap_err().to_string().contains("a.ndjson"));
    }
}
