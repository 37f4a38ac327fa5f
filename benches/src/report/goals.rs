//! What the figures are to be, and whether they are.

use super::peers::Peers;
use crate::limits::names::{BARE_COPY, BARE_PUT, BARE_SDK, FILE_WRITER, TIMELY_2};
use crate::results::{Results, Unit};
use crate::stats::ratio;

/// A goal: which figure, and what it is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal {
    /// The work, in words.
    pub(crate) work: &'static str,
    want: Want,
    unit: Unit,
    of: Of,
}

#[derive(Debug, Clone, Copy)]
enum Want {
    AtLeast(f64),
    AtMost(f64),
}

/// Where the figure comes from: ids of entries.
#[derive(Debug, Clone, Copy)]
enum Of {
    Rate(&'static str),
    Cpu(&'static str),
    Peak(&'static str),
    /// Our rate in parts of a limit's.
    Limit(&'static str, &'static str),
    /// Our rate over that of the fastest peer.
    Peer(&'static str),
    /// One row's rate in parts of another's.
    Row(&'static str, &'static str),
    /// What a row's rate lacks to another's, a share of that.
    Lacks(&'static str, &'static str),
    Figure(&'static str),
}

/// How a goal came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    Missed,
    NotMeasured,
}

impl Verdict {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "**MISSED**",
            Self::NotMeasured => "not measured",
        }
    }
}

impl Goal {
    const fn at_least(work: &'static str, want: f64, unit: Unit, of: Of) -> Self {
        Self { work, want: Want::AtLeast(want), unit, of }
    }

    const fn at_most(work: &'static str, want: f64, unit: Unit, of: Of) -> Self {
        Self { work, want: Want::AtMost(want), unit, of }
    }

    /// What the figure is to be.
    pub(crate) fn wanted(&self) -> String {
        match self.want {
            Want::AtLeast(want) => format!("≥ {}", self.unit.write(want)),
            Want::AtMost(want) => format!("≤ {}", self.unit.write(want)),
        }
    }

    /// The figure, where it was measured.
    fn figure(&self, results: &Results, peers: &Peers) -> Option<f64> {
        let rate = |id| Some(results.speed(id)?.ours.rate.median);
        match self.of {
            Of::Rate(id) => rate(id),
            Of::Cpu(id) => Some(results.speed(id)?.ours.cpu_per_million.median),
            // Not the median: memory must be enough each time.
            Of::Peak(id) => Some(results.speed(id)?.ours.peak.greatest),
            Of::Limit(id, limit) => results.speed(id)?.of_limit(limit),
            Of::Peer(id) => Some(ratio(rate(id)?, peers.fastest(id)?.rate)),
            Of::Row(id, base) => Some(ratio(rate(id)?, rate(base)?)),
            Of::Lacks(id, base) => Some(1.0 - ratio(rate(id)?, rate(base)?)),
            Of::Figure(id) => Some(results.figure(id)?.value.median),
        }
    }

    /// Judges: the figure as it is written, and whether it is what it was to be.
    pub(crate) fn judge(&self, results: &Results, peers: &Peers) -> (String, Verdict) {
        let Some(figure) = self.figure(results, peers) else { return (String::new(), Verdict::NotMeasured) };
        let met = match self.want {
            Want::AtLeast(want) => figure >= want,
            Want::AtMost(want) => figure <= want,
        };
        (self.unit.write(figure), if met { Verdict::Met } else { Verdict::Missed })
    }
}

/// The goals, in the order of the report.
pub(crate) const GOALS: &[Goal] = &[
    Goal::at_least("metering from NDJSON, 10 M records", 5e6, Unit::RecordsPerSecond, Of::Rate("metering-10m")),
    Goal::at_least("… in parts of raw timely on 2 workers", 0.85, Unit::Ratio, Of::Limit("metering-10m", TIMELY_2)),
    Goal::at_least("… over Flink", 10.0, Unit::Ratio, Of::Peer("metering-10m")),
    Goal::at_least("metering with dedupe over 10 M ids", 2e6, Unit::RecordsPerSecond, Of::Rate("dedupe-10m")),
    Goal::at_most("CPU time of metering", 0.4, Unit::CpuPerMillion, Of::Cpu("metering-10m")),
    Goal::at_least("engine only, string keys", 9.5e6, Unit::RecordsPerSecond, Of::Rate("engine-strings")),
    Goal::at_least("sliding 60 s / 5 s", 6.6e6, Unit::RecordsPerSecond, Of::Rate("sliding")),
    Goal::at_least("durable running count, 5 M keys", 4.8e6, Unit::RecordsPerSecond, Of::Rate("running-5m")),
    Goal::at_least(
        "state 10× its memory budget, in parts of the rate in memory",
        0.2,
        Unit::Ratio,
        Of::Row("memory-10x", "memory-all"),
    ),
    Goal::at_most(
        "state 10× its memory budget, peak memory: 1.2 × budget + 150 MB",
        crate::suite::ALLOWED_AT_10X,
        Unit::Bytes,
        Of::Peak("memory-10x"),
    ),
    Goal::at_most(
        "exactly once (200 ms) against no epochs, metering",
        0.1,
        Unit::Percent,
        Of::Lacks("epochs-metering-200ms", "epochs-metering-off"),
    ),
    Goal::at_most("running result at 50 k/s, p50", 0.3, Unit::Millis, Of::Figure("latency-running-50k-p50")),
    Goal::at_most("running result at 50 k/s, p99", 2.0, Unit::Millis, Of::Figure("latency-running-50k-p99")),
    Goal::at_most("window row after its end, p50", 1.0, Unit::Millis, Of::Figure("latency-window-50k-p50")),
    Goal::at_most("window row after its end, p99", 10.0, Unit::Millis, Of::Figure("latency-window-50k-p99")),
    Goal::at_most("visible exactly once, p99", 300.0, Unit::Millis, Of::Figure("latency-visible-50k-p99")),
    Goal::at_most("SIGKILL to the first new result, 1 GB of state", 1.0, Unit::Seconds, Of::Figure("recovery-1gb")),
    Goal::at_most("peak memory of metering, 10 M records", 150e6, Unit::Bytes, Of::Peak("metering-10m")),
    Goal::at_least("Kinesis source in parts of a bare SDK loop", 0.9, Unit::Ratio, Of::Limit("kinesis", BARE_SDK)),
    Goal::at_least(
        "Kinesis producer in parts of a bare PutRecords loop",
        0.9,
        Unit::Ratio,
        Of::Limit("producer", BARE_PUT),
    ),
    Goal::at_least("… packing records of 200 bytes", 5.0, Unit::Ratio, Of::Limit("producer-packing", BARE_PUT)),
    Goal::at_least(
        "objects on a disk, NDJSON, in parts of the encoder",
        0.8,
        Unit::Ratio,
        Of::Limit("store-ndjson", FILE_WRITER),
    ),
    Goal::at_least("… Parquet", 0.8, Unit::Ratio, Of::Limit("store-parquet", FILE_WRITER)),
    Goal::at_least("PostgreSQL in parts of a bare COPY", 0.8, Unit::Ratio, Of::Limit("postgres", BARE_COPY)),
    // The row that the processor bounds: decoding. Records made in memory cost less than handing them over, and there raw
    // timely is slower on two workers than on one as well.
    Goal::at_least("two workers over one, metering", 1.7, Unit::Ratio, Of::Row("metering-10m", "metering-10m-1")),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn judge(work: &str) -> (String, Verdict) {
        let goal = GOALS.iter().find(|goal| goal.work == work).unwrap();
        goal.judge(&fixture::results(), &fixture::peers())
    }

    #[test]
    fn figures_are_taken_from_rows_limits_peers_and_other_rows() {
        assert_eq!(judge("metering from NDJSON, 10 M records"), ("5.40 M/s".to_owned(), Verdict::Met));
        assert_eq!(judge("… in parts of raw timely on 2 workers"), ("0.72×".to_owned(), Verdict::Missed));
        assert_eq!(judge("… over Flink"), ("10.8×".to_owned(), Verdict::Met));
        assert_eq!(judge("CPU time of metering"), ("0.35 CPU-s/M".to_owned(), Verdict::Met));
        let lacks = judge("exactly once (200 ms) against no epochs, metering");
        assert_eq!(lacks, ("20.0 %".to_owned(), Verdict::Missed));
        assert_eq!(judge("running result at 50 k/s, p50"), ("0.28 ms".to_owned(), Verdict::Met));
        assert_eq!(judge("sliding 60 s / 5 s"), (String::new(), Verdict::NotMeasured));
    }

    #[test]
    fn memory_must_be_enough_each_time() {
        assert_eq!(judge("peak memory of metering, 10 M records"), ("208 MB".to_owned(), Verdict::Missed));
    }

    #[test]
    fn what_is_wanted_is_written_as_its_figure_is() {
        let wanted: Vec<String> = GOALS.iter().map(Goal::wanted).collect();
        assert_eq!((wanted[0].as_str(), wanted[1].as_str()), ("≥ 5.00 M/s", "≥ 0.85×"));
        assert!(wanted.contains(&"≤ 10.0 %".to_owned()) && wanted.contains(&"≤ 231 MB".to_owned()), "{wanted:?}");
    }
}
