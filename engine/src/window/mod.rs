//! Which windows a record falls into, when they close, and what they compute.
//!
//! What enters is a record's event time and a watermark, what leaves is windows, a verdict on lateness and totals. All
//! of it is arithmetic: the windows of an event time follow from the event time alone, so a replay assigns the same.
//! What survives a crash is kept by others: the accumulators ([`Aggregate::Acc`]) are state and go into the snapshot.
//!
//! A window's grace is part of its construction. [`tumbling`] and [`sliding`] give no [`WindowSpec`] until it is said
//! how long late records are waited for:
//!
//! ```
//! use shardflow::window::{Windowing, sliding, tumbling};
//! use shardflow::{hours, minutes, seconds};
//!
//! assert!(tumbling(minutes(1)).grace(hours(1)).spec().is_ok());
//! assert!(sliding(minutes(1), seconds(10)).grace(seconds(0)).spec().is_ok());
//! ```
//!
//! ```compile_fail,E0277
//! # use shardflow::{minutes, window::{Windowing, tumbling}};
//! fn count_in(windows: impl Windowing) {}
//! count_in(tumbling(minutes(1))); // error: a window needs its grace: call `.grace(duration)`
//! ```

pub mod aggregate;
mod assign;
mod pane;
mod spec;

pub use aggregate::Aggregate;
pub use assign::Windows;
pub use pane::{Pane, PaneFinder};
pub use spec::{Sliding, Tumbling, WindowSpec, Windowing, sliding, tumbling};
