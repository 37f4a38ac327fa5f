//! What may flow, what may be a key, what may be state. One alias trait a role, so that a missing derive is reported
//! in one line that says what to do.

use std::hash::Hash;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::EventTime;

/// A value that can travel between workers. Implemented by every type that has the four parts it asks for.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel between workers",
    label = "not a `Record`",
    note = "derive what it lacks: `#[derive(Clone, serde::Serialize, serde::Deserialize)]`, and hold no borrowed or thread-bound data"
)]
pub trait Record: Clone + Send + Sync + Serialize + DeserializeOwned + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Clone + Send + Sync + Serialize + DeserializeOwned + 'static> Record for T {}

/// A value that records can be keyed by.
///
/// Its serialized form decides the key group, so two equal keys must serialize alike (a `HashMap` does not).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key",
    label = "not a `Key`",
    note = "a key needs `#[derive(Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]`; floats have no `Eq` and no `Hash`: key by an integer or a string"
)]
pub trait Key: Record + Eq + Hash {}

#[diagnostic::do_not_recommend]
impl<T: Record + Eq + Hash> Key for T {}

/// A value that a step keeps between records. It is written to the snapshot, so it must be serializable.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be kept as state",
    label = "not `State`",
    note = "state is written to the snapshot: `#[derive(Clone, serde::Serialize, serde::Deserialize)]` on it"
)]
pub trait State: Clone + Send + Sync + Serialize + DeserializeOwned + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Clone + Send + Sync + Serialize + DeserializeOwned + 'static> State for T {}

/// A record with its event time and its split's watermark when it was read.
///
/// `watermark` decides lateness. It is the watermark of the record's own split, not of the whole job, so whether a
/// record is late depends on its split alone: a replay, or another number of workers, decides the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event<T> {
    /// When it happened.
    pub at: EventTime,
    /// Its split's watermark just before it.
    pub watermark: EventTime,
    /// The record.
    pub value: T,
}

impl<T> Event<T> {
    /// A record whose times are still to be filled in.
    pub(crate) fn untimed(value: T) -> Self {
        Self { at: EventTime::MIN, watermark: EventTime::MIN, value }
    }

    /// The same times with another value.
    pub fn with<U>(&self, value: U) -> Event<U> {
        Event { at: self.at, watermark: self.watermark, value }
    }
}
