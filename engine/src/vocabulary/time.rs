//! The two clocks: [`Epoch`] counts consistent cuts, [`EventTime`] is the time inside the records.

use std::fmt;
use std::time::Duration;

use jiff::fmt::friendly::SpanPrinter;
use serde::{Deserialize, Serialize};

/// A consistent cut's number. Grows by at least one each beat; committed epochs are totally ordered across restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A time that a record carries, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(from = "u64")]
pub struct EventTime(u64);

// Whatever a record claims, no event time is beyond the end of time.
impl From<u64> for EventTime {
    fn from(millis: u64) -> Self {
        Self::from_millis(millis)
    }
}

impl EventTime {
    /// The least event time: 1970-01-01T00:00:00Z.
    pub const MIN: Self = Self(0);
    /// The greatest event time, 2^62 ms. Leaves room so that adding a window, a lag or a grace never overflows.
    pub const MAX: Self = Self(1 << 62);

    /// Milliseconds since 1970. Saturates at [`EventTime::MAX`].
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        if millis > Self::MAX.0 { Self::MAX } else { Self(millis) }
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Later by `duration`, in whole milliseconds. Saturates at [`EventTime::MAX`].
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// Earlier by `duration`, in whole milliseconds. Saturates at [`EventTime::MIN`].
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(millis))
    }
}

impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A half-open span of event time, `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Window {
    // `end` comes first so that windows sort by when they close.
    end: EventTime,
    start: EventTime,
}

impl Window {
    /// The window `[start, end)`. An `end` at or before `start` gives the empty window `[start, start)`.
    #[must_use]
    pub fn new(start: EventTime, end: EventTime) -> Self {
        Self { start, end: end.max(start) }
    }

    /// The first event time inside.
    #[must_use]
    pub const fn start(self) -> EventTime {
        self.start
    }

    /// The first event time after it.
    #[must_use]
    pub const fn end(self) -> EventTime {
        self.end
    }

    /// The last event time inside: what a result of this window is stamped with.
    #[must_use]
    pub fn last(self) -> EventTime {
        self.end.minus(Duration::from_millis(1)).max(self.start)
    }

    /// Whether `at` lies inside.
    #[must_use]
    pub fn contains(self, at: EventTime) -> bool {
        self.start <= at && at < self.end
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

/// `n` milliseconds.
#[must_use]
pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// `n` seconds.
#[must_use]
pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// `n` minutes. Saturates.
#[must_use]
pub const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n.saturating_mul(60))
}

/// `n` hours. Saturates.
#[must_use]
pub const fn hours(n: u64) -> Duration {
    Duration::from_secs(n.saturating_mul(3600))
}

/// `n` days of 24 hours. Saturates.
#[must_use]
pub const fn days(n: u64) -> Duration {
    Duration::from_secs(n.saturating_mul(86400))
}

/// A duration as people write it, and as flags are read: `200ms`, `1h 30m`.
pub(crate) fn shown(duration: Duration) -> String {
    SpanPrinter::new().unsigned_duration_to_string(&duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_time_never_overflows() {
        assert_eq!(EventTime::from_millis(u64::MAX), EventTime::MAX);
        assert_eq!(EventTime::MAX.plus(Duration::MAX), EventTime::MAX);
        assert_eq!(EventTime::MIN.minus(Duration::MAX), EventTime::MIN);
    }

    #[test]
    fn an_event_time_inside_a_record_is_never_beyond_the_end_of_time() {
        let read: EventTime = serde_json::from_str("18446744073709551615").unwrap();
        assert_eq!(read, EventTime::MAX);
        assert_eq!(serde_json::to_string(&EventTime::from_millis(7)).unwrap(), "7");
    }

    #[test]
    fn windows_sort_by_their_end() {
        let early = Window::new(EventTime::from_millis(5), EventTime::from_millis(10));
        let late = Window::new(EventTime::from_millis(0), EventTime::from_millis(20));
        assert!(early < late);
    }
}
