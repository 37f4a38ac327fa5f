//! Keys: each record's key and its hash are computed once, and the record sent to the worker of its key, where a stateful
//! step waits for it. Stateless.
//!
//! Records travel in batches, one a worker and container: what timely moves from buffer to buffer on the way is the batch,
//! and not the records in it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::Exchange;

use super::context::JobContext;
use super::stateful::{EpochLogic, Intake, Outputs, stateful};
use super::{Flowing, unary};
use crate::error::Result;
use crate::exchange::{KeyGroups, try_stable_hash};
use crate::vocabulary::{Event, Key, Record, StepName};

/// A record with its key. The hash travels along: it routes the record, and finds its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Keyed<K, T> {
    pub(crate) hash: u64,
    pub(crate) key: K,
    pub(crate) event: Event<T>,
}

/// Reads a record's key.
pub(crate) type Selector<K, T> = Box<dyn Fn(&T) -> K + Send + Sync>;

/// Keyed records, before the step that keeps something by key.
pub(crate) enum KeyedFlow<'scope, K, T> {
    /// Where they were read: the step that takes them keys them by `selector`, under `name`, and sends them on.
    Apart { name: String, stream: Flowing<'scope, Event<T>>, selector: Selector<K, T> },
    /// On the worker of their key.
    Together(Flowing<'scope, Keyed<K, T>>),
}

/// Records on their way to the worker `to`, in the order in which they were read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Routed<R> {
    to: u64,
    records: Vec<R>,
}

/// Builds a stateful operator whose records meet by key.
pub(super) fn stateful_by_key<'scope, K: Key, T: Record, L: EpochLogic<In = Keyed<K, T>>>(
    context: &Arc<JobContext>,
    step: &StepName,
    flow: KeyedFlow<'scope, K, T>,
    logic: L,
) -> Outputs<'scope, L::Out, L::Side> {
    let (name, stream, selector) = match flow {
        KeyedFlow::Together(stream) => return stateful(context, step, stream, Intake::in_place(), logic),
        KeyedFlow::Apart { name, stream, selector } => (name, stream, selector),
    };
    let flight = Arc::clone(context);
    let (groups, workers) = (context.groups, context.workers);
    let mut scratch = Vec::new();
    let routed = unary(context, name, stream, move |events| {
        flight.flight.sent::<Keyed<K, T>>(events.len());
        route(events, &selector, groups, workers, &mut scratch)
    });
    let intake = Intake {
        pact: Exchange::new(|batch: &Routed<_>| batch.to),
        unpack: |batches: Vec<Routed<_>>| batches.into_iter().map(|batch| batch.records),
        in_flight: true,
    };
    stateful(context, step, routed, intake, logic)
}

/// Keys `events` and shares them out to the workers of their keys.
///
/// # Errors
/// A key that cannot be serialized: it could not be stored, and the ids of its results would be those of other keys too.
fn route<K: Key, T>(
    events: Vec<Event<T>>,
    selector: impl Fn(&T) -> K,
    groups: KeyGroups,
    workers: usize,
    scratch: &mut Vec<u8>,
) -> Result<Vec<Routed<Keyed<K, T>>>> {
    // An even share and an eighth more: with keys spread evenly no batch grows on the way.
    let even = events.len().div_ceil(workers.max(1));
    let share = even.saturating_add(even / 8).min(events.len());
    let mut batches: Vec<_> = (0..workers as u64).map(|to| Routed { to, records: Vec::new() }).collect();
    for event in events {
        let key = selector(&event.value);
        let hash = try_stable_hash(&key, scratch)?;
        if let Some(Routed { records, .. }) = batches.get_mut(groups.worker_of(groups.group_of(hash), workers)) {
            if records.is_empty() {
                records.reserve(share);
            }
            records.push(Keyed { hash, key, event });
        }
    }
    batches.retain(|batch| !batch.records.is_empty());
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::stable_hash;
    use crate::vocabulary::EventTime;

    fn routed(values: std::ops::Range<u64>, workers: usize) -> Vec<Routed<Keyed<u64, u64>>> {
        let events = values.map(|value| Event { at: EventTime::from_millis(value), ..Event::untimed(value) }).collect();
        let groups = KeyGroups::new(256).expect("not 0");
        route(events, |value| value % 100, groups, workers, &mut Vec::new()).expect("numbers can be written")
    }

    #[test]
    fn every_record_goes_to_the_worker_of_its_key_in_its_order() {
        let batches = routed(0..1000, 3);
        assert_eq!(batches.iter().map(|batch| batch.to).collect::<Vec<_>>(), [0, 1, 2]);
        let groups = KeyGroups::new(256).expect("not 0");
        for batch in &batches {
            assert!(batch.records.is_sorted_by_key(|keyed| keyed.event.at), "order on worker {}", batch.to);
            for Keyed { hash, key, event } in &batch.records {
                assert_eq!((*key, *hash), (event.value % 100, stable_hash(key, &mut Vec::new())));
                assert_eq!(groups.worker_of(groups.group_of(*hash), 3) as u64, batch.to);
            }
        }
        let mut values: Vec<_> =
            batches.iter().flat_map(|batch| &batch.records).map(|keyed| keyed.event.value).collect();
        values.sort_unstable();
        assert_eq!(values, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn no_batch_is_sent_to_a_worker_without_records() {
        assert_eq!(routed(7..8, 4).len(), 1);
        assert_eq!(routed(0..0, 4), []);
    }
}
