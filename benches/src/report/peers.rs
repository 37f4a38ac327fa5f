//! What other engines did with the same work, as `benches/compare` has measured it on the same machine.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// One engine, with its settings, on one row's work.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Peer {
    /// The engine and its settings.
    pub(crate) peer: String,
    /// Which work: a name that both sides know.
    pub(crate) row: String,
    /// Records a second.
    pub(crate) rate: f64,
    /// Processor seconds for a million records.
    pub(crate) cpu_s_per_m: f64,
    /// Peak of resident memory.
    pub(crate) peak_bytes: f64,
    /// Whether its rows were ours.
    pub(crate) rows_agree: bool,
    pub(crate) date: String,
    pub(crate) version: String,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Peers(Vec<Peer>);

impl Peers {
    /// What the file at `path` holds; nothing where there is none.
    ///
    /// # Errors
    /// A file that is something else, and an engine whose rows are not ours: it did other work.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).with_context(|| format!("could not use \"{}\"", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("could not read \"{}\"", path.display())),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let peers: Vec<Peer> = serde_json::from_str(text)?;
        if let Some(other) = peers.iter().find(|peer| !peer.rows_agree) {
            bail!("the rows of \"{}\" differ from ours in \"{}\"", other.peer, other.row);
        }
        Ok(Self(peers))
    }

    /// Those that did the work of the row `id`. They write it with capitals.
    pub(crate) fn on(&self, id: &str) -> impl Iterator<Item = &Peer> {
        self.0.iter().filter(move |peer| peer.row.eq_ignore_ascii_case(id))
    }

    /// The fastest of them.
    pub(crate) fn fastest(&self, id: &str) -> Option<&Peer> {
        self.on(id).max_by(|one, other| one.rate.total_cmp(&other.rate))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn peers() -> Peers {
        Peers::parse(&text(true)).unwrap()
    }

    fn text(agree: bool) -> String {
        let peer = |name: &str, rate: f64| {
            format!(
                r#"{{"peer":"{name}","row":"metering-10M","rate":{rate},"cpu_s_per_m":3.8,"peak_bytes":3.3e9,"rows_agree":{agree},"date":"2026-11-25","version":"2.1"}}"#
            )
        };
        format!("[{},{}]", peer("Flink 2.1 rocksdb p2", 2e5), peer("Flink 2.1 hashmap p2", 5e5))
    }

    #[test]
    fn the_fastest_of_a_row_is_what_we_compare_with() {
        let peers = peers();
        assert_eq!(peers.fastest("metering-10m").unwrap().peer, "Flink 2.1 hashmap p2");
        assert_eq!((peers.fastest("running-5m"), peers.on("metering-10M").count()), (None, 2));
    }

    #[test]
    fn a_peer_that_computed_something_else_is_refused() {
        assert!(Peers::parse(&text(false)).unwrap_err().to_string().contains("differ from ours"));
        assert_eq!(Peers::load(Path::new("no such file")).unwrap(), Peers::default());
    }
}
