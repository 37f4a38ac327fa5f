//! Writes each committed record to an object store exactly once: S3, GCS, Azure, or a disk.
//!
//! *Enters*: records, worker by worker. *Leaves*: objects, each complete when it appears and never changed again, that hold
//! the records of many epochs. *Survives a crash*: everything committed, nothing else. A reader may list the store at any time
//! and read every object outside of folders that begin with `_`.
//!
//! # Spool and ship
//! A worker appends its records to a spool file beside the state. A commit makes the spool file's name tell how much of it is
//! committed. One that is full is *sealed*, *packed* and *shipped*, beside the commits: its records are distributed over
//! partitions and encoded into a pack, a local file that fixes the names and the bytes of all its objects; the pack is
//! uploaded; a manifest follows; then the files are removed. What a crash interrupts is shipped again, from the pack where
//! there is one: the same names and the same bytes.
//!
//! # Nothing twice, nothing lost
//! Names tell job, step, incarnation, worker, spool file and epochs, so no other set can have them. An object is only ever
//! written where there is none (put-if-absent); one that is there is compared, and is ours (an earlier attempt, whose answer
//! was lost) or an error. A start probes whether the store refuses a second object of one name, and does not go on if not.
//! [`ObjectSink::without_put_if_absent`] goes on: then names are looked at before they are written, and that a zombie and its
//! successor write the same bytes under one name is what keeps results exact; what is lost is the proof that nobody else does.
//! The same is true of objects larger than [`ObjectSink::part_bytes`]: they go in parts, and completing is not conditional.
//!
//! # On recovery
//! | found | done |
//! |---|---|
//! | a committed handle, its spool file staged or held | sealed, cut to the committed length, shipped |
//! | a committed handle, no spool file, but the folder's mark is at or past its epoch | nothing: it was shipped |
//! | a committed handle, no spool file, no such mark | an error: it was removed from outside |
//! | a held or sealed spool file, or a pack | shipped |
//! | any other spool file | removed |
//! | uploads in parts that were not completed | aborted: on S3 and disks; elsewhere the store's own rules expire them |
//! | output beyond the last committed epoch | an error: the state is older than its output, going on would repeat it |
//!
//! What lies beyond is found by the manifests, whose names begin with their last epoch: keep the newest ones, older ones may
//! expire. (On Azure each start lists all of them.) A start ships all of that before anything new. Committed records that are not shipped lie beside the state, and nowhere
//! else: keep that folder as you keep the state.
//!
//! # Changing the program
//! Spooled records are of the record's type as it was. After a crash, start the program that crashed once more before one with
//! another record type (a changed struct is found out and refused). A job that ends well leaves nothing in the spool.
//!
//! # Records that cannot be written
//! Whether a format takes a record is known when the spool file is packed, after its epoch was committed. Such a record stops
//! the job, and its spool file waits; or, with [`ObjectSink::keep_rejected`], goes with the reason into an NDJSON object under
//! `_rejected/`, which is part of the same set and so just as exact. A separate sink could not be: by then the epoch is over.

mod bucket;
mod committer;
mod failure;
mod folder;
mod format;
mod handle;
mod keys;
mod leftovers;
mod metrics;
mod names;
mod pack;
mod packer;
mod parts;
mod settings;
mod shape;
mod shipper;
mod sink;
mod spool;
mod start;
mod target;
mod upload;
mod writer;

pub use format::{CompressedEncoder, CompressedNdjson, FileEncoder, FileFormat, NdjsonEncoder};
pub use sink::{ObjectSink, objects, objects_in};
