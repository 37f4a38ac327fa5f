//! Finds the files: what enters is the user's path, what leaves is a sorted list of split ids.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use shardflow::vocabulary::SplitId;
use shardflow::{Error, Result};

use super::stays_below;

/// Where to look: one file, or everything below a folder.
#[derive(Debug, Clone)]
pub(super) enum Listing {
    /// A single file, whose split is named by its file name.
    File { path: PathBuf, name: SplitId },
    /// A folder.
    Folder { root: PathBuf },
}

impl Listing {
    /// Looks at `path` once.
    ///
    /// # Errors
    /// There is nothing at `path`, or something that is neither a file nor a folder.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let found = fs::metadata(path)
            .map_err(|error| Error::config(format!("could not open the input {path:?}")).caused_by(error))?;
        if found.is_dir() {
            return Ok(Self::Folder { root: path.to_owned() });
        }
        if !found.is_file() {
            return Err(Error::config(format!("could not open the input {path:?}: it is neither a file nor a folder")));
        }
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| not_utf8(path))?;
        Ok(Self::File { path: path.to_owned(), name: SplitId::new(name) })
    }

    /// All files that are visible now, sorted by id, and what is there and cannot be read.
    ///
    /// # Errors
    /// A folder that cannot be read, or a name that is not UTF-8 and so cannot be stored as a split's id.
    pub(super) fn list(&self) -> Result<Listed> {
        match self {
            Self::File { name, .. } => Ok(Listed { files: vec![name.clone()], skipped: Vec::new() }),
            Self::Folder { root } => list_folder(root),
        }
    }

    /// Where the split's file lies.
    ///
    /// # Errors
    /// The id is not one that this listing could have given: the job was started with another path.
    pub(super) fn path_of(&self, split: &SplitId) -> Result<PathBuf> {
        match self {
            Self::File { path, name } if name == split => Ok(path.clone()),
            Self::Folder { root } if stays_below(split.as_str()) => Ok(root.join(split.as_str())),
            Self::File { path, .. } => Err(Error::config(format!(
                "could not resume file \"{split}\": this start reads only {path:?}; start with the path of the first start"
            ))),
            Self::Folder { root } => {
                Err(Error::config(format!("could not resume file \"{split}\": it does not lie below {root:?}")))
            }
        }
    }
}

/// What a folder holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) files: Vec<SplitId>,
    /// Neither files nor folders: pipes, devices, links to nothing. A mount that is not there may look like that.
    pub(super) skipped: Vec<PathBuf>,
}

fn list_folder(root: &Path) -> Result<Listed> {
    let (mut files, mut skipped) = (Vec::new(), Vec::new());
    // Each folder is entered once, so that symbolic links cannot lead round in a circle.
    let mut entered = BTreeSet::new();
    let mut folders = vec![(root.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let unreadable = |error: io::Error| Error::source(format!("could not list {folder:?}")).caused_by(error);
        let canonical = match fs::canonicalize(&folder) {
            // Removed since its parent was read. The root itself must be there.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !prefix.is_empty() => continue,
            other => other.map_err(unreadable)?,
        };
        if !entered.insert(canonical) {
            continue;
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| not_utf8(&path))?;
            if name.starts_with('.') {
                continue;
            }
            let id = format!("{prefix}{name}");
            // Follows links. What vanished since the folder was read is not there; a writer may rename at any time.
            match fs::metadata(&path) {
                Ok(kind) if kind.is_dir() => found.push((path, format!("{id}/"))),
                Ok(kind) if kind.is_file() => files.push(SplitId::new(&id)),
                Ok(_) => skipped.push(path),
                Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => skipped.push(path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::source(format!("could not look at {path:?}")).caused_by(error)),
            }
        }
        // Which of two ways to one folder names its files must not depend on the order of a directory.
        found.sort_by(|a, b| b.1.cmp(&a.1));
        folders.append(&mut found);
    }
    files.sort();
    skipped.sort();
    Ok(Listed { files, skipped })
}

fn not_utf8(path: &Path) -> Error {
    Error::source(format!("could not list {path:?}: its name is not UTF-8, so no position can be stored for it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(root: &Path) -> Vec<String> {
        Listing::of(root).unwrap().list().unwrap().files.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn folders_are_listed_recursively_and_sorted_without_hidden_names() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("b/deep")).unwrap();
        fs::create_dir_all(root.path().join(".hidden")).unwrap();
        for name in ["z.ndjson", "a.gz", "b/deep/x", "b/.part", ".hidden/y", ".tmp"] {
            fs::write(root.path().join(name), "x\n").unwrap();
        }
        assert_eq!(ids(root.path()), ["a.gz", "b/deep/x", "z.ndjson"]);
    }

    #[test]
    fn a_single_file_is_one_split_named_by_its_file_name() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(".usage.ndjson");
        fs::write(&path, "x\n").unwrap();
        assert_eq!(ids(&path), [".usage.ndjson"]);
        let listing = Listing::of(&path).unwrap();
        assert_eq!(listing.path_of(&SplitId::new(".usage.ndjson")).unwrap(), path);
        let error = listing.path_of(&SplitId::new("other")).unwrap_err().to_string();
        assert!(error.contains("\"other\""), "{error}");
    }

    #[test]
    fn a_missing_path_is_named_in_the_error() {
        let error = Listing::of(Path::new("no/such/folder")).unwrap_err();
        assert_eq!(error.kind(), shardflow::ErrorKind::Config);
        assert!(error.to_string().starts_with("could not open the input \"no/such/folder\": "), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn symbolic_links_are_followed_and_cannot_lead_round() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("data");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("x"), "1\n").unwrap();
        std::os::unix::fs::symlink(root.path(), folder.join("back")).unwrap();
        std::os::unix::fs::symlink(folder.join("x"), root.path().join("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", root.path().join("dangling")).unwrap();
        assert_eq!(ids(root.path()), ["data/x", "link"]);
        let listed = Listing::of(root.path()).unwrap().list().unwrap();
        assert_eq!(listed.skipped, [root.path().join("dangling")]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_that_is_not_utf8_is_an_error_and_no_panic() {
        use std::os::unix::ffi::OsStrExt;
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(std::ffi::OsStr::from_bytes(b"\xff")), "x").unwrap();
        let error = Listing::of(root.path()).unwrap().list().unwrap_err().to_string();
        assert!(error.contains("not UTF-8"), "{error}");
    }
}
