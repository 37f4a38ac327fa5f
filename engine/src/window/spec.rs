//! How windows are described: shape first, then grace, and only then a [`WindowSpec`].

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::vocabulary::EventTime;

/// A finished description of windows: something with a shape and a grace.
#[diagnostic::on_unimplemented(
    message = "a window needs its grace: call `.grace(duration)`",
    label = "these windows do not say how long they wait for late records",
    note = "`tumbling(minutes(1)).grace(hours(1))` keeps each window open for an hour after its end; `.grace(seconds(0))` closes it at once"
)]
pub trait Windowing {
    /// The checked description.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config): see [`WindowSpec::validate`].
    fn spec(&self) -> Result<WindowSpec>;
}

impl Windowing for WindowSpec {
    fn spec(&self) -> Result<WindowSpec> {
        self.validate()?;
        Ok(*self)
    }
}

/// Windows of one size that neither overlap nor leave gaps, aligned to 1970-01-01T00:00:00Z. Lacks its grace.
#[must_use = "a window needs its grace: call `.grace(duration)`"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tumbling {
    size: Duration,
}

/// Windows of one size, each beginning a slide after the one before, aligned to 1970-01-01T00:00:00Z. Lacks its grace.
#[must_use = "a window needs its grace: call `.grace(duration)`"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sliding {
    size: Duration,
    slide: Duration,
}

/// Windows `[0, size)`, `[size, 2 × size)`, … of event time. `size` is at least 1 ms, in whole milliseconds.
pub fn tumbling(size: Duration) -> Tumbling {
    Tumbling { size }
}

/// Windows of length `size` that begin at 0, `slide`, 2 × `slide`, … of event time. Both are at least 1 ms, in whole
/// milliseconds, and `slide` is at most `size`. A record is counted in up to `size` / `slide` (rounded up) windows; the
/// aggregates of a stream add it only once, to what these windows share ([`Pane`](super::Pane)).
pub fn sliding(size: Duration, slide: Duration) -> Sliding {
    Sliding { size, slide }
}

impl Tumbling {
    /// Keeps each window open until the watermark has passed its end by `grace`. Records later than that are late.
    pub fn grace(self, grace: Duration) -> WindowSpec {
        WindowSpec::new(self.size, self.size, grace)
    }
}

impl Sliding {
    /// Keeps each window open until the watermark has passed its end by `grace`. Records later than that are late.
    pub fn grace(self, grace: Duration) -> WindowSpec {
        WindowSpec::new(self.size, self.slide, grace)
    }
}

/// The windows of a step: size, slide and grace.
#[must_use = "windows do nothing until they are given to a stream"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSpec {
    size: Duration,
    slide: Duration,
    grace: Duration,
    // The same in milliseconds, each at most EventTime::MAX: read for every record. Never 0 for size and slide, so that
    // a description that nobody validated cannot divide by it.
    pub(super) size_ms: u64,
    pub(super) slide_ms: u64,
    pub(super) grace_ms: u64,
}

impl fmt::Display for WindowSpec {
    /// Size and slide, in milliseconds: what the step's state depends on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "windows of {} ms", self.size.as_millis())?;
        if self.slide == self.size { Ok(()) } else { write!(f, " every {} ms", self.slide.as_millis()) }
    }
}

impl WindowSpec {
    fn new(size: Duration, slide: Duration, grace: Duration) -> Self {
        let millis = |duration: Duration| EventTime::MIN.plus(duration).as_millis();
        let (size_ms, slide_ms) = (millis(size).max(1), millis(slide).max(1));
        Self { size, slide, grace, size_ms, slide_ms: slide_ms.min(size_ms), grace_ms: millis(grace) }
    }

    /// How long each window is.
    #[must_use]
    pub fn size(&self) -> Duration {
        self.size
    }

    /// How far apart two windows begin; the size for tumbling windows.
    #[must_use]
    pub fn slide(&self) -> Duration {
        self.slide
    }

    /// How long after its end a window waits for late records.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// Checks the lengths. Called when the job starts, so that a wrong length is an error there and never a panic.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where a length is not in whole milliseconds or over 2^62 of
    /// them, where size or slide is zero, and where the slide is greater than the size, because the records between two
    /// windows would be counted nowhere.
    pub fn validate(&self) -> Result<()> {
        for (name, length, least) in [("size", self.size, 1), ("slide", self.slide, 1), ("grace", self.grace, 0)] {
            let millis = length.as_millis();
            if !length.subsec_nanos().is_multiple_of(1_000_000) {
                return Err(Error::config(format!("window {name} \"{length:?}\" is not in whole milliseconds")));
            }
            if millis < least {
                return Err(Error::config(format!("window {name} \"{length:?}\" is too short: at least 1ms")));
            }
            if millis > u128::from(EventTime::MAX.as_millis()) {
                return Err(Error::config(format!("window {name} \"{length:?}\" is too long: at most 2^62 ms")));
            }
        }
        if self.slide > self.size {
            return Err(Error::config(format!(
                "window slide \"{:?}\" is greater than the size \"{:?}\": records between two windows would be lost",
                self.slide, self.size
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::{millis, minutes, seconds};

    fn refusal(spec: WindowSpec) -> String {
        let error = spec.spec().unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn whole_milliseconds_are_accepted() {
        assert!(tumbling(millis(1)).grace(seconds(0)).spec().is_ok());
        assert!(sliding(minutes(1), minutes(1)).grace(seconds(5)).spec().is_ok());
    }

    #[test]
    fn lengths_that_cannot_work_are_refused_with_their_name_and_value() {
        assert!(refusal(tumbling(Duration::ZERO).grace(seconds(0))).contains("size \"0ns\" is too short"));
        assert!(refusal(sliding(seconds(1), Duration::ZERO).grace(seconds(0))).contains("slide \"0ns\" is too short"));
        assert!(refusal(tumbling(Duration::from_micros(1500)).grace(seconds(0))).contains("not in whole milliseconds"));
        assert!(refusal(tumbling(seconds(1)).grace(Duration::from_nanos(1))).contains("grace \"1ns\" is not in whole"));
        assert!(refusal(tumbling(Duration::MAX).grace(seconds(0))).contains("not in whole"));
        assert!(refusal(tumbling(seconds(u64::MAX)).grace(seconds(0))).contains("too long"));
        assert!(refusal(sliding(seconds(1), seconds(2)).grace(seconds(0))).contains("slide \"2s\" is greater than"));
    }

    #[test]
    fn a_description_that_nobody_checked_cannot_panic() {
        let spec = sliding(Duration::ZERO, Duration::MAX).grace(Duration::MAX);
        assert_eq!(spec.assign(EventTime::MAX).count(), 1);
    }
}
