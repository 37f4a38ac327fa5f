//! The timely glue: one file an operator. Decisions are made in the pure rooms; here they meet timely's capabilities.
//!
//! # The rules every operator here keeps
//! 1. Data travels at `(epoch, event time)`. The event time of a message's stamp is how far time had come when it was
//!    sent, never that of its records.
//! 2. A stateful operator takes epochs in order (`stateful`): what is stamped with a later epoch waits, with its
//!    capability, and counts against event-time completeness.
//! 3. Each stateful operator holds a capability for its control output at its open epoch, until it has handed over what
//!    changed in it. So the control streams' frontier passes an epoch when all of it is in, on every worker.
//! 4. A failing operator does nothing any more, and keeps its capabilities: nothing downstream takes a broken epoch for a
//!    closed one.

mod commit;
pub(crate) mod context;
pub(crate) mod control;
mod dealer;
mod decode;
mod dedupe;
pub(crate) mod epoch_clock;
mod event_time;
mod guard;
pub(crate) mod hub;
mod key_by;
pub(crate) mod memory;
mod open_split;
mod open_windows;
mod process;
mod running;
mod share;
mod sink;
mod source;
mod split_message;
mod stateful;
mod stateless;
mod tier;
mod window;

use timely::dataflow::Stream;
use timely::order::Product;

use crate::vocabulary::Event;

pub(crate) use commit::commit;
pub(crate) use decode::decode;
pub(crate) use dedupe::{Dedupe, dedupe};
pub(crate) use event_time::{event_time, event_time_step};
pub(crate) use guard::{naming_panics, panic_error};
pub(crate) use key_by::KeyedFlow;
pub use process::{KeyContext, KeyedLogic};
pub(crate) use process::{ProcessStep, process};
pub use running::RunningResult;
pub(crate) use running::{RunningStep, running};
pub(crate) use sink::{Unpack, by_split, by_value, from_rejects, sink};
pub(crate) use source::{IDENTITY, source};
pub(crate) use split_message::SplitMessage;
pub(crate) use stateful::Outputs;
pub(crate) use stateless::{nothing, per_batch, split, unary};
pub use window::WindowResult;
pub(crate) use window::{Fold, WindowStep, window};

/// The timestamp of the streaming region: (epoch, event time in milliseconds).
pub(crate) type Time = Product<u64, u64>;

/// One end of an operator, before containers are built for it.
type Port<D> = timely::dataflow::channels::pushers::Output<Time, Vec<D>>;

/// A stream of the streaming region.
pub(crate) type Flowing<'scope, D> = Stream<'scope, Time, Vec<D>>;

/// Decoded records by split. They lie where their times will be filled in, so that giving them times copies nothing.
pub(crate) type SplitEvents<'scope, T> = Flowing<'scope, SplitMessage<Vec<Event<T>>>>;
