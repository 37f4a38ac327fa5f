//! The accumulators of a window step: by window, or by pane where overlapping windows share them.

use super::window::Merge;
use crate::error::Result;
use crate::state::changelog::{ChangelogWriter, Table};
use crate::state::{PaneState, WindowState};
use crate::vocabulary::{EventTime, Key, KeyGroup, State, Window};
use crate::window::{PaneFinder, WindowSpec};

/// Accumulators of open windows.
pub(super) enum OpenWindows<K, A> {
    /// One a window and key, of windows that do not overlap.
    Apart(WindowState<K, A>, WindowSpec),
    /// One a window and key, of windows that do.
    Overlapping(PaneState<K, A>, PaneFinder),
    /// One a pane and key, merged when a window fires.
    Panes(PaneState<K, A>, PaneFinder, Merge<A>),
}

/// Fired windows with the accumulators of their keys.
type Fired<K, A> = Vec<(Window, Vec<(K, A)>)>;

impl<K: Key, A: State> OpenWindows<K, A> {
    /// No accumulators, of overlapping windows in panes where there is a `merge`.
    pub(super) fn new(spec: WindowSpec, merge: Option<Merge<A>>) -> Self {
        match merge {
            _ if !spec.overlap() => Self::Apart(WindowState::new(), spec),
            None => Self::Overlapping(PaneState::of_windows(spec), PaneFinder::new(spec)),
            Some(merge) => Self::Panes(PaneState::new(spec), PaneFinder::new(spec), merge),
        }
    }

    /// Removes the windows that have closed at `watermark`; `None`: all of them. Where they are in panes, `wanted` says
    /// whether a window has not been fired already before the crash for the keys of a group.
    pub(super) fn fire_through(
        &mut self,
        watermark: Option<EventTime>,
        wanted: impl Fn(Window, KeyGroup) -> bool,
    ) -> Fired<K, A> {
        match (self, watermark) {
            (Self::Apart(state, spec), Some(watermark)) => state.fire_through(watermark, spec.grace()),
            (Self::Apart(state, _), None) => state.fire_all(),
            // There is one a window: nothing to be merged.
            (Self::Overlapping(state, _), watermark) => state.fire_through(watermark, wanted, |_, _| ()),
            (Self::Panes(state, _, merge), watermark) => state.fire_through(watermark, wanted, &*merge),
        }
    }

    /// Takes in that the windows that end at or before `end` have been fired already before the crash.
    pub(super) fn skip_through(&mut self, end: EventTime) {
        if let Self::Overlapping(state, ..) | Self::Panes(state, ..) = self {
            state.skip_through(end);
        }
    }

    pub(super) fn drain_changes(&mut self, table: Table, changes: &mut ChangelogWriter) -> Result<()> {
        match self {
            Self::Apart(state, _) => state.drain_changes(table, changes),
            Self::Overlapping(state, ..) | Self::Panes(state, ..) => state.drain_changes(table, changes),
        }
    }

    pub(super) fn restore(
        &mut self,
        group: KeyGroup,
        hash_of: impl FnOnce(&K) -> u64,
        key: &[u8],
        value: &[u8],
    ) -> Result<()> {
        match self {
            Self::Apart(state, _) => state.restore(group, hash_of, key, value),
            Self::Overlapping(state, ..) | Self::Panes(state, ..) => state.restore(group, hash_of, key, value),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Apart(state, _) => state.len(),
            Self::Overlapping(state, ..) | Self::Panes(state, ..) => state.len(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Apart(state, _) => state.bytes(),
            Self::Overlapping(state, ..) | Self::Panes(state, ..) => state.bytes(),
        }
    }
}
