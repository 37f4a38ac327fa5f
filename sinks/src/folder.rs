//! A folder on a local disk: the few operations that sinks need, each with an error that names the path.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind as Io, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use shardflow::{Error, Result};

/// A folder in which a sink stages: one folder, so that a rename never crosses file systems.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where `name` is.
    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the folder where it is missing, so that it survives a power failure.
    pub(crate) fn create(&self) -> Result<()> {
        let missing: Vec<&Path> =
            self.path.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
        fs::create_dir_all(&self.path).map_err(|cause| failed("create the folder", &self.path, cause))?;
        for created in missing {
            let parent = created.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            sync_folder(parent)?;
        }
        Ok(())
    }

    /// The one right to commit here. Freed when the file is dropped, and by the system when the process dies.
    pub(crate) fn lock(&self, name: &str) -> Result<File> {
        let path = self.path_of(name);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|cause| failed("create", &path, cause))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(Error::config(format!(
                "the folder \"{}\" is in use: another process runs the same job and step on it",
                self.path.display()
            ))),
            Err(TryLockError::Error(cause)) => Err(failed("lock", &path, cause)),
        }
    }

    /// The names in it that are text. Whatever is not cannot be ours.
    pub(crate) fn names(&self) -> Result<impl Iterator<Item = Result<String>>> {
        let path = self.path.clone();
        let entries = fs::read_dir(&path).map_err(|cause| failed("list", &path, cause))?;
        Ok(entries.filter_map(move |entry| match entry {
            Ok(entry) => entry.file_name().into_string().ok().map(Ok),
            Err(cause) => Some(Err(failed("list", &path, cause))),
        }))
    }

    /// Creates a file that must not exist yet.
    pub(crate) fn create_file(&self, name: &str) -> Result<File> {
        let path = self.path_of(name);
        OpenOptions::new().write(true).create_new(true).open(&path).map_err(|cause| failed("create", &path, cause))
    }

    /// Opens a file to read it.
    pub(crate) fn open_file(&self, name: &str) -> Result<File> {
        let path = self.path_of(name);
        File::open(&path).map_err(|cause| failed("open", &path, cause))
    }

    /// Opens a file to append to its first `length` bytes; what is behind them is cut off.
    pub(crate) fn extend_file(&self, name: &str, length: u64) -> Result<File> {
        let path = self.path_of(name);
        let open = || {
            let mut file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(length)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        open().map_err(|cause| failed("extend", &path, cause))
    }

    /// Makes an error of what reading or writing a file met.
    pub(crate) fn failed(&self, what: &str, name: &str, cause: io::Error) -> Error {
        failed(what, &self.path_of(name), cause)
    }

    /// Its bytes; `None` where there is no such file.
    pub(crate) fn length(&self, name: &str) -> Result<Option<u64>> {
        let path = self.path_of(name);
        match fs::metadata(&path) {
            Ok(data) => Ok(Some(data.len())),
            Err(cause) if cause.kind() == Io::NotFound => Ok(None),
            Err(cause) => Err(failed("look at", &path, cause)),
        }
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.path_of(from), self.path_of(to));
        fs::rename(&from, &to).map_err(|cause| {
            Error::sink(format!("could not rename \"{}\" to \"{}\"", from.display(), to.display())).caused_by(cause)
        })
    }

    /// Cuts a file down to its first `length` bytes, durably.
    pub(crate) fn truncate(&self, name: &str, length: u64) -> Result<()> {
        let path = self.path_of(name);
        let cut = || {
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(length)?;
            file.sync_all()
        };
        cut().map_err(|cause| failed("truncate", &path, cause))
    }

    /// Removes a file; one that is gone already is fine.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let path = self.path_of(name);
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != Io::NotFound => Err(failed("remove", &path, cause)),
            _ => Ok(()),
        }
    }

    /// Makes what was created, renamed and removed durable.
    pub(crate) fn sync(&self) -> Result<()> {
        sync_folder(&self.path)
    }

    /// Appends to an open file.
    pub(crate) fn write(&self, mut file: &File, name: &str, bytes: &[u8]) -> Result<()> {
        file.write_all(bytes).map_err(|cause| failed("write", &self.path_of(name), cause))
    }

    /// Makes an open file's bytes durable.
    pub(crate) fn sync_file(&self, file: &File, name: &str) -> Result<()> {
        file.sync_data().map_err(|cause| failed("flush", &self.path_of(name), cause))
    }
}

fn sync_folder(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|cause| failed("flush the folder", path, cause))
}

fn failed(what: &str, path: &Path, cause: io::Error) -> Error {
    Error::sink(format!("could not {what} \"{}\"", path.display())).caused_by(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_that_names_the_file() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = Folder::at("out".into()).write(&full, ".staged", b"line\n").unwrap_err();
        assert_eq!(error.kind(), shardflow::ErrorKind::Sink);
        let text = error.to_string();
        assert!(text.contains("could not write \"out/.staged\"") && text.contains("No space left"), "{text}");
    }

    #[test]
    fn nested_folders_are_made() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::at(dir.path().join("a/b/c"));
        folder.create().unwrap();
        folder.create().unwrap();
        assert!(dir.path().join("a/b/c").is_dir());
    }
}
