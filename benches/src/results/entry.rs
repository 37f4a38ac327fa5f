//! What can be measured: speeds of programs beside each other, single figures, and lines to be drawn.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::Unit;
use crate::child::Usage;
use crate::stats::{Spread, ratio};

/// A part of the benchmark: what `--only` names and under which title entries stand in the report, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Group {
    /// The metering job from NDJSON.
    Metering,
    /// The same with ids that count once.
    Dedupe,
    /// Windows over records made in memory.
    Engine,
    /// Overlapping windows.
    Sliding,
    /// A running count over millions of keys.
    Running,
    /// State larger than its memory budget.
    Memory,
    /// How long an epoch is.
    Epochs,
    /// How many workers.
    Workers,
    /// How many keys.
    Keys,
    /// How unevenly records fall on keys.
    Skew,
    /// Latency at a steady rate.
    Latency,
    /// From a crash to the first new result.
    Recovery,
    /// The Kinesis source.
    Kinesis,
    /// Sinks.
    Sinks,
    /// Micro-benchmarks of parts.
    Parts,
    /// Cost of doing nothing.
    Idle,
    /// Time to begin.
    Start,
}

impl Group {
    /// The title in the report.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Metering => "Metering from NDJSON, ids not deduplicated",
            Self::Dedupe => "Metering with dedupe over 24 hours",
            Self::Engine => "Engine only: tumbling minutes over records made in memory",
            Self::Sliding => "Sliding windows, 60 s every 5 s",
            Self::Running => "Running count, durable every 200 ms",
            Self::Memory => "State beyond its memory budget",
            Self::Epochs => "Length of an epoch",
            Self::Workers => "Workers",
            Self::Keys => "Number of keys",
            Self::Skew => "Skewed keys",
            Self::Latency => "Latency at a steady rate",
            Self::Recovery => "Recovery",
            Self::Kinesis => "Kinesis",
            Self::Sinks => "Sinks",
            Self::Parts => "Parts",
            Self::Idle => "Doing nothing",
            Self::Start => "Start",
        }
    }
}

/// One thing that was measured. Ids are unique among all kinds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Entry {
    Speed(Speed),
    Figure(Figure),
    Series(Series),
}

impl Entry {
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Speed(speed) => &speed.id,
            Self::Figure(figure) => &figure.id,
            Self::Series(series) => &series.id,
        }
    }

    pub(crate) fn group(&self) -> Group {
        match self {
            Self::Speed(speed) => speed.group,
            Self::Figure(figure) => figure.group,
            Self::Series(series) => series.group,
        }
    }
}

/// Ours beside the limits: the same work, runs interleaved, results equal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Speed {
    pub(crate) id: String,
    pub(crate) group: Group,
    pub(crate) title: String,
    /// What was run, in a sentence.
    pub(crate) ran: String,
    /// Records of a run.
    pub(crate) records: u64,
    pub(crate) ours: Measured,
    pub(crate) limits: Vec<Measured>,
}

impl Speed {
    /// Our rate in parts of that of the limit called `name`.
    pub(crate) fn of_limit(&self, name: &str) -> Option<f64> {
        let limit = self.limits.iter().find(|limit| limit.name == name)?;
        Some(ratio(self.ours.rate.median, limit.rate.median))
    }
}

/// One program over several runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) name: String,
    /// Records a second.
    pub(crate) rate: Spread,
    /// Processor seconds for a million records, all threads.
    pub(crate) cpu_per_million: Spread,
    /// Peak of resident memory, in bytes.
    pub(crate) peak: Spread,
}

impl Measured {
    /// Of runs over `records` records each.
    pub(crate) fn of(name: impl Into<String>, runs: &[Usage], records: u64) -> Self {
        let records = records as f64;
        Self {
            name: name.into(),
            rate: Spread::of(runs.iter().map(|run| ratio(records, run.elapsed.as_secs_f64()))),
            cpu_per_million: Spread::of(runs.iter().map(|run| ratio(run.cpu.as_secs_f64(), records / 1e6))),
            peak: Spread::of(runs.iter().map(|run| run.peak as f64)),
        }
    }
}

/// A single figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) id: String,
    pub(crate) group: Group,
    pub(crate) title: String,
    pub(crate) value: Spread,
    pub(crate) unit: Unit,
    /// What else is worth knowing, or nothing.
    pub(crate) notes: String,
}

/// Lines to be drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Series {
    /// Also the name of the plot's file.
    pub(crate) id: String,
    pub(crate) group: Group,
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Axis {
    /// What is on it, with the unit.
    pub(crate) label: String,
    /// Whether equal distances are equal ratios. Values must then be above 0.
    pub(crate) log: bool,
}

/// A named line through points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_program_s_figures_are_rates_not_times() {
        let run =
            |seconds, cpu, peak| Usage { elapsed: Duration::from_secs(seconds), cpu: Duration::from_secs(cpu), peak };
        let measured = Measured::of("x", &[run(8, 4, 70), run(2, 6, 50), run(4, 8, 60)], 2_000_000);
        assert_eq!(measured.rate, Spread { median: 5e5, least: 2.5e5, greatest: 1e6, runs: 3 });
        assert_eq!((measured.cpu_per_million.median, measured.peak.median), (3.0, 60.0));
    }
}
