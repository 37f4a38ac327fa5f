//! The small files beside the database: the lock, the job's name, the marker, and what the user accepts.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fail::fail_point;

use super::decision::{self, Witness};
use super::records::{self, JobFile, Marker};
use crate::error::{Error, Result};
use crate::state::frame::Kind;
use crate::vocabulary::{Epoch, Incarnation};

const LOCK: &str = "LOCK";
const ACCEPT: &str = "accept-epoch-";
/// No file beside the database is longer; a longer one is not read whole.
const MOST: u64 = 64 << 10;

/// The state folder. Errors of its methods do not name it: the caller does.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// The folders that locking it had to make, innermost first.
    made: Vec<PathBuf>,
}

impl Folder {
    /// Creates it if it is missing, and locks it for as long as the returned file lives.
    pub(super) fn lock(path: &Path) -> Result<(Self, File)> {
        let missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let made = path.ancestors().take_while(missing).map(Path::to_owned).collect();
        let folder = Self { path: path.to_owned(), made };
        fail_point!("open::before-lock");
        let lock = folder.try_lock();
        if lock.is_err() {
            folder.remove_made();
        }
        Ok((folder, lock?))
    }

    fn try_lock(&self) -> Result<File> {
        let path = &self.path;
        fs::create_dir_all(path).map_err(|error| Error::state("it cannot be created").caused_by(error))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(LOCK));
        let lock = lock.map_err(|error| Error::state("its lock file cannot be opened").caused_by(error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::state("another process uses it")),
            Err(TryLockError::Error(error)) => return Err(Error::state("it cannot be locked").caused_by(error)),
        }
        // A start that came to nothing may have removed the file between our opening and our locking it: what we hold then
        // keeps nobody out.
        let named = fs::metadata(path.join(LOCK)).and_then(|named| Ok(named.ino() == lock.metadata()?.ino()));
        if !named.unwrap_or(false) {
            return Err(Error::state("another process has just removed it: start again"));
        }
        Ok(lock)
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path.join("db")
    }

    /// Where a new database is prepared, so that one at its proper place is always whole.
    pub(super) fn unfinished(&self) -> PathBuf {
        self.path.join("db-unfinished")
    }

    /// Removes the folders that were made, as far as they are empty.
    fn remove_made(&self) {
        for folder in &self.made {
            if fs::remove_dir(folder).is_err() {
                return;
            }
        }
    }

    /// Removes everything that a start puts into a folder which was nobody's. Only for the one that holds the lock and has
    /// just claimed it. Best effort: it is called where something else has failed, and that is what is reported.
    pub(super) fn take_back(&self) {
        let _ = fs::remove_dir_all(self.database());
        let _ = fs::remove_dir_all(self.unfinished());
        for name in ["committed", "committed-unfinished", "job", "job-unfinished", LOCK] {
            let _ = fs::remove_file(self.path.join(name));
        }
        self.remove_made();
    }

    /// Checks whose folder it is, and makes it `job`'s where it is nobody's: then it gives `true`.
    pub(super) fn claim(&self, job: &str) -> Result<bool> {
        if let Some(bytes) = self.read("job")? {
            let found: JobFile = records::unseal(Kind::Job, &bytes)?;
            return decision::is_ours(&found.job, job).map(|()| false);
        }
        if self.database().exists() || self.path.join("committed").exists() {
            return Err(Error::state("its file \"job\" is missing, though it is in use"));
        }
        let sealed = records::seal(Kind::Job, &JobFile { job: job.to_owned() })?;
        match self.replace("job", &sealed) {
            Ok(()) => Ok(true),
            Err(error) => {
                self.take_back();
                Err(Error::state("its file \"job\" cannot be written").caused_by(error))
            }
        }
    }

    pub(super) fn witness(&self) -> Result<Witness> {
        Ok(match self.read("committed")? {
            None => Witness::Missing,
            Some(bytes) => Marker::unseal(&bytes).map_or_else(Witness::Damaged, Witness::Says),
        })
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let read = File::open(self.path.join(name)).and_then(|file| file.take(MOST).read_to_end(&mut bytes));
        match read {
            Ok(_) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::state(format!("its file \"{name}\" cannot be read")).caused_by(error)),
        }
    }

    /// The epochs that the user accepts although later ones are lost.
    pub(super) fn accepted(&self) -> BTreeSet<Epoch> {
        let names = fs::read_dir(&self.path).into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.filter_map(|name| name.to_str()?.strip_prefix(ACCEPT)?.parse().ok()).map(Epoch::new).collect()
    }

    /// Writes the marker anew and opens it for the rewrites to come. What the user accepted has been used up then.
    pub(super) fn marker(&self, marker: Marker) -> Result<MarkerFile> {
        let write = || -> io::Result<File> {
            self.replace("committed", &marker.seal())?;
            for epoch in self.accepted() {
                fs::remove_file(self.path.join(format!("{ACCEPT}{epoch}")))?;
            }
            OpenOptions::new().write(true).open(self.path.join("committed"))
        };
        let file =
            write().map_err(|error| Error::state("its file \"committed\" cannot be written").caused_by(error))?;
        Ok(MarkerFile { file, last: marker })
    }

    /// Replaces a file so that it is always whole, the old or the new one.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let fresh = self.path.join(format!("{name}-unfinished"));
        let mut file = File::create(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fail_point!("open::before-replace");
        fs::rename(&fresh, self.path.join(name))?;
        self.sync()
    }

    /// Makes renames in the folder durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// The open file `committed`.
#[derive(Debug)]
pub(super) struct MarkerFile {
    file: File,
    last: Marker,
}

impl MarkerFile {
    /// Names the epoch just committed, in place: 36 bytes in one write. It is not synced, since one that is behind does
    /// no harm; only the first is, because without it a lost database would look like a new one.
    pub(super) fn write(&mut self, epoch: Epoch) -> io::Result<()> {
        let first = self.last.epoch.is_none();
        self.last.epoch = Some(epoch);
        self.file.seek(io::SeekFrom::Start(0))?;
        self.file.write_all(&self.last.seal())?;
        if first { self.file.sync_data() } else { Ok(()) }
    }
}

impl Witness {
    pub(super) fn incarnation(&self) -> Incarnation {
        match self {
            Self::Says(marker) => marker.incarnation,
            _ => Incarnation::default(),
        }
    }
}
