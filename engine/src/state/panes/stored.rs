//! How accumulators of panes and of overlapping windows are stored.

use super::cells::{Cell, Cells};
use super::{PaneState, cell_of, open_at, pane_at};
use crate::error::{Error, Result};
use crate::state::changelog::{ChangelogWriter, Table};
use crate::state::codec;
use crate::state::windows::{split_window, window_bytes};
use crate::vocabulary::{EventTime, Key, KeyGroup, State};
use crate::window::{Pane, WindowSpec};

/// What an accumulator is of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// A pane.
    Panes,
    /// A window, as a pane with no other window. It is stored as a window.
    Windows,
}

impl Form {
    /// What the keys of a pane, or of a window, begin with: in big endian, so that the base keeps them in the order in which
    /// they leave.
    pub(super) fn bytes(self, pane: Pane, spec: &WindowSpec) -> [u8; 16] {
        match self {
            Self::Panes => pane_bytes(pane),
            Self::Windows => window_bytes(spec.window_from(pane.first())),
        }
    }

    /// The pane or window of a stored key, and the rest of it.
    fn read<'a>(self, spec: &WindowSpec, bytes: &'a [u8]) -> Result<(Pane, &'a [u8])> {
        match self {
            Self::Panes => read_pane(spec, bytes),
            Self::Windows => {
                let (window, key) = split_window(bytes)?;
                let pane = spec.pane_of(window.start(), window.start());
                let pane = pane.filter(|pane| spec.window_from(pane.first()) == window);
                Ok((
                    pane.ok_or_else(|| Error::state(format!("could not read a window: {window} is none of {spec}")))?,
                    key,
                ))
            }
        }
    }
}

impl<K: Key, A: State> PaneState<K, A> {
    /// Appends what changed since the last call, and forgets that it changed.
    ///
    /// # Errors
    /// A key or accumulator cannot be encoded. The job must stop: part of the changes is lost to this map.
    pub fn drain_changes(&mut self, table: Table, changes: &mut ChangelogWriter) -> Result<()> {
        self.deleted.drain(table, changes)?;
        let Self { spec, form, keys, panes, open, .. } = self;
        let (mut key, mut value) = std::mem::take(&mut changes.scratch);
        for (pane, place) in open {
            let span = form.bytes(*pane, spec);
            let mut list = std::mem::take(&mut open_at(panes, *place).dirty);
            for dirty in list.drain(..) {
                let Some(entry) = keys.at_mut(dirty) else { continue };
                let Ok(at) = entry.value.find(*place, *pane, |place| pane_at(panes, place)) else { continue };
                let Some(cell) = entry.value.at_mut(at).filter(|cell| cell.dirty) else { continue };
                key.clear();
                key.extend_from_slice(&span);
                codec::encode_into(&entry.key, &mut key)?;
                value.clear();
                codec::encode_into(&cell.value, &mut value)?;
                changes.put(entry.group, table, &key, &value);
                (cell.dirty, cell.persisted) = (false, true);
            }
            open_at(panes, *place).dirty = list;
        }
        changes.scratch = (key, value);
        Ok(())
    }

    /// Puts back one entry of the snapshot. `hash_of` computes the hash that `upsert` will use.
    ///
    /// # Errors
    /// The bytes are not those of a pane of these windows, a `K` and an `A`.
    pub fn restore(
        &mut self,
        group: KeyGroup,
        hash_of: impl FnOnce(&K) -> u64,
        key: &[u8],
        value: &[u8],
    ) -> Result<()> {
        let (pane, key) = self.form.read(&self.spec, key)?;
        let (key, value) = (codec::decode::<K>(key)?, codec::decode::<A>(value)?);
        let place = self.open_pane(pane);
        let (key, entry) = self.keys.place_or_insert(hash_of(&key), group, &key, Cells::new);
        let mut value = Some(value);
        let new =
            || Cell { value: value.take().expect("it is put in once"), pane: place, dirty: false, persisted: true };
        let (at, is_new) = cell_of(&mut entry.value, &mut self.panes, pane, place, key, new);
        self.accumulators += usize::from(is_new);
        if let (Some(cell), Some(value)) = (entry.value.at_mut(at), value) {
            cell.value = value;
        }
        Ok(())
    }
}

/// The last window and the first, by when they begin, in big endian: the base keeps panes in the order in which they leave.
fn pane_bytes(pane: Pane) -> [u8; 16] {
    let both = (u128::from(pane.last().as_millis()) << 64) | u128::from(pane.first().as_millis());
    both.to_be_bytes()
}

fn read_pane<'a>(spec: &WindowSpec, bytes: &'a [u8]) -> Result<(Pane, &'a [u8])> {
    let (span, key) = bytes.split_first_chunk::<16>().ok_or_else(|| {
        Error::state(format!("could not read a pane: {} bytes where its windows alone take 16", bytes.len()))
    })?;
    let both = u128::from_be_bytes(*span);
    let (first, last) = (EventTime::from_millis(both as u64), EventTime::from_millis((both >> 64) as u64));
    let pane = spec.pane_of(first, last).filter(|pane| pane_bytes(*pane) == *span);
    let pane =
        pane.ok_or_else(|| Error::state(format!("could not read a pane: from {first} to {last} are no {spec}")))?;
    Ok((pane, key))
}
