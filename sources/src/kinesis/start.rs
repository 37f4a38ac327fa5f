//! Where a job's first start begins to read, made concrete so that it can be stored. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use shardflow::{Error, Result};

use super::intake::kept_since;
use super::lineage::Shard;
use super::position::{Sequence, ShardPosition};

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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
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
    /// After a record of each shard that is named: what another program has read before.
    Shards(ShardStarts),
}

/// Where each shard begins, as another program left it.
///
/// The lineage of the shards completes what is not named. A descendant of a named shard begins at its own beginning: its
/// records came after. An ancestor of a named shard counts as read: the other program has gone on to its children. A
/// shard that is neither begins where [`ShardStarts::others`] says, by default at the oldest record that is kept.
///
/// # Examples
/// ```
/// use shardflow_sources::{Kinesis, ShardStarts, Start};
///
/// let starts = ShardStarts::new().after("shardId-000000000000", "4957").unwrap().ended("shardId-000000000001");
/// assert_eq!("after:shardId-000000000000=4957,shardId-000000000001=ended".parse::<Start>().unwrap(), Start::Shards(starts));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShardStarts {
    shards: BTreeMap<String, Begin>,
    others: Others,
}

/// Where a shard begins that has no record of its own to begin after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Others {
    /// At the oldest record that is kept.
    #[default]
    TrimHorizon,
    /// At records that arrive after the start.
    Latest,
    /// At the first records that arrived at or after this time.
    At(Timestamp),
}

/// Where one shard begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Begin {
    /// There.
    At(ShardPosition),
    /// It was read to its end.
    Ended,
}

impl ShardStarts {
    /// No shard yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `shard` begins after the record of this sequence number, or after a record in an aggregate: `4957…:3`, where 3 is its
    /// sub-sequence number.
    ///
    /// # Errors
    /// What is no sequence number: it is decimal digits.
    pub fn after(mut self, shard: impl Into<String>, sequence: &str) -> Result<Self> {
        let after = Sequence::parse(sequence).ok_or_else(|| {
            Error::config(format!("could not read the sequence number \"{sequence}\": it is not a decimal number"))
        })?;
        self.shards.insert(shard.into(), Begin::At(ShardPosition::After(after)));
        Ok(self)
    }

    /// `shard` begins at the oldest record that it keeps.
    #[must_use]
    pub fn trim_horizon(mut self, shard: impl Into<String>) -> Self {
        self.shards.insert(shard.into(), Begin::At(ShardPosition::TrimHorizon));
        self
    }

    /// `shard` was read to its end.
    #[must_use]
    pub fn ended(mut self, shard: impl Into<String>) -> Self {
        self.shards.insert(shard.into(), Begin::Ended);
        self
    }

    /// Where a shard begins that neither is named nor descends from one that is, nor is an ancestor of one.
    #[must_use]
    pub fn others(mut self, others: Others) -> Self {
        self.others = others;
        self
    }

    fn parse(text: &str) -> Result<Self> {
        let mut starts = Self::new();
        for part in text.split(',') {
            starts = match part.split_once('=') {
                Some((shard, "trim-horizon")) if !shard.is_empty() => starts.trim_horizon(shard),
                Some((shard, "ended")) if !shard.is_empty() => starts.ended(shard),
                Some((shard, sequence)) if !shard.is_empty() => starts.after(shard, sequence)?,
                _ => {
                    return Err(Error::config(format!(
                        "could not read \"{part}\": it is not SHARD=SEQUENCE, SHARD=trim-horizon or SHARD=ended"
                    )));
                }
            };
        }
        Ok(starts)
    }
}

/// A start with its times made concrete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FirstStart {
    /// Where the shards begin that are named.
    pub(crate) shards: BTreeMap<String, Begin>,
    /// Where those begin that are not, and that have nothing to do with those that are.
    pub(crate) others: ShardPosition,
}

impl Start {
    /// What shards of the first listing get, of a stream that keeps its records for `retention`.
    ///
    /// # Errors
    /// A time after `now`: Kinesis refuses to wait for the future.
    pub(crate) fn concrete(&self, now: Timestamp, retention: Duration) -> Result<FirstStart> {
        let (shards, others) = match self {
            Self::TrimHorizon => (BTreeMap::new(), Others::TrimHorizon),
            Self::Latest => (BTreeMap::new(), Others::Latest),
            Self::At(time) => (BTreeMap::new(), Others::At(*time)),
            Self::Shards(starts) => (starts.shards.clone(), starts.others),
        };
        let at = match others {
            Others::TrimHorizon => return Ok(FirstStart { shards, others: ShardPosition::TrimHorizon }),
            Others::Latest => now,
            Others::At(time) if time > now => {
                return Err(Error::config(format!(
                    "could not start at {time}: that time has not come yet (it is {now})"
                )));
            }
            Others::At(time) => time,
        };
        // Before 1970 there are no records.
        let millis = |time: Timestamp| u64::try_from(time.as_millisecond()).unwrap_or(0);
        // What is older than all that is kept is the beginning; a later start must not take it for records that expired.
        let is_kept = millis(at) >= kept_since(millis(now), retention);
        let others = if is_kept { ShardPosition::Time(millis(at)) } else { ShardPosition::TrimHorizon };
        Ok(FirstStart { shards, others })
    }
}

impl FirstStart {
    /// That of a start that is not the first: all that it has not met holds what is new.
    pub(crate) fn later() -> Self {
        Self { shards: BTreeMap::new(), others: ShardPosition::TrimHorizon }
    }

    /// Where each shard of the first listing begins.
    pub(crate) fn of(&self, listed: &[Shard]) -> BTreeMap<String, Begin> {
        let after = self.reach(listed, |shard, other| other.parents.contains(&shard.id));
        let before = self.reach(listed, |shard, other| shard.parents.contains(&other.id));
        let begin = |shard: &Shard| match self.shards.get(&shard.id) {
            Some(named) => named.clone(),
            // Of a shard that is both, nobody can tell; to read it again is better than to miss it.
            None if after.contains(&shard.id) => Begin::At(ShardPosition::TrimHorizon),
            None if before.contains(&shard.id) => Begin::Ended,
            None => Begin::At(self.others.clone()),
        };
        listed.iter().map(|shard| (shard.id.clone(), begin(shard))).collect()
    }

    /// Named shards that are not listed any more and were not read to their end: what they still had has expired.
    pub(crate) fn expired(&self, listed: &[Shard]) -> Vec<&str> {
        let is_listed = |id: &str| listed.iter().any(|shard| shard.id == id);
        let expired = self.shards.iter().filter(|(id, begin)| **begin != Begin::Ended && !is_listed(id));
        expired.map(|(id, _)| id.as_str()).collect()
    }

    /// The shards that are reached from the named ones, where `leads(from, to)` tells a step. Parents that are not listed
    /// any more lead on to their children all the same.
    fn reach(&self, listed: &[Shard], leads: impl Fn(&Shard, &Shard) -> bool) -> BTreeSet<String> {
        let unlisted = |id: &String| Shard { id: id.clone(), parents: Vec::new(), hash_range: None };
        let mut from: Vec<Shard> = self.shards.keys().map(unlisted).collect();
        for shard in listed.iter().filter(|shard| self.shards.contains_key(&shard.id)) {
            from.push(shard.clone());
        }
        let mut reached = BTreeSet::new();
        while let Some(shard) = from.pop() {
            for other in listed.iter().filter(|other| leads(&shard, other)) {
                if reached.insert(other.id.clone()) {
                    from.push(other.clone());
                }
            }
        }
        reached
    }
}

impl FromStr for Start {
    type Err = Error;

    /// Reads `trim-horizon`, `latest`, a time as of RFC 3339, or `after:` and what each shard begins after:
    /// `after:shardId-000000000000=4957…:3,shardId-000000000001=trim-horizon,shardId-000000000002=ended`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "trim-horizon" => Ok(Self::TrimHorizon),
            "latest" => Ok(Self::Latest),
            text => match text.strip_prefix("after:") {
                Some(shards) => ShardStarts::parse(shards).map(Self::Shards),
                None => text.parse().map(Self::At).map_err(|error| {
                    Error::config(format!(
                        "could not read the start \"{text}\": it is neither trim-horizon, latest, a time nor after:SHARD=SEQUENCE"
                    ))
                    .caused_by(error)
                }),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-01T12:00:00.250Z";

    fn first(start: &str) -> Result<FirstStart> {
        start.parse::<Start>()?.concrete(NOW.parse().unwrap(), Duration::from_secs(24 * 3_600))
    }

    fn shard(id: &str, parents: &[&str]) -> Shard {
        let parents = parents.iter().map(ToString::to_string).collect();
        Shard { id: id.to_owned(), parents, hash_range: None }
    }

    fn begins(start: &str, listed: &[Shard]) -> Vec<String> {
        let begins = first(start).unwrap().of(listed).into_iter();
        let text = |begin| match begin {
            Begin::At(position) => position.to_string(),
            Begin::Ended => "ended".to_owned(),
        };
        begins.map(|(id, begin)| format!("{id} {}", text(begin))).collect()
    }

    #[test]
    fn every_start_becomes_a_position_that_can_be_stored() {
        let begin = |start| begins(start, &[shard("a", &[])]);
        assert_eq!(begin("trim-horizon"), ["a trim-horizon"]);
        assert_eq!(begin("latest"), ["a at:1793534400250"]);
        assert_eq!(begin("2026-11-01T12:00:00Z"), ["a at:1793534400000"]);
        assert_eq!(begin("1950-01-01T00:00:00Z"), ["a trim-horizon"], "older than all that is kept");
        assert_eq!(begin("2026-10-31T12:00:30Z"), ["a trim-horizon"], "as good as that");
    }

    #[test]
    fn a_start_in_the_future_or_one_that_is_none_is_a_bad_setting() {
        for bad in [
            "2026-11-01T12:00:01Z",
            "tomorrow",
            "",
            "LATEST",
            "after:",
            "after:a",
            "after:a=",
            "after:=5",
            "after:a=x",
            "after:a=5,",
        ] {
            assert_eq!(first(bad).unwrap_err().kind(), shardflow::ErrorKind::Config, "{bad}");
        }
    }

    #[test]
    fn shards_that_are_not_named_follow_from_those_that_are() {
        let listed = [
            shard("before", &[]),
            shard("half", &["before"]),
            shard("named", &["before"]),
            shard("ended", &[]),
            shard("child", &["named", "ended"]),
            shard("grandchild", &["child"]),
            shard("orphan", &["gone"]),
            shard("stranger", &[]),
        ];
        let expected = [
            "before ended",
            "child trim-horizon",
            "ended ended",
            "grandchild trim-horizon",
            "half trim-horizon",
            "named after:5:2",
            "orphan trim-horizon",
            "stranger trim-horizon",
        ];
        assert_eq!(begins("after:named=5:2,ended=ended,gone=7", &listed), expected);
        let starts = ShardStarts::new().after("named", "5").unwrap().others(Others::Latest);
        let start = Start::Shards(starts).concrete(NOW.parse().unwrap(), Duration::MAX).unwrap();
        let at = |id: &str| start.of(&listed)[id].clone();
        assert_eq!(at("stranger"), Begin::At(ShardPosition::Time(1_793_534_400_250)));
        assert_eq!(at("half"), Begin::At(ShardPosition::Time(1_793_534_400_250)), "its sibling says nothing of it");
        assert_eq!(at("child"), Begin::At(ShardPosition::TrimHorizon));
    }

    #[test]
    fn a_named_shard_that_is_gone_and_was_not_read_to_its_end_is_told() {
        let start = first("after:gone=5,ended=ended,here=7").unwrap();
        assert_eq!(start.expired(&[shard("here", &[])]), ["gone"]);
    }
}
