//! The limits over made records: a loop and raw timely, with the results of the engine's jobs and nothing else.
//!
//! They share panes between overlapping windows, as anyone would by hand: a record is added to one pane of 5 s, and a
//! window's twelve are merged when it ends.

pub(crate) mod plain;
pub(crate) mod timely;

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::made::records::MadeKey;
use crate::made::sink::Tally;

/// Count and sum by key.
type Totals<K> = HashMap<K, (u64, u64), foldhash::fast::FixedState>;
/// Panes by their start.
type Panes<K> = BTreeMap<u64, Totals<K>>;

/// How windows lie on panes, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Shape {
    pane: u64,
    /// Panes of a window.
    panes: u64,
}

const MINUTES: Shape = Shape { pane: 60_000, panes: 1 };
const SLIDING: Shape = Shape { pane: 5_000, panes: 12 };

impl Shape {
    /// The pane that `at` lies in.
    fn pane_of(self, at: u64) -> u64 {
        at / self.pane * self.pane
    }

    fn size(self) -> u64 {
        self.pane * self.panes
    }

    /// Starts of the windows that a pane is part of.
    fn windows_of(self, pane: u64) -> impl Iterator<Item = u64> {
        (0..self.panes).map(move |back| pane - back * self.pane)
    }
}

fn add<K: MadeKey>(totals: &mut Totals<K>, key: K, qty: u64) {
    let (count, sum) = totals.entry(key).or_default();
    *count += 1;
    *sum += qty;
}

/// Tells the rows of one window from the parts of its panes.
fn tell<'a, K: MadeKey>(
    start: u64,
    mut parts: impl Iterator<Item = &'a Totals<K>>,
    merged: &mut Totals<K>,
    tally: &mut Tally,
) {
    let Some(first) = parts.next() else { return };
    let Some(second) = parts.next() else {
        return tell_all(start, first, tally);
    };
    merged.clear();
    for part in [first, second].into_iter().chain(parts) {
        for (key, (count, sum)) in part {
            let total = merged.entry_ref(key).or_default();
            total.0 += count;
            total.1 += sum;
        }
    }
    tell_all(start, merged, tally);
}

fn tell_all<K: MadeKey>(start: u64, totals: &Totals<K>, tally: &mut Tally) {
    for (key, (count, sum)) in totals {
        tally.window(key.route(), start, *count, *sum);
    }
}

#[cfg(test)]
mod tests;
