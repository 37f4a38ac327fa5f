//! Where a job's first start begins to read, made concrete so that it can be stored. Pure.

use std::str::FromStr;

use jiff::Timestamp;
use shardflow::{Error, Result};

use super::position::ShardPosition;

/// Where the first start of a job begins to read. Later starts go on where the last commit stands, whatever this says;
/// and a shard that appears later is always read from its beginning, since a reshard must not lose records.
///
/// # Examples
/// ```
/// use shardflow_sources::Start;
///
/// let start: Start = "2026-11-01T00:00:00Z".parse().unwrap();
/// assert_eq!(start, Start::At("2026-11-01T00:00:00Z".parse().unwrap()));
/// assert_eq!("latest".parse::<Start>().unwrap(), Start::Latest);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// At the oldest records that the stream still keeps.
    #[default]
    TrimHorizon,
    /// At records that arrive after the start. It becomes the time of the start before anything is read, and that time is
    /// stored with the first commit: from then on a crash loses nothing that came since, even if no record was read. A
    /// crash before the first commit (an epoch after the first listing, that is a fraction of a second) makes the next
    /// start a first one, with a "now" of its own.
    Latest,
    /// At the first records that arrived at or after this time.
    At(Timestamp),
}

impl Start {
    /// The position that shards of the first listing get.
    ///
    /// # Errors
    /// A time after `now`: Kinesis refuses to wait for the future.
    pub(super) fn concrete(self, now: Timestamp) -> Result<ShardPosition> {
        let at = match self {
            Self::TrimHorizon => return Ok(ShardPosition::TrimHorizon),
            Self::Latest => now,
            Self::At(time) if time > now => {
                return Err(Error::config(format!(
                    "could not start at {time}: that time has not come yet (it is {now})"
                )));
            }
            Self::At(time) => time,
        };
        // Before 1970 there are no records: the same as the beginning.
        Ok(ShardPosition::Time(u64::try_from(at.as_millisecond()).unwrap_or(0)))
    }
}

impl FromStr for Start {
    type Err = Error;

    /// Reads `trim-horizon`, `latest` or a time as of RFC 3339.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "trim-horizon" => Ok(Self::TrimHorizon),
            "latest" => Ok(Self::Latest),
            time => time.parse().map(Self::At).map_err(|error| {
                Error::config(format!(
                    "could not read the start \"{text}\": it is neither trim-horizon, latest nor a time"
                ))
                .caused_by(error)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-01T12:00:00.250Z";

    fn concrete(start: &str) -> Result<String> {
        Ok(start.parse::<Start>()?.concrete(NOW.parse().unwrap())?.to_string())
    }

    #[test]
    fn every_start_becomes_a_position_that_can_be_stored() {
        assert_eq!(concrete("trim-horizon").unwrap(), "trim-horizon");
        assert_eq!(concrete("latest").unwrap(), "at:1793534400250");
        assert_eq!(concrete("2026-11-01T12:00:00Z").unwrap(), "at:1793534400000");
        assert_eq!(concrete("1950-01-01T00:00:00Z").unwrap(), "at:0");
    }

    #[test]
    fn a_start_in_the_future_or_one_that_is_none_is_a_bad_setting() {
        for bad in ["2026-11-01T12:00:01Z", "tomorrow", "", "LATEST"] {
            assert_eq!(concrete(bad).unwrap_err().kind(), shardflow::ErrorKind::Config, "{bad}");
        }
    }
}
