//! Panes: event times whose records count in the same overlapping windows, and so can share an accumulator.

use super::WindowSpec;
use super::assign::LAST;
use crate::vocabulary::{EventTime, Window};

/// The windows that a record counts in: the first and the last of them, by when they begin. All between, a slide apart,
/// belong to it too.
///
/// A record that comes too late for some of its windows counts in the rest of them, which is another pane. Panes sort as
/// their windows close: by the last, then by the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pane {
    last: EventTime,
    first: EventTime,
}

impl Pane {
    /// When its first window begins.
    #[must_use]
    pub const fn first(self) -> EventTime {
        self.first
    }

    /// When its last window begins.
    #[must_use]
    pub const fn last(self) -> EventTime {
        self.last
    }

    /// Its windows, each as a pane with no other.
    pub fn windows(self, spec: &WindowSpec) -> impl Iterator<Item = Self> + use<> {
        let spec = *spec;
        let starts = std::iter::successors(Some(self.first), move |start| Some(spec.start_after(*start)));
        starts.take_while(move |start| *start <= self.last).map(|start| Self { last: start, first: start })
    }

    /// Whether its records count in the window that begins at `start`.
    #[inline]
    #[must_use]
    pub fn counts_in(self, start: EventTime) -> bool {
        self.first <= start && start <= self.last
    }
}

impl WindowSpec {
    /// Whether an event time lies in more than one window.
    #[must_use]
    pub fn overlap(&self) -> bool {
        self.slide_ms < self.size_ms
    }

    /// The pane of an event time, with all windows of [`WindowSpec::assign`].
    #[must_use]
    pub fn pane(&self, at: EventTime) -> Pane {
        let at = at.as_millis().min(LAST);
        let start = EventTime::from_millis;
        Pane { first: start(self.first_start(at)), last: start(at - at % self.slide_ms) }
    }

    /// The pane whose windows begin at `first`, …, `last`; `None` where no records of one event time count in these.
    #[must_use]
    pub fn pane_of(&self, first: EventTime, last: EventTime) -> Option<Pane> {
        let aligned = |start: EventTime| start.as_millis().is_multiple_of(self.slide_ms);
        let apart = last.as_millis().checked_sub(first.as_millis())?;
        let is_one = aligned(first) && aligned(last) && last.as_millis() <= LAST && apart < self.size_ms;
        is_one.then_some(Pane { last, first })
    }

    /// The window that begins at `start`.
    #[must_use]
    pub fn window_from(&self, start: EventTime) -> Window {
        let end = start.as_millis().saturating_add(self.size_ms);
        Window::new(start, EventTime::from_millis(end))
    }

    /// When the window after the one from `start` begins.
    #[must_use]
    pub fn start_after(&self, start: EventTime) -> EventTime {
        EventTime::from_millis(start.as_millis().saturating_add(self.slide_ms))
    }

    /// When the first window begins that ends after `end`.
    #[must_use]
    pub fn start_of_next_end(&self, end: EventTime) -> EventTime {
        EventTime::from_millis(self.first_start(end.as_millis()))
    }

    /// The part of a pane that is still open for a record that came at `watermark`, where the windows that end at or
    /// before `closed` are over whatever the watermark: `None` where all windows have closed.
    #[inline]
    #[must_use]
    pub fn open_part(&self, pane: Pane, watermark: EventTime, closed: EventTime) -> Option<Pane> {
        // The greatest end of a closed window. At the end of time all are closed, those too that end only after it.
        let passed = watermark.as_millis().saturating_sub(self.grace_ms).max(closed.as_millis());
        let over = watermark == EventTime::MAX || closed == EventTime::MAX;
        if pane.first.as_millis().saturating_add(self.size_ms) > passed && !over {
            return Some(pane);
        }
        let first = pane.first.max(EventTime::from_millis(self.first_start(passed)));
        (!over && first <= pane.last).then_some(Pane { first, ..pane })
    }
}

/// Finds panes of event times, without dividing where the pane is the one before.
#[derive(Debug, Clone)]
pub struct PaneFinder {
    spec: WindowSpec,
    // The pane found last, and the event times in it: from the first to before the second.
    pane: Pane,
    from: u64,
    until: u64,
}

impl PaneFinder {
    /// Finds panes of these windows.
    #[must_use]
    pub fn new(spec: WindowSpec) -> Self {
        Self { spec, pane: spec.pane(EventTime::MIN), from: 0, until: 0 }
    }

    /// The same as [`WindowSpec::pane`].
    #[inline]
    pub fn pane(&mut self, at: EventTime) -> Pane {
        let at = at.as_millis().min(LAST);
        if at < self.from || self.until <= at {
            self.look_up(at);
        }
        self.pane
    }

    fn look_up(&mut self, at: u64) {
        self.pane = self.spec.pane(EventTime::from_millis(at));
        let (first, last) = (self.pane.first.as_millis(), self.pane.last.as_millis());
        let (size, slide) = (self.spec.size_ms, self.spec.slide_ms);
        // The last window is the latest that has begun, the first the earliest that has not ended. No number here is over
        // 2^63.
        self.from = if first == 0 { last } else { last.max(first + size - slide) };
        self.until = (last + slide).min(first + size);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::vocabulary::millis;
    use crate::window::sliding;

    fn at(millis: u64) -> EventTime {
        EventTime::from_millis(millis)
    }

    fn specs() -> impl Strategy<Value = WindowSpec> {
        let lengths = prop_oneof![1_u64..40, 1_u64..=1 << 62].prop_flat_map(|size| (Just(size), 1..=size));
        (lengths, prop_oneof![Just(0), 0_u64..60, 0_u64..=1 << 62])
            .prop_map(|((size, slide), grace)| sliding(millis(size), millis(slide)).grace(millis(grace)))
    }

    fn times() -> impl Strategy<Value = EventTime> {
        let end = EventTime::MAX.as_millis();
        prop_oneof![6 => 0_u64..120, 1 => 0..=end, 1 => end - 120..=end, 1 => Just(end)].prop_map(at)
    }

    fn starts(spec: &WindowSpec, pane: Pane) -> Vec<EventTime> {
        pane.windows(spec).map(Pane::first).collect()
    }

    proptest! {
        #[test]
        fn a_pane_is_all_windows_of_an_event_time(size in 1_u64..40, slide in 1_u64..40, time in times()) {
            let spec = sliding(millis(size), millis(slide.min(size))).grace(Duration::ZERO);
            let pane = spec.pane(time);
            let windows: Vec<Window> = starts(&spec, pane).into_iter().map(|start| spec.window_from(start)).collect();
            prop_assert_eq!(windows, spec.assign(time).collect::<Vec<_>>());
            prop_assert_eq!(spec.pane_of(pane.first(), pane.last()), Some(pane));
        }

        #[test]
        fn what_was_found_before_changes_no_pane(spec in specs(), times in prop::collection::vec(times(), 1..20)) {
            let mut finder = PaneFinder::new(spec);
            for time in times {
                prop_assert_eq!(finder.pane(time), spec.pane(time));
            }
        }

        #[test]
        fn the_open_part_is_what_is_not_late(
            size in 1_u64..40, slide in 1_u64..40, grace in prop_oneof![Just(0), 0_u64..60],
            time in times(), watermark in times(), closed in prop_oneof![Just(at(0)), times()],
        ) {
            let spec = sliding(millis(size), millis(slide.min(size))).grace(millis(grace));
            let open = |window: &Window| !spec.is_late(*window, watermark) && window.end() > closed;
            let expected: Vec<EventTime> = spec.assign(time).filter(open).map(Window::start).collect();
            let found = spec.open_part(spec.pane(time), watermark, closed);
            prop_assert_eq!(found.map_or_else(Vec::new, |pane| starts(&spec, pane)), expected);
        }

        #[test]
        fn the_next_end_is_the_least_after_one(spec in specs(), end in times()) {
            let start = spec.start_of_next_end(end);
            prop_assert!(start.as_millis() + spec.size_ms > end.as_millis());
            let before = start.as_millis().checked_sub(spec.slide_ms);
            prop_assert!(before.is_none_or(|before| before + spec.size_ms <= end.as_millis()));
        }
    }

    #[test]
    fn what_is_no_pane_is_told_apart() {
        let spec = sliding(millis(10), millis(5)).grace(Duration::ZERO);
        assert!(spec.pane_of(at(5), at(10)).is_some() && spec.pane_of(at(10), at(10)).is_some());
        for (first, last) in [(5, 15), (10, 5), (4, 10), (5, 11)] {
            assert_eq!(spec.pane_of(at(first), at(last)), None, "{first} to {last}");
        }
    }
}
