//! Where tests kill a process: at named points, and for which of the times that it comes there.
//!
//! Helpers that hold that a process has died of SIGKILL take a [`Kill`], and nothing but [`killed_at`] makes one. So every point
//! that stands behind a `killed_at(…)` is one at which a process really dies, or its test fails; a test of the architecture
//! collects them and compares them with the points that the code names.

use std::fmt::{self, Display, Formatter};

/// A named point, and the times for which a process dies there, one start after the other.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct KilledAt {
    point: &'static str,
    times: &'static [u64],
}

/// A process dies at the `point` when it comes there for the n-th time, for each n of `times`. The point is given as a literal:
/// that is what the test of the architecture finds.
pub const fn killed_at(point: &'static str, times: &'static [u64]) -> KilledAt {
    KilledAt { point, times }
}

impl KilledAt {
    pub fn point(self) -> &'static str {
        self.point
    }

    /// One for each of the times.
    pub fn each(self) -> impl Iterator<Item = Kill> + Clone {
        self.times.iter().map(move |time| Kill { point: self.point, time: *time })
    }
}

/// One for each of the times of each of the points.
pub fn kills(points: &[KilledAt]) -> impl Iterator<Item = Kill> + Clone {
    points.iter().flat_map(|point| point.each())
}

/// One process's death. Shown as the variable `FAILPOINTS` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Kill {
    point: &'static str,
    time: u64,
}

impl Kill {
    pub fn point(self) -> &'static str {
        self.point
    }

    pub fn time(self) -> u64 {
        self.time
    }
}

impl Display for Kill {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}=kill({})", self.point, self.time)
    }
}
