//! When a file is full. Pure: whoever asks knows the time.
//!
//! A file ends after the record that makes it large enough, or with the epoch in which it gets too old or its window is over.
//! Without any setting it ends with its epoch, so that what an epoch wrote is visible when the epoch is committed.

use std::time::{Duration, Instant};

use shardflow::{Error, EventTime, Result, Window};

/// When files end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rolling {
    bytes: u64,
    records: u64,
    age: Option<Duration>,
    window: Option<Duration>,
    lateness: Duration,
}

impl Default for Rolling {
    fn default() -> Self {
        Self { bytes: 128 << 20, records: u64::MAX, age: None, window: None, lateness: Duration::ZERO }
    }
}

/// What is known of a file that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filling {
    /// Its bytes so far, as far as they are known: those that are still inside an encoder count as it estimates them.
    pub bytes: u64,
    /// Its records so far.
    pub records: u64,
    /// When its first record came.
    pub since: Instant,
    /// Its window, where files have one: see [`Rolling::window_of`].
    pub window: Option<Window>,
}

/// Why a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// It has enough bytes.
    Bytes,
    /// It has enough records.
    Records,
    /// It is old enough.
    Age,
    /// Its window is over.
    Window,
    /// Every file ends with its epoch.
    Epoch,
}

impl Rolling {
    /// Ends a file once it has this many bytes. At least 1; default 128 MiB.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// Ends a file once it has this many records. At least 1; default: any number.
    #[must_use]
    pub fn records(mut self, records: u64) -> Self {
        self.records = records;
        self
    }

    /// Ends a file with the first epoch that closes this long after the file's first record came. Zero: with every epoch.
    /// Default: with every epoch, or with its window where there is one.
    #[must_use]
    pub fn after(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }

    /// Gives each span of event time files of its own: a record of another window goes to another file. A file ends with the
    /// first epoch that closes when a record as late as the window's end, plus `lateness`, has been seen. A record that comes
    /// even later begins another file of its window. At least 1 ms, in whole milliseconds.
    #[must_use]
    pub fn window(mut self, span: Duration, lateness: Duration) -> Self {
        self.window = Some(span);
        self.lateness = lateness;
        self
    }

    /// # Errors
    /// A file that would be full without a record, or a window that is none.
    pub fn check(&self) -> Result<()> {
        let refuse = |what: &str| Err(Error::config(format!("could not roll files: {what}")));
        if self.bytes == 0 || self.records == 0 {
            return refuse("a file has at least 1 byte and 1 record");
        }
        if self.window.is_some_and(|window| window.as_millis() == 0 || u64::try_from(window.as_millis()).is_err()) {
            return refuse("a window has at least 1 ms");
        }
        Ok(())
    }

    /// The window whose file a record with this event time goes to; `None`: files have no windows.
    #[must_use]
    pub fn window_of(&self, at: EventTime) -> Option<Window> {
        let span = self.window?;
        let millis = u64::try_from(span.as_millis()).ok().filter(|millis| *millis > 0)?;
        let start = EventTime::from_millis((at.as_millis() / millis).saturating_mul(millis));
        Some(Window::new(start, start.plus(span)))
    }

    /// Whether files need the event times of their records.
    #[must_use]
    pub fn has_windows(&self) -> bool {
        self.window.is_some()
    }

    /// After a record was written: whether, and why, the file is full.
    #[must_use]
    pub fn after_record(&self, file: &Filling) -> Option<Full> {
        if file.bytes >= self.bytes {
            Some(Full::Bytes)
        } else if file.records >= self.records {
            Some(Full::Records)
        } else {
            None
        }
    }

    /// When an epoch closes: whether, and why, the file ends with it. `newest` is the greatest event time that was seen.
    #[must_use]
    pub fn at_epoch(&self, file: &Filling, now: Instant, newest: EventTime) -> Option<Full> {
        if let Some(full) = self.after_record(file) {
            return Some(full);
        }
        match self.age {
            Some(Duration::ZERO) => return Some(Full::Epoch),
            None if self.window.is_none() => return Some(Full::Epoch),
            Some(age) if now.saturating_duration_since(file.since) >= age => return Some(Full::Age),
            _ => {}
        }
        let is_over = |window: Window| newest >= window.end().plus(self.lateness);
        file.window.is_some_and(is_over).then_some(Full::Window)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shardflow::{minutes, seconds};

    use super::*;

    fn filling(since: Instant) -> Filling {
        Filling { bytes: 1, records: 1, since, window: None }
    }

    fn at(millis: u64) -> EventTime {
        EventTime::from_millis(millis)
    }

    #[test]
    fn without_settings_every_epoch_ends_its_files() {
        let now = Instant::now();
        assert_eq!(Rolling::default().at_epoch(&filling(now), now, at(0)), Some(Full::Epoch));
        assert_eq!(Rolling::default().after(Duration::ZERO).at_epoch(&filling(now), now, at(0)), Some(Full::Epoch));
        assert_eq!(Rolling::default().after_record(&filling(now)), None);
    }

    #[test]
    fn a_file_is_as_old_as_its_first_record() {
        let (begun, rolling) = (Instant::now(), Rolling::default().after(seconds(10)));
        let ends = |millis| rolling.at_epoch(&filling(begun), begun + Duration::from_millis(millis), at(0));
        assert_eq!((ends(9_999), ends(10_000)), (None, Some(Full::Age)));
        // A clock that goes back makes nothing old.
        assert_eq!(rolling.at_epoch(&filling(begun + seconds(60)), begun, at(0)), None);
    }

    #[test]
    fn bytes_and_records_end_a_file_at_once() {
        let rolling = Rolling::default().bytes(100).records(5).after(minutes(1));
        let file = |bytes, records| Filling { bytes, records, ..filling(Instant::now()) };
        assert_eq!(rolling.after_record(&file(99, 4)), None);
        assert_eq!(rolling.after_record(&file(100, 4)), Some(Full::Bytes));
        assert_eq!(rolling.after_record(&file(99, 5)), Some(Full::Records));
        assert_eq!(rolling.at_epoch(&file(99, 5), Instant::now(), at(0)), Some(Full::Records));
    }

    #[test]
    fn a_window_ends_its_file_when_a_later_record_was_seen() {
        let (now, rolling) = (Instant::now(), Rolling::default().window(minutes(1), seconds(5)));
        let file = Filling { window: rolling.window_of(at(61_000)), ..filling(now) };
        assert_eq!(file.window, Some(Window::new(at(60_000), at(120_000))));
        let ends = |newest| rolling.at_epoch(&file, now + minutes(600), at(newest));
        assert_eq!((ends(124_999), ends(125_000)), (None, Some(Full::Window)));
        assert_eq!(rolling.after(minutes(10)).at_epoch(&file, now + minutes(10), at(0)), Some(Full::Age));
    }

    #[test]
    fn settings_that_cannot_be_are_refused() {
        let refused = [
            Rolling::default().bytes(0),
            Rolling::default().records(0),
            Rolling::default().window(Duration::from_micros(999), Duration::ZERO),
            Rolling::default().window(Duration::MAX, Duration::ZERO),
        ];
        for rolling in refused {
            assert!(rolling.check().is_err(), "{rolling:?}");
            let _ = rolling.window_of(EventTime::MAX);
        }
        Rolling::default().window(minutes(1), Duration::MAX).check().unwrap();
    }

    proptest! {
        #[test]
        fn every_record_is_in_its_window_and_windows_do_not_overlap(one: u64, two: u64, span in 1u64..100_000_000) {
            let rolling = Rolling::default().window(Duration::from_millis(span), Duration::ZERO);
            let (one, two) = (at(one % (1 << 61)), at(two % (1 << 61)));
            let windows = [one, two].map(|at| rolling.window_of(at).unwrap());
            prop_assert!(windows[0].contains(one) && windows[1].contains(two));
            prop_assert_eq!(windows[0] == windows[1], windows[0].contains(two));
        }
    }
}
