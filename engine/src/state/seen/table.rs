//! A set of fingerprints that needs about 31 bytes an entry, 24 of them payload.
//!
//! Fingerprints are uniform already, so their order is a hash order: an entry lies at, or shortly after, the slot that
//! its leading bits point at, and all entries are sorted (linear probing in order). Hence a search ends at the first
//! greater entry, growing and sweeping are one pass in memory order, the size need not be a power of two, and the table
//! can be kept between 70 and 88 % full, where a common hash table lies between 44 and 88 %.

/// An accepted fingerprint and its event time in ms. A vacant slot has the time [`VACANT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    high: u64,
    low: u64,
    pub(super) at: u64,
}

/// No event time: they end at 2^62.
const VACANT: u64 = u64::MAX;
const NOTHING: Entry = Entry { high: 0, low: 0, at: VACANT };
/// Bytes of an entry in memory and in a changelog.
pub(super) const ENTRY_BYTES: usize = 24;

impl Entry {
    pub(super) fn new(fingerprint: u128, at: u64) -> Self {
        Self { high: (fingerprint >> 64) as u64, low: fingerprint as u64, at }
    }

    pub(super) fn fingerprint(self) -> u128 {
        (u128::from(self.high) << 64) | u128::from(self.low)
    }

    fn is_vacant(&self) -> bool {
        self.at == VACANT
    }

    pub(super) fn pack(self, out: &mut Vec<u8>) {
        for number in [self.high, self.low, self.at] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    pub(super) fn unpack(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes.get(at + i).copied().unwrap_or(0)));
        Self { high: number(0), low: number(8), at: number(16) }
    }
}

/// Where a fingerprint is, or where it would have to go.
pub(super) enum Found<'a> {
    Entry(&'a mut Entry),
    Place(usize),
}

#[derive(Debug, Default)]
pub(super) struct SortedTable {
    // `homes` slots, and a few more for entries that were pushed beyond the last.
    slots: Vec<Entry>,
    homes: usize,
    len: usize,
}

impl SortedTable {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity().saturating_mul(size_of::<Entry>())
    }

    fn home(&self, high: u64) -> usize {
        ((u128::from(high) * self.homes as u128) >> 64) as usize
    }

    /// Reads the slot where a search for `fingerprint` begins.
    pub(super) fn peek(&self, fingerprint: u128) -> u64 {
        self.slots.get(self.home((fingerprint >> 64) as u64)).map_or(0, |entry| entry.at)
    }

    pub(super) fn find(&mut self, fingerprint: u128) -> Found<'_> {
        let wanted = Entry::new(fingerprint, 0);
        let home = self.home(wanted.high);
        let mut place = home;
        for entry in self.slots.get(home..).unwrap_or_default() {
            if entry.is_vacant() || (entry.high, entry.low) >= (wanted.high, wanted.low) {
                break;
            }
            place += 1;
        }
        let found = |entry: &Entry| !entry.is_vacant() && (entry.high, entry.low) == (wanted.high, wanted.low);
        if !self.slots.get(place).is_some_and(found) {
            return Found::Place(place);
        }
        self.slots.get_mut(place).map_or(Found::Place(place), Found::Entry)
    }

    /// Puts a new entry where [`find`](Self::find) said. `keep` tells which entries may stay if the table is built anew.
    pub(super) fn insert(&mut self, place: usize, entry: Entry, keep: impl Fn(u64) -> bool) {
        if self.len.saturating_add(1).saturating_mul(8) > self.homes.saturating_mul(7) {
            self.rebuild(1, keep);
            return match self.find(entry.fingerprint()) {
                Found::Place(place) => self.put(place, entry),
                Found::Entry(same) => same.at = entry.at,
            };
        }
        self.put(place, entry);
    }

    fn put(&mut self, place: usize, entry: Entry) {
        let vacant = self.slots.get(place..).unwrap_or_default().iter().position(Entry::is_vacant);
        let vacant = match vacant {
            Some(distance) => place.saturating_add(distance),
            None => {
                // Beyond the last home: exactly as much memory as needed, not twice the table.
                if self.slots.len() == self.slots.capacity() {
                    self.slots.reserve_exact(SPILL);
                }
                self.slots.push(NOTHING);
                self.slots.len().saturating_sub(1)
            }
        };
        self.slots.copy_within(place..vacant, place.saturating_add(1));
        if let Some(slot) = self.slots.get_mut(place) {
            *slot = entry;
        }
        self.len = self.len.saturating_add(1);
    }

    /// One pass: drops what `keep` refuses, and gives the rest room for `extra` more and a quarter.
    pub(super) fn rebuild(&mut self, extra: usize, keep: impl Fn(u64) -> bool) {
        let kept = |entry: &&Entry| !entry.is_vacant() && keep(entry.at);
        let len = self.slots.iter().filter(kept).count();
        let homes = len.saturating_add(extra).saturating_mul(10) / 7 + if len + extra > 0 { 8 } else { 0 };
        let mut fresh = Self { slots: Vec::new(), homes, len };
        fresh.slots.reserve_exact(if homes > 0 { homes + SPILL } else { 0 });
        for entry in self.slots.iter().filter(kept) {
            let home = fresh.home(entry.high).max(fresh.slots.len());
            fresh.slots.resize(home, NOTHING);
            fresh.slots.push(*entry);
        }
        fresh.slots.resize(homes.max(fresh.slots.len()), NOTHING);
        *self = fresh;
    }
}

/// Slots reserved beyond the last home.
const SPILL: usize = 16;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn insert(table: &mut SortedTable, fingerprint: u128, at: u64) {
        match table.find(fingerprint) {
            Found::Entry(entry) => entry.at = at,
            Found::Place(place) => table.insert(place, Entry::new(fingerprint, at), |_| true),
        }
    }

    fn contents(table: &SortedTable) -> Vec<(u128, u64)> {
        table.slots.iter().filter(|e| !e.is_vacant()).map(|e| (e.fingerprint(), e.at)).collect()
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_map(
            // Few leading bits, so that runs of neighbours are long and reach beyond the last home.
            ops in proptest::collection::vec((prop_oneof![0..6_u128, 250..256_u128, 0..256_u128], 0..9_u128, 0..50_u64), 0..300),
            swept in 0..50_u64,
        ) {
            let (mut table, mut model) = (SortedTable::default(), BTreeMap::new());
            for (lead, low, at) in ops {
                let fingerprint = (lead << 120) | low;
                insert(&mut table, fingerprint, at);
                model.insert(fingerprint, at);
                prop_assert_eq!(table.len(), model.len());
            }
            prop_assert_eq!(contents(&table), model.clone().into_iter().collect::<Vec<_>>());
            table.rebuild(0, |at| at >= swept);
            model.retain(|_, at| *at >= swept);
            prop_assert_eq!(contents(&table), model.clone().into_iter().collect::<Vec<_>>());
            for (fingerprint, at) in model {
                prop_assert!(matches!(table.find(fingerprint), Found::Entry(entry) if entry.at == at));
            }
        }
    }

    #[test]
    fn an_entry_is_packed_as_it_always_was() {
        let entry = Entry::new((1 << 64) | 2, 3);
        let mut bytes = Vec::new();
        entry.pack(&mut bytes);
        assert_eq!(bytes, [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Entry::unpack(bytes.first_chunk().unwrap()), entry);
        assert_eq!(size_of::<Entry>(), ENTRY_BYTES);
    }

    #[test]
    fn an_emptied_table_gives_its_memory_back() {
        let mut table = SortedTable::default();
        (0..1000_u128).for_each(|n| insert(&mut table, n << 118, 1));
        table.rebuild(0, |_| false);
        assert_eq!((table.len(), table.bytes()), (0, 0));
    }
}
