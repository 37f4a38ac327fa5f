//! Raw timely: records exchanged by key, windows closed by the frontier of event time, rows written as they close.
//!
//! What the engine adds to this is what it costs: epochs, positions, state that is stored, output that is staged, decoding
//! and event time as steps of their own, and an API.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::BuildHasher;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow};
use compact_str::CompactString;
use foldhash::fast::FixedState;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shardflow_examples::metering::types::Key;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::operator::source;
use timely::dataflow::operators::{Capability, Operator};
use timely::dataflow::{Scope, Stream};
use timely::progress::frontier::MutableAntichain;

use super::seen::Fingerprints;
use super::{Borrowed, Fate, Lines, SetAside, Totals, WINDOW, create, files, window, write_line, write_window};

/// What is exchanged. `O`: what it takes to count an id once, or nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Item<O> {
    hash: u64,
    account: CompactString,
    meter: CompactString,
    start: u64,
    qty: u64,
    once: O,
}

/// How ids are treated.
trait Once: Clone + Send + Serialize + DeserializeOwned + 'static {
    /// What the worker that owns a key keeps of its ids.
    type Seen: Default;

    /// What goes along with a record; `None` where it need not go.
    fn of(usage: &Borrowed<'_>, late: Option<&[u8]>) -> Option<Self>;

    /// Whether the record counts, at the worker that owns its key; late ones that are new go to `out`.
    fn counts(self, seen: &mut Self::Seen, out: &mut BufWriter<File>) -> Result<bool>;
}

/// All records count.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Always;

impl Once for Always {
    type Seen = ();

    fn of(_usage: &Borrowed<'_>, late: Option<&[u8]>) -> Option<Self> {
        late.is_none().then_some(Self)
    }

    fn counts(self, (): &mut (), _out: &mut BufWriter<File>) -> Result<bool> {
        Ok(true)
    }
}

/// An id counts once. Late records travel too: whether they are copies is known where their key is.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ById {
    fingerprint: u128,
    late: Option<Box<[u8]>>,
}

impl Once for ById {
    type Seen = Fingerprints;

    fn of(usage: &Borrowed<'_>, late: Option<&[u8]>) -> Option<Self> {
        Some(Self { fingerprint: usage.fingerprint(), late: late.map(Box::from) })
    }

    fn counts(self, seen: &mut Fingerprints, out: &mut BufWriter<File>) -> Result<bool> {
        let new = seen.insert(self.fingerprint);
        let Some(late) = self.late else { return Ok(new) };
        if new {
            write_line(out, &late)?;
        }
        Ok(false)
    }
}

/// The first failure of any worker.
type Failure = Arc<Mutex<Option<anyhow::Error>>>;

/// Runs the job on `workers` workers. With `dedupe` an id counts once for each key.
///
/// # Errors
/// Files that cannot be read or written.
pub(crate) fn run(input: &Path, out: &Path, workers: usize, dedupe: bool) -> Result<()> {
    if dedupe { execute::<ById>(input, out, workers) } else { execute::<Always>(input, out, workers) }
}

fn execute<O: Once>(input: &Path, out: &Path, workers: usize) -> Result<()> {
    let paths = files(input)?;
    let failure = Failure::default();
    let (shared, out) = (Arc::clone(&failure), out.to_path_buf());
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let mine = paths.iter().skip(worker.index()).step_by(worker.peers().max(1));
        let opened = mine.map(|path| Lines::open(path)).collect::<Result<Vec<_>>>();
        let set_aside = SetAside::create(&out, worker.index());
        let results = Results::create(&out, worker.index());
        let failure = Arc::clone(&shared);
        match (opened, set_aside, results) {
            (Ok(lines), Ok(set_aside), Ok(results)) => worker.dataflow::<u64, _, _>(|scope| {
                let usage = read::<O>(scope, lines, set_aside, Arc::clone(&failure));
                aggregate(usage, results, failure);
            }),
            (lines, set_aside, results) => {
                let errors = [lines.err(), set_aside.err(), results.err()];
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
fn read<'scope, O: Once>(
    scope: Scope<'scope, u64>,
    mut lines: Vec<Lines>,
    mut set_aside: SetAside,
    failure: Failure,
) -> Stream<'scope, u64, Vec<Item<O>>> {
    source::<_, CapacityContainerBuilder<Vec<Item<O>>>, _, _>(scope, "read", move |capability, info| {
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
            let more = behind.next(&mut set_aside, |usage, late| {
                let Some(once) = O::of(&usage, late) else { return Fate::Late };
                session.give(Item {
                    hash: hasher.hash_one((usage.account, usage.meter)),
                    account: usage.account.into(),
                    meter: usage.meter.into(),
                    start: window(usage.at).start().as_millis(),
                    qty: usage.qty,
                    once,
                });
                Fate::Taken
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

/// What one worker writes of the keys that it owns.
struct Results {
    charges: BufWriter<File>,
    late: BufWriter<File>,
}

impl Results {
    fn create(out: &Path, worker: usize) -> Result<Self> {
        // The readers of all workers have late files too.
        let late = format!("late{}once", std::path::MAIN_SEPARATOR);
        Ok(Self { charges: create(out, "charges", worker)?, late: create(out, &late, worker)? })
    }

    fn flush(&mut self) -> Result<()> {
        self.charges.flush().and_then(|()| self.late.flush()).context("could not write results")
    }
}

/// Sums by window and key, and writes a window when no earlier record can come.
fn aggregate<O: Once>(usage: Stream<'_, u64, Vec<Item<O>>>, mut results: Results, failure: Failure) {
    let pact = Exchange::new(|item: &Item<O>| item.hash);
    usage.unary_frontier::<CapacityContainerBuilder<Vec<()>>, _, _, _>(pact, "aggregate", move |capability, _info| {
        drop(capability);
        let mut windows: BTreeMap<u64, Totals> = BTreeMap::new();
        let mut seen = O::Seen::default();
        let mut complete = false;
        move |(input, frontier), _output| {
            let mut written = Ok(());
            input.for_each(|_capability, items| {
                for Item { account, meter, start, qty, once, .. } in items.drain(..) {
                    match once.counts(&mut seen, &mut results.late) {
                        Ok(true) => {
                            let key: Key = (account, meter);
                            windows.entry(start).or_default().entry(key).or_default().add_qty(qty);
                        }
                        Ok(false) => {}
                        Err(error) => written = Err(error),
                    }
                }
            });
            for (start, totals) in close(&mut windows, frontier) {
                written = written.and_then(|()| write_window(start, totals, &mut results.charges));
            }
            if frontier.is_empty() && !complete {
                complete = true;
                written = written.and_then(|()| results.flush());
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
