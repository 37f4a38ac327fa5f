//! When a spool file is full by event time: a window is over. Pure.

use std::time::Duration;

use shardflow::{Error, EventTime, Result};

/// How files are divided by event time, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    millis: u64,
    lateness: Duration,
}

impl Span {
    /// # Errors
    /// A window that is none.
    pub(super) fn new(span: Duration, lateness: Duration) -> Result<Self> {
        let millis = u64::try_from(span.as_millis()).ok().filter(|millis| *millis > 0);
        let millis = millis.ok_or_else(|| Error::config("roll_window must be at least 1 ms"))?;
        Ok(Self { millis, lateness })
    }

    /// Where the window of `at` begins.
    pub(super) fn start(self, at: EventTime) -> EventTime {
        EventTime::from_millis((at.as_millis() / self.millis).saturating_mul(self.millis))
    }
}

/// What a spool file holds, by event time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Windows {
    span: Span,
    /// The greatest event time that was seen, in earlier files too.
    newest: EventTime,
    /// When the first of the file's windows ends; none while it has no records.
    end: Option<EventTime>,
}

impl Windows {
    pub(super) fn new(span: Span) -> Self {
        Self { span, newest: EventTime::MIN, end: None }
    }

    /// A record of this event time goes into the file.
    pub(super) fn saw(&mut self, at: EventTime) {
        let end = self.span.start(at).plus(Duration::from_millis(self.span.millis));
        self.newest = self.newest.max(at);
        self.end = Some(self.end.map_or(end, |known| known.min(end)));
    }

    /// Whether one of the file's windows is over.
    pub(super) fn is_over(&self) -> bool {
        self.end.is_some_and(|end| self.newest >= end.plus(self.span.lateness))
    }

    /// The file has ended.
    pub(super) fn next_file(&mut self) {
        self.end = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(lateness: u64) -> Windows {
        Windows::new(Span::new(Duration::from_millis(100), Duration::from_millis(lateness)).unwrap())
    }

    fn saw(windows: &mut Windows, millis: u64) -> bool {
        windows.saw(EventTime::from_millis(millis));
        windows.is_over()
    }

    #[test]
    fn a_file_is_full_once_a_record_is_as_late_as_the_end_of_its_first_window_and_the_lateness() {
        let mut ten_late = windows(10);
        assert!(!saw(&mut ten_late, 350) && !saw(&mut ten_late, 399) && !saw(&mut ten_late, 409));
        assert!(saw(&mut ten_late, 410));
        ten_late.next_file();
        assert!(!ten_late.is_over());
        // A record that is too late ends its file with the next epoch.
        assert!(saw(&mut ten_late, 250));
    }

    #[test]
    fn an_older_window_counts_and_the_end_of_time_is_no_overflow() {
        let mut windows = windows(0);
        assert!(!saw(&mut windows, 150));
        assert!(saw(&mut windows, 50));
        windows.next_file();
        windows.saw(EventTime::from_millis(u64::MAX));
    }

    #[test]
    fn a_window_without_a_millisecond_is_refused() {
        let error = Span::new(Duration::from_micros(10), Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("roll_window"), "{error}");
    }
}
