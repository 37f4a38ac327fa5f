//! The words of the engine: clocks, names, records. Every confusable number or string has a type of its own.

mod id;
mod name;
mod record;
mod time;

pub use id::{IdNamespace, RecordId};
pub use name::{Incarnation, KeyGroup, SourceId, SplitId, StepName};
pub use record::{Event, Key, Record, State};
pub(crate) use time::shown;
pub use time::{Epoch, EventTime, Window, days, hours, millis, minutes, seconds};
