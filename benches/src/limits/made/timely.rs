//! Raw timely over made records: exchanged by key, windows told as the frontier of event time passes their end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow, bail};
use compact_str::CompactString;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::operator::source;
use timely::dataflow::operators::{Capability, Operator};
use timely::dataflow::{Scope, Stream};

use super::{MINUTES, Panes, SLIDING, Shape, Totals, add, tell};
use crate::made::clock::Clock;
use crate::made::records::{LAG, LANES, MadeKey, Maker, Records, Use};
use crate::made::run::Work;
use crate::made::sink::Tally;

/// Records that a lane gives at a time, as the engine's source does.
const BATCH: usize = 4_096;

/// What all workers have told.
type Told = Arc<Mutex<Tally>>;

/// Does `work` on `workers` workers.
///
/// # Errors
/// Work that is not the limits', or timely's own.
pub(crate) fn run(work: Work, records: &Arc<Records>, workers: usize, clock: &Clock) -> Result<Tally> {
    match work {
        Work::Strings => windows::<CompactString>(MINUTES, records, workers, clock),
        Work::Ints => windows::<u64>(MINUTES, records, workers, clock),
        Work::Sliding => windows::<CompactString>(SLIDING, records, workers, clock),
        Work::Running => running(records, workers, clock),
        Work::Padded => bail!("there is no limit for state larger than memory"),
    }
}

/// What is exchanged.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Item<K> {
    key: K,
    pane: u64,
    qty: u64,
}

fn windows<K: MadeKey>(shape: Shape, records: &Arc<Records>, workers: usize, clock: &Clock) -> Result<Tally> {
    execute::<K>(records, workers, clock, move |scope, maker, clock, told| {
        let item = move |Use { account, qty, at }| Item::<K> { key: account, pane: shape.pane_of(at), qty };
        aggregate(shape, read(scope, maker, clock, item), told);
    })
}

fn running(records: &Arc<Records>, workers: usize, clock: &Clock) -> Result<Tally> {
    execute::<u64>(records, workers, clock, |scope, maker, clock, told| {
        count(read(scope, maker, clock, |used: Use<u64>| used.account), told);
    })
}

fn execute<K: MadeKey>(
    records: &Arc<Records>,
    workers: usize,
    clock: &Clock,
    build: impl Fn(Scope<'_, u64>, Arc<Maker<K>>, Clock, Told) + Send + Sync + 'static,
) -> Result<Tally> {
    let maker = Arc::new(Maker::<K>::new(Arc::clone(records)));
    let told = Told::default();
    let (all, watch) = (Arc::clone(&told), clock.clone());
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        worker.dataflow::<u64, _, _>(|scope| build(scope, Arc::clone(&maker), watch.clone(), Arc::clone(&all)));
    });
    for outcome in guards.map_err(|error| anyhow!("could not start timely: {error}"))?.join() {
        outcome.map_err(|error| anyhow!("a worker died: {error}"))?;
    }
    clock.lap();
    let told = *told.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(told)
}

/// Adds what one worker has told.
fn report(told: &Told, tally: Tally) {
    told.lock().unwrap_or_else(PoisonError::into_inner).merge(tally);
}

/// A lane, and how far it is.
struct Cursor {
    lane: u64,
    next: u64,
    watermark: u64,
}

/// Reads a batch an activation, of the lane that is furthest behind; time is as far as that lane.
fn read<'scope, K: MadeKey, T: Clone + 'static>(
    scope: Scope<'scope, u64>,
    maker: Arc<Maker<K>>,
    clock: Clock,
    item: impl Fn(Use<K>) -> T + 'static,
) -> Stream<'scope, u64, Vec<T>> {
    let (index, peers) = (scope.index(), scope.peers());
    source::<_, CapacityContainerBuilder<Vec<T>>, _, _>(scope, "read", move |capability, info| {
        let activator = scope.activator_for(info.address);
        let lanes = (0..LANES).skip(index).step_by(peers);
        let mut lanes: Vec<Cursor> = lanes.map(|lane| Cursor { lane, next: 0, watermark: 0 }).collect();
        let mut held: Option<Capability<u64>> = Some(capability);
        clock.begin();
        move |output| {
            let Some(capability) = &mut held else { return };
            let Some(behind) = lanes.iter_mut().min_by_key(|lane| lane.watermark) else {
                held = None;
                return;
            };
            let mut session = output.session(&*capability);
            let (before, mut greatest) = (behind.next, 0);
            for n in maker.records().lane(behind.lane, behind.next).take(BATCH) {
                let used = maker.make(n);
                greatest = used.at.max(greatest);
                behind.next += 1;
                session.give(item(used));
            }
            drop(session);
            let ended = behind.next == before;
            behind.watermark = if ended { u64::MAX } else { behind.watermark.max(greatest.saturating_sub(LAG)) };
            lanes.retain(|lane| lane.watermark < u64::MAX);
            if let Some(least) = lanes.iter().map(|lane| lane.watermark).min() {
                capability.downgrade(&least.max(*capability.time()));
            }
            activator.activate();
        }
    })
}

fn aggregate<K: MadeKey>(shape: Shape, used: Stream<'_, u64, Vec<Item<K>>>, told: Told) {
    let pact = Exchange::new(|item: &Item<K>| item.key.route());
    used.unary_frontier::<CapacityContainerBuilder<Vec<()>>, _, _, _>(pact, "aggregate", move |capability, _info| {
        drop(capability);
        let mut open = Open::new(shape);
        let mut tally = Tally::default();
        move |(input, frontier), _output| {
            input.for_each(|_capability, items| {
                for Item { key, pane, qty } in items.drain(..) {
                    add(open.panes.entry(pane).or_default(), key, qty);
                }
            });
            open.close(frontier.frontier().first().copied().unwrap_or(u64::MAX), &mut tally);
            if frontier.is_empty() {
                report(&told, std::mem::take(&mut tally));
            }
        }
    });
}

/// Panes that take records, and those that windows still need.
struct Open<K: MadeKey> {
    shape: Shape,
    panes: Panes<K>,
    /// Whole panes, oldest first.
    closed: VecDeque<(u64, Totals<K>)>,
    /// The end of the next window that has one of them.
    next_end: Option<u64>,
    merged: Totals<K>,
}

impl<K: MadeKey> Open<K> {
    fn new(shape: Shape) -> Self {
        Self { shape, panes: Panes::new(), closed: VecDeque::new(), next_end: None, merged: Totals::default() }
    }

    /// Tells all windows that end by `time`.
    fn close(&mut self, time: u64, tally: &mut Tally) {
        let Shape { pane, .. } = self.shape;
        while let Some(end) = self.next_end.or_else(|| self.panes.keys().next().map(|start| start + pane)) {
            if end > time {
                break;
            }
            while let Some(first) = self.panes.first_entry().filter(|first| first.key() + pane <= end) {
                self.closed.push_back(first.remove_entry());
            }
            let start = end - self.shape.size();
            while self.closed.front().is_some_and(|(first, _)| *first < start) {
                self.closed.pop_front();
            }
            tell(start, self.closed.iter().map(|(_, totals)| totals), &mut self.merged, tally);
            self.next_end = (!self.closed.is_empty()).then_some(end + pane);
        }
    }
}

fn count(keys: Stream<'_, u64, Vec<u64>>, told: Told) {
    let pact = Exchange::new(|key: &u64| key.route());
    keys.unary_frontier::<CapacityContainerBuilder<Vec<()>>, _, _, _>(pact, "count", move |capability, _info| {
        drop(capability);
        let mut counts: HashMap<u64, u64, foldhash::fast::FixedState> = HashMap::default();
        let mut tally = Tally::default();
        move |(input, frontier), _output| {
            input.for_each(|_capability, keys| {
                for key in keys.drain(..) {
                    let count = counts.entry(key).or_default();
                    *count += 1;
                    tally.running(key, *count);
                }
            });
            if frontier.is_empty() {
                report(&told, std::mem::take(&mut tally));
            }
        }
    });
}
