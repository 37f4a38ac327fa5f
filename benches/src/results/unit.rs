//! How figures are written.

use serde::{Deserialize, Serialize};

/// What a figure is in, and so how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// Records a second, written in millions.
    RecordsPerSecond,
    /// Processor seconds for a million records.
    CpuPerMillion,
    /// Bytes, written in millions.
    Bytes,
    /// Nanoseconds.
    Nanos,
    /// Milliseconds.
    Millis,
    /// Seconds.
    Seconds,
    /// A share, 0 to 1, written in hundredths.
    Percent,
    /// A share of one core, 0 to 1, written in hundredths.
    Core,
    /// So many times.
    Ratio,
}

impl Unit {
    /// The figure with its unit.
    pub(crate) fn write(self, figure: f64) -> String {
        let name = match self {
            Self::RecordsPerSecond => " M/s",
            Self::CpuPerMillion => " CPU-s/M",
            Self::Bytes => " MB",
            Self::Nanos => " ns",
            Self::Millis => " ms",
            Self::Seconds => " s",
            Self::Percent => " %",
            Self::Core => " % of a core",
            Self::Ratio => "×",
        };
        format!("{}{name}", self.number(figure))
    }

    /// The figure without its unit.
    pub(crate) fn number(self, figure: f64) -> String {
        match self {
            Self::RecordsPerSecond => short(figure / 1e6),
            Self::Bytes => format!("{:.0}", figure / 1e6),
            Self::Percent => format!("{:.1}", figure * 100.0),
            Self::Core => format!("{:.2}", figure * 100.0),
            Self::CpuPerMillion | Self::Nanos | Self::Millis | Self::Seconds | Self::Ratio => short(figure),
        }
    }
}

/// Three digits that count, without an exponent.
pub(crate) fn short(figure: f64) -> String {
    let magnitude = figure.abs();
    let digits = if magnitude >= 100.0 {
        0
    } else if magnitude >= 10.0 {
        1
    } else {
        2
    };
    format!("{figure:.digits$}")
}

/// A number of records, in millions where there are so many.
pub(crate) fn counted(records: u64) -> String {
    let millions = records as f64 / 1e6;
    if millions >= 1.0 {
        let digits = usize::from(millions.fract() != 0.0);
        return format!("{millions:.digits$} M records");
    }
    format!("{records} records")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_written_as_they_are_read() {
        assert_eq!(Unit::RecordsPerSecond.write(5_432_100.0), "5.43 M/s");
        assert_eq!(Unit::Bytes.write(149.6e6), "150 MB");
        assert_eq!(Unit::Millis.write(231.4), "231 ms");
        assert_eq!(Unit::Millis.write(0.281), "0.28 ms");
        assert_eq!(Unit::Core.write(0.0042), "0.42 % of a core");
        assert_eq!(Unit::Percent.write(0.0512), "5.1 %");
        assert_eq!(Unit::Ratio.write(10.66), "10.7×");
    }

    #[test]
    fn records_are_counted_in_millions_where_there_are_so_many() {
        assert_eq!([50_000_000, 2_500_000, 99_999].map(counted), ["50 M records", "2.5 M records", "99999 records"]);
    }
}
