//! Which worker a key belongs to: the same one in every run, on every machine, for any number of workers.
//!
//! What enters is a key, what leaves is the number of a worker: key → [`stable_hash`] → [`KeyGroup`] → worker. Nothing is
//! kept, so nothing is lost in a crash. What does survive is the *meaning* of a hash: state is stored by key group, so
//! the hash of a key and the number of key groups may never change once a job has committed its first epoch.
//!
//! [`KeyGroup`]: crate::vocabulary::KeyGroup

mod groups;
mod hash;

pub use groups::KeyGroups;
pub use hash::stable_hash;
pub(crate) use hash::try_stable_hash;
