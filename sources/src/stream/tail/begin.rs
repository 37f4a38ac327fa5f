//! Where to begin to follow a stream. Pure.

use std::str::FromStr;

use jiff::Timestamp;
use shardflow::{Error, Result};

/// Where the shards that are listed at the beginning are read from.
///
/// # Examples
/// ```
/// use shardflow_sources::stream::Begin;
/// assert_eq!("trim-horizon".parse::<Begin>()?, Begin::TrimHorizon);
/// assert_eq!("2026-11-01T00:00:00Z".parse::<Begin>()?, Begin::At("2026-11-01T00:00:00Z".parse().unwrap()));
/// # Ok::<(), shardflow::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Begin {
    /// With the records that arrive from now on.
    #[default]
    Latest,
    /// With the oldest records that are kept.
    TrimHorizon,
    /// With the records that arrived at this time or later. It must have come.
    At(Timestamp),
}

impl FromStr for Begin {
    type Err = Error;

    /// Reads `latest`, `trim-horizon` or a time as of RFC 3339.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "latest" => Ok(Self::Latest),
            "trim-horizon" => Ok(Self::TrimHorizon),
            time => time.parse().map(Self::At).map_err(|error| {
                let neither = "it is neither latest, trim-horizon nor a time";
                Error::config(format!("could not read the beginning \"{text}\": {neither}")).caused_by(error)
            }),
        }
    }
}
