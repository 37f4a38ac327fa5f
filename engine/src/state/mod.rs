//! Live state: typed maps in memory that know what changed since the last epoch, and nothing of disks.
//!
//! *In:* records, one `upsert` or `check_and_insert` each, with the stable hash and the key group that the exchange
//! computed. *Out:* when an epoch closes, `drain_changes` appends only what changed to a [`ChangelogWriter`]: a few
//! sealed values per step, worker and epoch. *After a crash:* the maps are gone; the snapshot hands every live entry back to
//! `restore`, to whichever worker owns its key group then.
//!
//! | map | key | for |
//! |---|---|---|
//! | [`KeyedState`] | a key | process logic |
//! | [`WindowState`] | a window and a key | windows that do not overlap, and folds |
//! | [`PaneState`] | a pane and a key | aggregates of overlapping windows |
//! | [`Timers`] | an event time and a key | process logic that wants to be called again |
//! | [`SeenIds`] | a 128-bit fingerprint | dedupe with a rolling horizon |
//!
//! Stored bytes are bincode with one fixed set of options ([`codec`]), inside a frame with magic number, kind, format
//! version and checksum ([`frame`]). Reading them never panics and never trusts a length.

pub mod changelog;
pub mod codec;
mod deleted;
pub mod frame;
pub mod keyed;
mod panes;
pub mod seen;
mod slots;
#[cfg(test)]
mod test_store;
mod timers;
mod windows;

pub use changelog::{Change, ChangelogReader, ChangelogWriter, Table};
pub use keyed::{Base, KeyedState, Place, Wanted};
pub use panes::PaneState;
pub use seen::{Seen, SeenIds};
pub use timers::Timers;
pub use windows::WindowState;
