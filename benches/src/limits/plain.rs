//! Plain Rust: a thread a core, each with files and maps of its own, merged at the end.
//!
//! It has no order to keep: a window is written when everything has been read. So it needs no exchange of records, which
//! no program that gives results while it reads can do without.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result};
use shardflow_examples::metering::types::Total;

use super::seen::Shared;
use super::{Fate, KeyRef, Lines, SetAside, Totals, create, files, window, write_window};

/// Windows by their start.
type Windows = BTreeMap<u64, Totals>;

/// Runs the job on `threads` threads. With `dedupe` an id counts once for each key.
///
/// # Errors
/// Files that cannot be read or written.
pub(crate) fn run(input: &Path, out: &Path, threads: usize, dedupe: bool) -> Result<()> {
    let queue = Mutex::new(files(input)?);
    let seen = dedupe.then(Shared::new);
    let windows = each_thread(threads, |thread| read(&queue, out, thread, seen.as_ref()))?;
    let mut shares: Vec<BTreeMap<u64, Vec<Totals>>> = vec![BTreeMap::new(); threads];
    for (start, totals) in windows.into_iter().flatten() {
        let share = usize::try_from(start / super::WINDOW).unwrap_or_default() % threads.max(1);
        if let Some(windows) = shares.get_mut(share) {
            windows.entry(start).or_default().push(totals);
        }
    }
    let shares = Mutex::new(shares);
    each_thread(threads, |thread| {
        let share = shares.lock().ok().and_then(|mut shares| shares.pop()).unwrap_or_default();
        write(share, out, thread)
    })?;
    Ok(())
}

fn each_thread<T: Send>(threads: usize, work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let work = &work;
    thread::scope(|scope| {
        let spawned: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        let joined = spawned.into_iter().map(|thread| thread.join().ok().context("a thread panicked")?);
        joined.collect()
    })
}

fn read(queue: &Mutex<Vec<PathBuf>>, out: &Path, thread: usize, seen: Option<&Shared>) -> Result<Windows> {
    let mut set_aside = SetAside::create(out, thread)?;
    let mut windows = Windows::new();
    // Most records are of the window of the one before.
    let mut current = (0, Totals::default());
    loop {
        let path = queue.lock().ok().and_then(|mut queue| queue.pop());
        let Some(path) = path else { break };
        let mut lines = Lines::open(&path)?;
        let mut more = true;
        while more {
            more = lines.next(&mut set_aside, |usage, late| {
                if seen.is_some_and(|seen| !seen.insert(usage.fingerprint())) {
                    return Fate::Taken;
                }
                if late.is_some() {
                    return Fate::Late;
                }
                let start = window(usage.at).start().as_millis();
                if start != current.0 {
                    let next = windows.remove(&start).unwrap_or_default();
                    let (last, totals) = std::mem::replace(&mut current, (start, next));
                    windows.insert(last, totals);
                }
                match current.1.get_mut(&KeyRef(usage.account, usage.meter)) {
                    Some(total) => total.add_qty(usage.qty),
                    None => {
                        let key = (usage.account.into(), usage.meter.into());
                        current.1.entry(key).or_default().add_qty(usage.qty);
                    }
                }
                Fate::Taken
            })?;
        }
    }
    windows.insert(current.0, current.1);
    set_aside.flush()?;
    Ok(windows)
}

fn write(share: BTreeMap<u64, Vec<Totals>>, out: &Path, thread: usize) -> Result<()> {
    let mut file = create(out, "charges", thread)?;
    for (start, parts) in share {
        let mut parts = parts.into_iter();
        let mut totals = parts.next().unwrap_or_default();
        for (key, part) in parts.flatten() {
            add(totals.entry(key).or_default(), &part);
        }
        write_window(start, totals, &mut file)?;
    }
    file.flush().context("could not write charges")
}

fn add(total: &mut Total, part: &Total) {
    total.qty = total.qty.saturating_add(part.qty);
    total.count = total.count.saturating_add(part.count);
    total.max = total.max.max(part.max);
}
