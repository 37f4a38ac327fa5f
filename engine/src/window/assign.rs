//! From an event time to its windows, from a watermark to lateness.

use super::WindowSpec;
use crate::vocabulary::{EventTime, Window};

/// The last event time that a half-open window can hold.
pub(super) const LAST: u64 = EventTime::MAX.as_millis() - 1;

impl WindowSpec {
    /// The windows that contain `at`, earliest first: one for tumbling windows, `size` / `slide` of them (rounded up or
    /// down, as `at` falls) for sliding ones, and always at least one. Allocates nothing.
    ///
    /// No window begins before 1970, so an event time in the first `size` after it has fewer. [`EventTime::MAX`], which
    /// no half-open window can contain, is put with the last event time before it.
    ///
    /// # Examples
    /// ```
    /// use shardflow::window::sliding;
    /// use shardflow::{EventTime, Window, seconds};
    /// let at = EventTime::from_millis;
    /// let windows: Vec<Window> = sliding(seconds(10), seconds(5)).grace(seconds(0)).assign(at(12_000)).collect();
    /// assert_eq!(windows, [Window::new(at(5_000), at(15_000)), Window::new(at(10_000), at(20_000))]);
    /// ```
    #[inline]
    pub fn assign(&self, at: EventTime) -> Windows {
        let at = at.as_millis().min(LAST);
        let last = at - at % self.slide_ms;
        let first = if self.slide_ms == self.size_ms { last } else { self.first_start(at) };
        Windows { next: first, last, slide: self.slide_ms, size: self.size_ms }
    }

    /// When the first window begins that ends after `at`: the least multiple of the slide that is greater than
    /// `at - size`, or 0 where that is before 1970.
    #[inline]
    pub(super) fn first_start(&self, at: u64) -> u64 {
        at.checked_sub(self.size_ms).map_or(0, |before| before - before % self.slide_ms + self.slide_ms)
    }

    /// When a window closes: its end plus grace. Saturates at [`EventTime::MAX`], the watermark of a source that has
    /// ended, so every window closes at the latest then.
    #[inline]
    #[must_use]
    pub fn closes_at(&self, window: Window) -> EventTime {
        EventTime::from_millis(window.end().as_millis().saturating_add(self.grace_ms))
    }

    /// Whether a record for `window` comes too late at `watermark`: the window has closed.
    #[inline]
    #[must_use]
    pub fn is_late(&self, window: Window, watermark: EventTime) -> bool {
        self.closes_at(window) <= watermark
    }
}

/// The windows of one event time, earliest first. Made by [`WindowSpec::assign`].
#[derive(Debug, Clone)]
pub struct Windows {
    // Starts, in milliseconds; exhausted when `next` is past `last`.
    next: u64,
    last: u64,
    slide: u64,
    size: u64,
}

impl Iterator for Windows {
    type Item = Window;

    #[inline]
    fn next(&mut self) -> Option<Window> {
        if self.next > self.last {
            return None;
        }
        let start = self.next;
        // At most 2^62 each, so neither sum overflows.
        self.next = start + self.slide;
        Some(Window::new(EventTime::from_millis(start), EventTime::from_millis(start + self.size)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = if self.next > self.last { 0 } else { (self.last - self.next) / self.slide + 1 };
        usize::try_from(left).map_or((usize::MAX, None), |left| (left, Some(left)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::vocabulary::{millis, seconds};
    use crate::window::{sliding, tumbling};

    fn lengths() -> impl Strategy<Value = (u64, u64)> {
        (1_u64..5_000).prop_flat_map(|size| (Just(size), 1..=size))
    }

    fn at(millis: u64) -> EventTime {
        EventTime::from_millis(millis)
    }

    proptest! {
        #[test]
        fn an_event_time_lies_in_one_tumbling_window(size in 1_u64..=1 << 62, time in 0..EventTime::MAX.as_millis()) {
            let windows: Vec<Window> = tumbling(millis(size)).grace(Duration::ZERO).assign(at(time)).collect();
            prop_assert_eq!(windows.len(), 1);
            prop_assert!(windows[0].contains(at(time)));
            prop_assert_eq!(windows[0].start().as_millis() % size, 0);
        }

        #[test]
        fn sliding_windows_are_exactly_the_aligned_ones_that_contain_the_event_time(
            (size, slide) in lengths(), time in 0_u64..20_000,
        ) {
            let windows: Vec<Window> = sliding(millis(size), millis(slide)).grace(Duration::ZERO).assign(at(time)).collect();
            let expected: Vec<Window> = (0..=time / slide)
                .map(|n| Window::new(at(n * slide), at(n * slide + size)))
                .filter(|window| window.contains(at(time)))
                .collect();
            prop_assert_eq!(windows, expected);
        }

        #[test]
        fn after_its_first_window_an_event_time_lies_in_size_by_slide_windows(
            (size, slide) in lengths(), time in 5_000_u64..1 << 61,
        ) {
            let windows = sliding(millis(size), millis(slide)).grace(Duration::ZERO).assign(at(time));
            let count = windows.clone().count() as u64;
            prop_assert_eq!(windows.size_hint(), (count as usize, Some(count as usize)));
            prop_assert!(size / slide <= count && count <= size.div_ceil(slide));
        }

        #[test]
        fn lateness_never_ends_as_the_watermark_grows(
            start: u64, size in 1_u64..1 << 62, grace: u64, one: u64, other: u64,
        ) {
            let spec = tumbling(millis(size)).grace(millis(grace));
            let window = spec.assign(at(start)).next().unwrap();
            let (early, late) = (at(one.min(other)), at(one.max(other)));
            prop_assert!(!spec.is_late(window, early) || spec.is_late(window, late));
            prop_assert!(spec.is_late(window, EventTime::MAX), "an ended source closes every window");
        }
    }

    #[test]
    fn a_window_waits_for_its_grace_and_not_a_millisecond_longer() {
        let spec = tumbling(seconds(1)).grace(millis(500));
        let window = Window::new(at(1000), at(2000));
        assert_eq!(spec.closes_at(window), at(2500));
        assert!(!spec.is_late(window, at(2499)));
        assert!(spec.is_late(window, at(2500)));
    }

    #[test]
    fn windows_begin_at_1970_and_not_before() {
        let windows: Vec<Window> = sliding(millis(10), millis(4)).grace(Duration::ZERO).assign(at(5)).collect();
        assert_eq!(windows, [Window::new(at(0), at(10)), Window::new(at(4), at(14))]);
    }

    #[test]
    fn the_end_of_time_is_put_into_the_last_window() {
        let window = tumbling(seconds(60)).grace(seconds(1)).assign(EventTime::MAX).next().unwrap();
        assert_eq!(window.end(), EventTime::MAX);
        assert!(window.start() < window.end());
    }
}
