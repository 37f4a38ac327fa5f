//! The key_by operator: computes each record's key and its hash, once. Stateless. And the exchange by that hash, for the
//! stateful steps behind it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::{Exchange, Pipeline};

use super::context::JobContext;
use super::stateful::{EpochLogic, Outputs, stateful};
use super::{Flowing, unary};
use crate::error::Result;
use crate::exchange::stable_hash;
use crate::vocabulary::{Event, Key, Record, StepName};

/// A record with its key. The hash travels along: it routes the record, and finds its state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Keyed<K, T> {
    pub(crate) hash: u64,
    pub(crate) key: K,
    pub(crate) event: Event<T>,
}

/// Whether keyed records still have to travel to the worker of their key.
pub(crate) enum Routing {
    /// They are where they were read. Set once a step takes them: only then are they in the in-flight account, out of which
    /// nobody else would take them.
    Pending { taken: Rc<Cell<bool>> },
    /// They are there already.
    Done,
}

/// Reads a record's key.
pub(crate) type Selector<K, T> = Box<dyn Fn(&T) -> K + Send + Sync>;

/// Keys every record by `selector`.
pub(crate) fn key_by<'scope, K: Key, T: 'static>(
    context: &Arc<JobContext>,
    name: String,
    stream: Flowing<'scope, Event<T>>,
    selector: Selector<K, T>,
) -> (Flowing<'scope, Keyed<K, T>>, Routing) {
    let mut scratch = Vec::new();
    let flight = Arc::clone(context);
    let taken = Rc::new(Cell::new(false));
    let routing = Routing::Pending { taken: Rc::clone(&taken) };
    let stream = unary(context, name, stream, move |events| {
        if taken.get() {
            flight.flight.sent::<Keyed<K, T>>(events.len());
        }
        let keyed = events.into_iter().map(|event| {
            let key = selector(&event.value);
            Keyed { hash: stable_hash(&key, &mut scratch), key, event }
        });
        Ok(keyed.collect()) as Result<_>
    });
    (stream, routing)
}

/// Builds a stateful operator whose records meet by key.
pub(super) fn stateful_by_key<'scope, K: Key, T: Record, L: EpochLogic<In = Keyed<K, T>>>(
    context: &Arc<JobContext>,
    step: &StepName,
    stream: Flowing<'scope, Keyed<K, T>>,
    routing: &Routing,
    logic: L,
) -> Outputs<'scope, L::Out, L::Side> {
    match routing {
        Routing::Done => return stateful(context, step, stream, Pipeline, false, logic),
        Routing::Pending { taken } => taken.set(true),
    }
    let (groups, workers) = (context.groups, context.workers);
    let pact = Exchange::new(move |keyed: &Keyed<K, T>| groups.worker_of(groups.group_of(keyed.hash), workers) as u64);
    stateful(context, step, stream, pact, true, logic)
}
