//! What objects are called, when one is full, and what is written down of those that belong together. Pure.
//!
//! An object's key is `<prefix>/<partition>/<name>`. The name says whose the object is and how far it goes, so that what a
//! crash leaves behind can be told from what counts without other notes. Beside them lie manifests, for readers that do not
//! list: each names the objects of one commit.

mod archive;
mod key;
mod manifest;
mod names;
mod rolling;

pub use archive::{ArchiveName, ArchiveNames, SequenceNumber};
pub use key::Prefix;
pub use manifest::{Crc32, EpochRange, Manifest, ManifestFile};
pub use names::{ResultName, ResultNames};
pub use rolling::{Filling, Full, Rolling};
