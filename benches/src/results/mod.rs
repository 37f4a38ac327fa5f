//! What was measured, as it is kept: in `results.json`, by id, so that a run of some parts refreshes just those.
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

// `Axis` and `Line` are for those who make lines.
#[allow(unused_imports)]
pub(crate) use entry::{Axis, Entry, Figure, Group, Line, Measured, Series, Speed};
pub(crate) use stamp::Stamp;
pub(crate) use unit::{Unit, short};

/// An entry, and when and on what it was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stamped {
    #[serde(flatten)]
    pub(crate) entry: Entry,
    pub(crate) stamp: Stamp,
}

/// All entries by id.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Results(BTreeMap<String, Stamped>);

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

    /// Puts `entries` in the place of those with their ids.
    pub(crate) fn merge(&mut self, entries: impl IntoIterator<Item = Entry>, stamp: &Stamp) {
        for entry in entries {
            self.0.insert(entry.id().to_owned(), Stamped { entry, stamp: stamp.clone() });
        }
    }

    /// The speeds of `id`.
    pub(crate) fn speed(&self, id: &str) -> Option<&Speed> {
        match &self.0.get(id)?.entry {
            Entry::Speed(speed) => Some(speed),
            _ => None,
        }
    }

    /// The figure of `id`.
    pub(crate) fn figure(&self, id: &str) -> Option<&Figure> {
        match &self.0.get(id)?.entry {
            Entry::Figure(figure) => Some(figure),
            _ => None,
        }
    }

    /// All, by id.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Stamped> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Spread;

    fn figure(id: &str, value: f64) -> Entry {
        Entry::Figure(Figure {
            id: id.to_owned(),
            group: Group::Start,
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
    fn a_later_run_replaces_what_it_measured_and_leaves_the_rest() {
        let mut results = Results::default();
        results.merge([figure("a", 1.0), figure("b", 2.0)], &stamp("old"));
        results.merge([figure("b", 3.0)], &stamp("new"));
        let seen: Vec<_> = results.all().map(|kept| (kept.entry.id(), kept.stamp.commit.as_str())).collect();
        assert_eq!(seen, [("a", "old"), ("b", "new")]);
        assert_eq!(results.figure("b").unwrap().value.median, 3.0);
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
        results.merge([Entry::Speed(speed), figure("f", 0.1), Entry::Series(series)], &stamp("c"));
        results.save(&path).unwrap();
        assert_eq!(Results::load(&path).unwrap(), results);
        fs::write(&path, "[]").unwrap();
        assert!(Results::load(&path).unwrap_err().to_string().contains("delete it"));
    }
}
