//! Raw timely: records exchanged by key, windows closed by the frontier of event time, rows written as they close.
//!
//! What the engine adds to this is what it costs: epochs, positions, state that is stored, output that is staged, decoding
//! and event time as steps of their own, and an API.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::hash::BuildHasher;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow};
use compact_str::CompactString;
use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};
use shardflow_examples::metering::types::Key;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::operator::source;
use timely::dataflow::operators::{Capability, Operator};
use timely::dataflow::{Scope, Stream};
use timely::progress::frontier::MutableAntichain;

use super::{Lines, SetAside, Totals, WINDOW, create, files, window, write_window};

/// What is exchanged.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Item {
    hash: u64,
    account: CompactString,
    meter: CompactString,
    start: u64,
    qty: u64,
}

/// The first failure of any worker.
type Failure = Arc<Mutex<Option<anyhow::Error>>>;

/// Runs the job on `workers` workers.
///
/// # Errors
/// Files that cannot be read or written.
pub(crate) fn run(input: &Path, out: &Path, workers: usize) -> Result<()> {
    let paths = files(input)?;
    let failure = Failure::default();
    let (shared, out) = (Arc::clone(&failure), out.to_path_buf());
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let mine = paths.iter().skip(worker.index()).step_by(worker.peers().max(1));
        let opened = mine.map(|path| Lines::open(path)).collect::<Result<Vec<_>>>();
        let set_aside = SetAside::create(&out, worker.index());
        let charges = create(&out, "charges", worker.index());
        let failure = Arc::clone(&shared);
        match (opened, set_aside, charges) {
            (Ok(lines), Ok(set_aside), Ok(charges)) => worker.dataflow::<u64, _, _>(|scope| {
                let usage = read(scope, lines, set_aside, Arc::clone(&failure));
                aggregate(usage, charges, failure);
            }),
            (lines, set_aside, charges) => {
                let errors = [lines.err(), set_aside.err(), charges.err()];
                errors.into_iter().flatten().for_each(|error| note(&failure, error));
            }
        }
    });
    let guards = guards.map_err(|error| anyhow!("could not start timely: {error}"))?;
    for outcome in guards.join() {
        outcome.map_err(|error| anyhow!("a worker died: {error}"))?;
    }
    let failure = failure.lock().ok().and_then(|mut failure| failure.take());
    failure.map_or(Ok(()), Err)
}

fn note(failure: &Failure, error: anyhow::Error) {
    if let Ok(mut failure) = failure.lock() {
        failure.get_or_insert(error);
    }
}

/// Reads a chunk an activation, of the file that is furthest behind; time is as far as that file.
fn read<'scope>(
    scope: Scope<'scope, u64>,
    mut lines: Vec<Lines>,
    mut set_aside: SetAside,
    failure: Failure,
) -> Stream<'scope, u64, Vec<Item>> {
    source::<_, CapacityContainerBuilder<Vec<Item>>, _, _>(scope, "read", move |capability, info| {
        let activator = scope.activator_for(info.address);
        let hasher = FixedState::default();
        let mut held: Option<Capability<u64>> = Some(capability);
        move |output| {
            let Some(capability) = &mut held else { return };
            let Some(behind) = lines.iter_mut().min_by_key(|lines| lines.watermark) else {
                set_aside.flush().unwrap_or_else(|error| note(&failure, error));
                held = None;
                return;
            };
            let mut session = output.session(&*capability);
            let more = behind.next(&mut set_aside, |usage| {
                session.give(Item {
                    hash: hasher.hash_one((usage.account, usage.meter)),
                    account: usage.account.into(),
                    meter: usage.meter.into(),
                    start: window(usage.at).start().as_millis(),
                    qty: usage.qty,
                });
            });
            drop(session);
            if let Err(error) = more {
                note(&failure, error);
                lines.clear();
            }
            lines.retain(|lines| !lines.ended);
            if let Some(least) = lines.iter().map(|lines| lines.watermark).min() {
                capability.downgrade(&least.max(*capability.time()));
            }
            activator.activate();
        }
    })
}

/// Sums by window and key, and writes a window when no earlier record can come.
fn aggregate(usage: Stream<'_, u64, Vec<Item>>, charges: BufWriter<File>, failure: Failure) {
    let pact = Exchange::new(|item: &Item| item.hash);
    let charges = Rc::new(RefCell::new(charges));
    usage.unary_frontier::<CapacityContainerBuilder<Vec<()>>, _, _, _>(pact, "aggregate", move |capability, _info| {
        drop(capability);
        let mut windows: BTreeMap<u64, Totals> = BTreeMap::new();
        let mut complete = false;
        move |(input, frontier), _output| {
            input.for_each(|_capability, items| {
                for Item { account, meter, start, qty, .. } in items.drain(..) {
                    let key: Key = (account, meter);
                    windows.entry(start).or_default().entry(key).or_default().add_qty(qty);
                }
            });
            let closed = close(&mut windows, frontier);
            let mut charges = charges.borrow_mut();
            let mut written =
                closed.into_iter().try_for_each(|(start, totals)| write_window(start, totals, &mut charges));
            if frontier.is_empty() && !complete {
                complete = true;
                written = written.and_then(|()| charges.flush().context("could not write charges"));
            }
            written.unwrap_or_else(|error| note(&failure, error));
        }
    });
}

/// Takes out the windows whose end the frontier has reached.
fn close(windows: &mut BTreeMap<u64, Totals>, frontier: &MutableAntichain<u64>) -> BTreeMap<u64, Totals> {
    let Some(time) = frontier.frontier().first().copied() else { return std::mem::take(windows) };
    // A window that starts after this ends after `time`.
    let Some(last) = time.checked_sub(WINDOW) else { return BTreeMap::new() };
    let open = windows.split_off(&last.saturating_add(1));
    std::mem::replace(windows, open)
}
