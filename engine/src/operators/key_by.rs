//! The key_by operator: computes each record's key and its hash, once. Stateless.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::context::JobContext;
use super::{Flowing, unary};
use crate::error::Result;
use crate::exchange::stable_hash;
use crate::vocabulary::{Event, Key};

/// A record with its key. The hash travels along: it routes the record, and finds its state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Keyed<K, T> {
    pub(crate) hash: u64,
    pub(crate) key: K,
    pub(crate) event: Event<T>,
}

/// Reads a record's key.
pub(crate) type Selector<K, T> = Box<dyn Fn(&T) -> K + Send + Sync>;

/// Keys every record by `selector`. They count as in flight where they are `taken` by a step behind an exchange: in a
/// stream that nobody takes they would stay in flight for ever, and stop the sources.
pub(crate) fn key_by<'scope, K: Key, T: 'static>(
    context: &Arc<JobContext>,
    name: String,
    stream: Flowing<'scope, Event<T>>,
    selector: Selector<K, T>,
    taken: Rc<Cell<bool>>,
) -> Flowing<'scope, Keyed<K, T>> {
    let mut scratch = Vec::new();
    let flight = Arc::clone(context);
    unary(context, name, stream, move |events| {
        if taken.get() {
            flight.flight.sent(events.len());
        }
        let keyed = events.into_iter().map(|event| {
            let key = selector(&event.value);
            Keyed { hash: stable_hash(&key, &mut scratch), key, event }
        });
        Ok(keyed.collect()) as Result<_>
    })
}
