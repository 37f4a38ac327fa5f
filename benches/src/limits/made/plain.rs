//! A plain loop over made records: a thread a core.
//!
//! Windows: each thread has lanes and panes of its own, and windows are told when everything has been read. Running counts
//! have to be one for each key, so each thread makes all records and takes those whose keys are its own: cheaper than
//! handing them over, and more than a program could do whose records came from outside.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, bail};
use compact_str::CompactString;
use hashbrown::HashMap;

use super::{MINUTES, Panes, SLIDING, Shape, Totals, add, tell};
use crate::made::clock::Clock;
use crate::made::records::{LANES, MadeKey, Maker, Records, Use};
use crate::made::run::Work;
use crate::made::sink::Tally;

/// Does `work` on `threads` threads.
///
/// # Errors
/// Work that is not the limits'.
pub(crate) fn run(work: Work, records: &Arc<Records>, threads: usize, clock: &Clock) -> Result<Tally> {
    match work {
        Work::Strings => windows::<CompactString>(MINUTES, records, threads, clock),
        Work::Ints => windows::<u64>(MINUTES, records, threads, clock),
        Work::Sliding => windows::<CompactString>(SLIDING, records, threads, clock),
        Work::Running => running(records, threads, clock),
        Work::Padded => bail!("there is no limit for state larger than memory"),
    }
}

fn windows<K: MadeKey>(shape: Shape, records: &Arc<Records>, threads: usize, clock: &Clock) -> Result<Tally> {
    let maker = Maker::<K>::new(Arc::clone(records));
    clock.begin();
    let read = each_thread(threads, |thread| {
        let mut panes = Panes::new();
        // Most records are of the pane of the one before.
        let mut current = (0, Totals::default());
        for lane in (0..LANES).skip(thread).step_by(threads) {
            for n in maker.records().lane(lane, 0) {
                let Use { account, qty, at } = maker.make(n);
                let pane = shape.pane_of(at);
                if pane != current.0 {
                    let next = panes.remove(&pane).unwrap_or_default();
                    let (last, totals) = std::mem::replace(&mut current, (pane, next));
                    panes.insert(last, totals);
                }
                add(&mut current.1, account, qty);
            }
        }
        panes.insert(current.0, current.1);
        panes
    })?;
    let starts: BTreeSet<u64> =
        read.iter().flat_map(Panes::keys).filter(|pane| **pane > 0).flat_map(|pane| shape.windows_of(*pane)).collect();
    let told = each_thread(threads, |thread| {
        let (mut tally, mut merged) = (Tally::default(), Totals::default());
        for start in starts.iter().skip(thread).step_by(threads) {
            let parts = read.iter().flat_map(|panes| panes.range(start..&(start + shape.size())));
            tell(*start, parts.map(|(_, totals)| totals), &mut merged, &mut tally);
        }
        tally
    })?;
    Ok(total(told, clock))
}

fn running(records: &Arc<Records>, threads: usize, clock: &Clock) -> Result<Tally> {
    let maker = Maker::<u64>::new(Arc::clone(records));
    clock.begin();
    let told = each_thread(threads, |thread| {
        let mut counts: HashMap<u64, u64, foldhash::fast::FixedState> = HashMap::default();
        let mut tally = Tally::default();
        for n in 0..maker.records().count() {
            let key = maker.make(n).account;
            if threads > 1 && key.route() % threads as u64 != thread as u64 {
                continue;
            }
            let count = counts.entry(key).or_default();
            *count += 1;
            tally.running(key, *count);
        }
        tally
    })?;
    Ok(total(told, clock))
}

fn total(told: Vec<Tally>, clock: &Clock) -> Tally {
    let mut total = Tally::default();
    told.into_iter().for_each(|tally| total.merge(tally));
    clock.lap();
    total
}

fn each_thread<T: Send>(threads: usize, work: impl Fn(usize) -> T + Sync) -> Result<Vec<T>> {
    let work = &work;
    thread::scope(|scope| {
        let spawned: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        spawned.into_iter().map(|thread| thread.join().ok().context("a thread panicked")).collect()
    })
}
