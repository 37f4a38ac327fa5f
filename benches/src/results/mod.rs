//! What was measured, as it is kept: in `results.json`, so that a run of some groups refreshes just those.
//!
//! Everything here is data. Who measures makes an [`Entry`]; [`Results`] keeps it with a [`Stamp`] of when and where, since
//! entries of one file may come from different runs; [`report`](crate::report) reads it.

mod entry;
mod stamp;
mod unit;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

pub(crate) use entry::{Axis, Entry, Figure, Group, Line, Measured, Series, Speed};
pub(crate) use stamp::Stamp;
pub(crate) use unit::{Unit, counted, short};

/// An entry, and when and on what it was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stamped {
    #[serde(flatten)]
    pub(crate) entry: Entry,
    pub(crate) stamp: Stamp,
}

/// All entries, those of a group in the order in which they were measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Results(Vec<Stamped>);

impl Results {
    /// What the file at `path` holds; nothing where there is none.
    ///
    /// # Errors
    /// A file that cannot be read, or was written by another version of this program.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).with_context(|| format!("could not read \"{}\"", path.display())),
        };
        serde_json::from_slice(&text)
            .with_context(|| format!("could not understand \"{}\": delete it, and measure again", path.display()))
    }

    /// Writes them to `path`, whole or not at all.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let part = path.with_extension("part");
        let text = serde_json::to_vec_pretty(self).context("could not write results")?;
        fs::write(&part, text)
            .and_then(|()| fs::rename(&part, path))
            .with_context(|| format!("could not write \"{}\"", path.display()))
    }

    /// Puts `entries` in the place of all that were known of their groups, and of their ids: rows that are no more, or have
    /// moved, must not stay.
    pub(crate) fn replace(&mut self, entries: Vec<Entry>, stamp: &Stamp) {
        let stale = |known: &Entry, new: &Entry| known.group() == new.group() || known.id() == new.id();
        self.0.retain(|known| !entries.iter().any(|new| stale(&known.entry, new)));
        self.0.extend(entries.into_iter().map(|entry| Stamped { entry, stamp: stamp.clone() }));
    }

    /// The speeds of `id`.
    pub(crate) fn speed(&self, id: &str) -> Option<&Speed> {
        self.0.iter().find_map(|stamped| match &stamped.entry {
            Entry::Speed(speed) if speed.id == id => Some(speed),
            _ => None,
        })
    }

    /// The figure of `id`.
    pub(crate) fn figure(&self, id: &str) -> Option<&Figure> {
        self.0.iter().find_map(|stamped| match &stamped.entry {
            Entry::Figure(figure) if figure.id == id => Some(figure),
            _ => None,
        })
    }

    /// All, group by group in the order of the report.
    pub(crate) fn by_group(&self) -> BTreeMap<Group, Vec<&Stamped>> {
        let mut groups: BTreeMap<Group, Vec<&Stamped>> = BTreeMap::new();
        for stamped in &self.0 {
            groups.entry(stamped.entry.group()).or_default().push(stamped);
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Spread;

    fn figure(id: &str, group: Group, value: f64) -> Entry {
        Entry::Figure(Figure {
            id: id.to_owned(),
            group,
            title: "start".to_owned(),
            value: Spread::once(value),
            unit: Unit::Millis,
            notes: String::new(),
        })
    }

    fn stamp(commit: &str) -> Stamp {
        Stamp { commit: commit.to_owned(), ..Stamp::default() }
    }

    #[test]
    fn a_later_run_replaces_the_groups_that_it_measured_and_leaves_the_rest() {
        let mut results = Results::default();
        results.replace(vec![figure("idle", Group::Idle, 1.0)], &stamp("old"));
        results.replace(vec![figure("z", Group::Start, 2.0), figure("gone", Group::Start, 3.0)], &stamp("old"));
        results.replace(vec![figure("z", Group::Start, 4.0), figure("a", Group::Start, 5.0)], &stamp("new"));
        results.replace(Vec::new(), &stamp("newer"));
        let groups = results.by_group();
        let seen: Vec<_> =
            groups.values().flatten().map(|kept| (kept.entry.id(), kept.stamp.commit.as_str())).collect();
        assert_eq!(seen, [("idle", "old"), ("z", "new"), ("a", "new")]);
        assert_eq!(results.figure("z").unwrap().value.median, 4.0);
        assert!(results.figure("gone").is_none() && results.speed("z").is_none());
    }

    #[test]
    fn results_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.json");
        assert_eq!(Results::load(&path).unwrap(), Results::default());
        let mut results = Results::default();
        let measured = Measured {
            name: "ours".to_owned(),
            rate: Spread::of([1.0, 2.0]),
            cpu_per_million: Spread::once(0.4),
            peak: Spread::once(1e8),
        };
        let speed = Speed {
            id: "s".to_owned(),
            group: Group::Metering,
            title: "t".to_owned(),
            ran: "r".to_owned(),
            records: 7,
            ours: measured.clone(),
            limits: vec![measured],
        };
        let line = Line { name: "l".to_owned(), points: vec![(1.0, 2.0)] };
        let axis = Axis { label: "x".to_owned(), log: true };
        let series = Series {
            id: "p".to_owned(),
            group: Group::Keys,
            title: "t".to_owned(),
            x: axis.clone(),
            y: axis,
            lines: vec![line],
        };
        let entries = vec![Entry::Speed(speed), figure("f", Group::Start, 0.1), Entry::Series(series)];
        results.replace(entries, &stamp("c"));
        results.save(&path).unwrap();
        assert_eq!(Results::load(&path).unwrap(), results);
        fs::write(&path, "{}").unwrap();
        assert!(Results::load(&path).unwrap_err().to_string().contains("delete it"));
    }
}
