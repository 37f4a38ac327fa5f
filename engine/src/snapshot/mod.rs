//! The durable truth of one process: a folder that always holds exactly one last committed epoch.
//!
//! *In:* one [`EpochBatch`] an epoch: the changelogs of all steps and the handles of what sinks have staged.
//! *Out:* a [`CommitPermit`](crate::sink::CommitPermit), after the batch is on the disk; at a start, every live entry of
//! every step, and the handles that must be committed again. *After a crash:* all of it, up to the last batch that was
//! written whole.
//!
//! ```text
//! <dir>/LOCK        held by the process that uses the folder
//! <dir>/job         whose folder it is, read before anything else is touched
//! <dir>/committed   the last committed epoch, told to a second witness
//! <dir>/db/         RocksDB
//! ```
//!
//! # The layers inside
//! A commit writes each changelog as one value, in one synced batch with the epoch's record. Behind it, [`Store::fold_if_due`]
//! merges old changelogs into the *base*, one entry a key, and deletes them. A restore reads the base with the changelogs
//! over it, or only the changelogs, and reads the base key by key as it is asked for. Folding again what was folded already changes nothing, so a crash in the middle of it is no matter.
//!
//! # Damage
//! RocksDB checks every block that it reads. It cannot tell a log that ends early from a log that was cut, so there are
//! three more witnesses: epoch records form a chain and name the checksum of each of their changelogs; each log file
//! names its predecessor; and the file `committed` tells when the end of the chain is missing. An older epoch is never
//! used silently, because sinks may have made later ones visible: it takes a file `accept-epoch-N`, which the error asks for.

mod base;
mod decision;
mod files;
mod fold;
mod layout;
mod merge;
mod open;
mod records;
mod restore;
mod store;
mod tuning;

pub use base::{StepBase, VisitChange};
pub use fold::FoldReport;
pub use merge::Visit;
pub use records::StepInfo;
pub use store::{EpochBatch, Identity, Recovered, StepChange, Store, StoreStats};
pub use tuning::Tuning;
