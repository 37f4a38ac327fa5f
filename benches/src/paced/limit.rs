//! The limit of [`super::running`]: raw timely on the same numbers. No event time, no epochs, no state that is stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use anyhow::{Result, anyhow};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use shardflow::Decoder;
use shardflow::sink::SinkWriter;
use shardflow::source::Reader;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Operator;
use timely::dataflow::operators::generic::operator::source;
use timely::dataflow::{Scope, Stream};
use timely::scheduling::SyncActivator;

use super::numbers::{NumberReader, Numbers};
use super::quantiles::Quantiles;
use super::running::{KEYS, arrivals};
use super::schedule::Schedule;
use super::{Load, SPLITS, Told, key_of};
use crate::records::NumberDecoder;

/// Activates the operator that reads, as the engine does.
struct Ring {
    ready: AtomicBool,
    operator: SyncActivator,
}

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        self.ready.store(true, Ordering::SeqCst);
        // A worker that is gone needs no waking.
        let _ = self.operator.activate();
    }
}

/// Runs the program to the end of its records.
pub(super) fn run(load: &Load) -> Result<Told> {
    let schedule = Schedule::new(load.rate);
    let numbers = Numbers::new(schedule.clone(), load.records(), SPLITS);
    let arrivals = arrivals(&schedule);
    let shared = arrivals.clone();
    let guards = timely::execute(timely::Config::process(2), move |worker| {
        let mine = (worker.index() as u64..SPLITS).step_by(worker.peers().max(1));
        let readers = mine.map(|split| numbers.reader(split, 0)).collect();
        let mut writer = shared.watch();
        worker.dataflow::<u64, _, _>(|scope| {
            let counted = count(read(scope, readers));
            counted.sink(Pipeline, "arrive", move |(input, _frontier)| {
                input.for_each(|_time, results| {
                    // It never fails.
                    results.iter().for_each(|result| _ = writer.stage(result));
                });
            });
        });
    });
    let guards = guards.map_err(|error| anyhow!("could not start timely: {error}"))?;
    for outcome in guards.join() {
        outcome.map_err(|error| anyhow!("a worker died: {error}"))?;
    }
    let seen = arrivals.seen();
    let note = format!("no event time, nothing stored; {KEYS} keys");
    Ok(Told { records: seen.records, latency: Quantiles::of(&seen.latency), note })
}

/// Keys and numbers, as they come.
fn read<'scope>(scope: Scope<'scope, u64>, readers: Vec<NumberReader>) -> Stream<'scope, u64, Vec<(u64, u64)>> {
    source::<_, CapacityContainerBuilder<Vec<(u64, u64)>>, _, _>(scope, "read", move |capability, info| {
        let ring = |reader| {
            let operator = scope.worker().sync_activator_for(info.address.to_vec());
            (reader, Arc::new(Ring { ready: AtomicBool::new(true), operator }))
        };
        let mut readers: Vec<(NumberReader, Arc<Ring>)> = readers.into_iter().map(ring).collect();
        let mut held = Some(capability);
        move |output| {
            let Some(capability) = &held else { return };
            let mut session = output.session(capability);
            readers.retain_mut(|(reader, ring)| {
                if !ring.ready.swap(false, Ordering::SeqCst) {
                    return true;
                }
                let waker = Waker::from(Arc::clone(ring));
                let mut context = Context::from_waker(&waker);
                loop {
                    match reader.poll_read(&mut context) {
                        Poll::Pending => return true,
                        Poll::Ready(Ok(Some(batch))) => {
                            let numbers = batch.records().filter_map(|raw| NumberDecoder.decode(raw).ok());
                            session.give_iterator(numbers.map(|number| (key_of(number, KEYS), number)));
                        }
                        Poll::Ready(_) => return false,
                    }
                }
            });
            drop(session);
            if readers.is_empty() {
                held = None;
            }
        }
    })
}

/// The running count of each key, with the number that made it.
fn count<'scope>(keyed: Stream<'scope, u64, Vec<(u64, u64)>>) -> Stream<'scope, u64, Vec<(u64, u64)>> {
    let pact = Exchange::new(|(key, _number): &(u64, u64)| *key);
    keyed.unary::<CapacityContainerBuilder<Vec<(u64, u64)>>, _, _, _>(pact, "count", |_capability, _info| {
        let mut counts = HashMap::<u64, u64, RandomState>::default();
        move |input, output| {
            input.for_each(|time, records| {
                let counted = records.drain(..).map(|(key, number)| {
                    let count = counts.entry(key).or_insert(0);
                    *count += 1;
                    (number, *count)
                });
                output.session(&time).give_iterator(counted);
            });
        }
    })
}
