//! Changelogs on top of each other, and on top of the base: the newest wins.

use std::cmp::Ordering;

use super::layout;
use crate::error::{Error, Result};
use crate::state::{Change, ChangelogReader, Table};
use crate::vocabulary::KeyGroup;

/// Takes the live entries of a restore: key group, table, encoded key, encoded value.
pub type Visit<'a> = dyn FnMut(KeyGroup, Table, &[u8], &[u8]) -> Result<()> + 'a;

/// A change with the number of its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addressed<'a> {
    pub(super) step: u32,
    pub(super) change: Change<'a>,
}

/// Where a change is and how it sorts, as far as that fits into a few bytes: most comparisons touch nothing else. Sorting the
/// changes themselves took ten times as long.
#[derive(Debug, Clone, Copy)]
struct Order {
    /// Step, group and table.
    place: u64,
    /// The first bytes of the key, zeros after its end.
    key: u64,
    /// Which changelog, and where in it: of two, the later has the greater.
    log: u32,
    offset: u32,
}

impl Order {
    fn of(step: u32, change: &Change<'_>, log: u32, offset: u32) -> Self {
        let place = (u64::from(step) << 24) | (u64::from(change.group.number()) << 8) | u64::from(change.table.0);
        let mut first = [0; 8];
        for (to, from) in first.iter_mut().zip(change.key) {
            *to = *from;
        }
        Self { place, key: u64::from_be_bytes(first), log, offset }
    }
}

/// The last change of each key, in the order of the base.
#[derive(Debug)]
pub(super) struct Newest<'a> {
    /// Step numbers and the changes of each changelog.
    logs: Vec<(u32, &'a [u8])>,
    orders: Vec<Order>,
}

impl<'a> Newest<'a> {
    /// How many keys changed.
    pub(super) fn len(&self) -> usize {
        self.orders.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Addressed<'a>> {
        self.orders.iter().filter_map(|order| change_at(&self.logs, order))
    }
}

fn change_at<'a>(logs: &[(u32, &'a [u8])], order: &Order) -> Option<Addressed<'a>> {
    let (step, changes) = logs.get(order.log as usize)?;
    let (change, _) = ChangelogReader::first(changes.get(order.offset as usize..)?)?;
    Some(Addressed { step: *step, change })
}

/// The last change of each key that `keep` wants, in the order of the base. `logs` are step numbers and sealed
/// changelogs, oldest first. Takes 24 bytes a change beside the changelogs themselves.
pub(super) fn newest_wins<'a>(
    logs: impl IntoIterator<Item = (u32, &'a [u8])>,
    keep: impl Fn(u32, KeyGroup) -> bool,
) -> Result<Newest<'a>> {
    let (mut opened, mut orders) = (Vec::new(), Vec::new());
    for (number, (step, sealed)) in (0_u32..).zip(logs) {
        let changes = ChangelogReader::payload(sealed)?;
        let mut reader = ChangelogReader::open(sealed)?;
        loop {
            let offset = reader.offset(changes);
            let Some(change) = reader.next().transpose()? else { break };
            if keep(step, change.group) {
                let offset = u32::try_from(offset)
                    .map_err(|_| Error::state("could not read a changelog: it has more than 4 GiB"))?;
                orders.push(Order::of(step, &change, number, offset));
            }
        }
        opened.push((step, changes));
    }
    let rest = |order: &Order| change_at(&opened, order).map_or(&[][..], |Addressed { change, .. }| change.key);
    // Of equal addresses the newest comes first, and is the one that stays.
    orders.sort_unstable_by(|a, b| {
        let first = (a.place, a.key).cmp(&(b.place, b.key));
        first.then_with(|| rest(a).cmp(rest(b))).then_with(|| (b.log, b.offset).cmp(&(a.log, a.offset)))
    });
    orders.dedup_by(|later, first| (later.place, later.key) == (first.place, first.key) && rest(later) == rest(first));
    Ok(Newest { logs: opened, orders })
}

/// Group, table and key of a base entry.
pub(super) fn address(key: &[u8]) -> Result<(KeyGroup, Table, &[u8])> {
    layout::parse_base(key).ok_or_else(|| Error::state("the snapshot is damaged: a base key is cut short"))
}

/// Visits base entries and `overlay`, both in order, as one map: a change hides the base entry of the same key.
pub(super) struct Overlay<'v, I: Iterator> {
    changes: std::iter::Peekable<I>,
    visit: &'v mut Visit<'v>,
}

impl<'a, 'v, I: Iterator<Item = Addressed<'a>>> Overlay<'v, I> {
    pub(super) fn new(changes: I, visit: &'v mut Visit<'v>) -> Self {
        Self { changes: changes.peekable(), visit }
    }

    /// The next base entry: first all changes before it, then it or the change of its key.
    pub(super) fn base(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let (group, table, key) = address(key)?;
        while let Some(next) = self.changes.peek() {
            let order = (next.change.group, next.change.table, next.change.key).cmp(&(group, table, key));
            if order == Ordering::Greater {
                break;
            }
            self.change()?;
            if order == Ordering::Equal {
                return Ok(());
            }
        }
        (self.visit)(group, table, key, value)
    }

    /// The changes after the last base entry.
    pub(super) fn finish(mut self) -> Result<()> {
        while self.changes.peek().is_some() {
            self.change()?;
        }
        Ok(())
    }

    fn change(&mut self) -> Result<()> {
        match self.changes.next().map(|next| next.change) {
            Some(Change { group, table, key, value: Some(value) }) => (self.visit)(group, table, key, value),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::state::ChangelogWriter;

    type Entry = (u8, u8, Vec<u8>, Option<u8>);

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        proptest::collection::vec(
            (0..3_u8, 0..2_u8, proptest::collection::vec(0..3_u8, 0..2), any::<Option<u8>>()),
            0..20,
        )
    }

    fn sealed(entries: &[Entry]) -> Option<Vec<u8>> {
        let mut writer = ChangelogWriter::new();
        for (group, table, key, value) in entries {
            let group = KeyGroup::new(u16::from(*group));
            match value {
                Some(value) => writer.put(group, Table(*table), key, &[*value]),
                None => writer.delete(group, Table(*table), key),
            }
        }
        writer.finish()
    }

    proptest! {
        #[test]
        fn base_and_changelogs_read_as_if_every_change_had_been_applied(base in entries(), logs in proptest::collection::vec(entries(), 0..5)) {
            let mut model = BTreeMap::new();
            for (group, table, key, value) in &base {
                model.insert((*group, *table, key.clone()), value.unwrap_or(0));
            }
            let stored: Vec<_> = model.iter().map(|((group, table, key), value)| {
                let mut bytes = Vec::new();
                layout::base(9, KeyGroup::new(u16::from(*group)), Table(*table), key, &mut bytes);
                (bytes, *value)
            }).collect();
            for (group, table, key, value) in logs.iter().flatten() {
                let key = (*group, *table, key.clone());
                match value {
                    Some(value) => _ = model.insert(key, *value),
                    None => _ = model.remove(&key),
                }
            }
            let logs: Vec<_> = logs.iter().filter_map(|log| sealed(log)).collect();
            let changes = newest_wins(logs.iter().map(|log| (9, &log[..])), |_, group| group.number() < 2).unwrap();
            let mut read = Vec::new();
            let mut visit = |group: KeyGroup, table: Table, key: &[u8], value: &[u8]| {
                read.push(((group.number() as u8, table.0, key.to_vec()), value[0]));
                Ok(())
            };
            let mut overlay = Overlay::new(changes.iter(), &mut visit);
            for (key, value) in stored.iter().filter(|(key, _)| key[6] < 2) {
                overlay.base(key, &[*value]).unwrap();
            }
            overlay.finish().unwrap();
            model.retain(|(group, _, _), _| *group < 2);
            prop_assert_eq!(read, model.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_damaged_changelog_is_an_error() {
        let mut log = sealed(&[(0, 0, vec![1], Some(1))]).unwrap();
        log[20] ^= 1;
        assert!(newest_wins([(0, &log[..])], |_, _| true).is_err());
    }
}
