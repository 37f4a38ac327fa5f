//! The nodes of the spout: where they lie and what is in them. Pure.
//!
//! ```text
//! /{prefix}/{topology}/{stream}/shardList         {"shardList":["shardId-000000000000", …]}
//! /{prefix}/{topology}/{stream}/{shardId}/state   {"checkpoint":"<sequence number>"}
//! ```
//!
//! They are read as the spout reads them: a field that is not there has its default, an empty checkpoint is none. They are
//! written as the spout writes them, byte for byte, since it refuses a node with a field that it does not know. Where a
//! node already has such fields, a spout of somebody's own has put them there, and they are kept as they are.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::value::RawValue;
use shardflow::{Error, Result};

use crate::kinesis::position::{Sequence, compare};

/// The last part of the shard list's path.
pub(super) const SHARD_LIST: &str = "shardList";

/// Where the nodes of one topology and stream lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Paths {
    root: String,
}

impl Paths {
    /// The paths that a spout with these settings uses. A prefix may have several parts: `teams/billing`.
    ///
    /// # Errors
    /// A part that ZooKeeper would not take.
    pub(super) fn new(prefix: &str, topology: &str, stream: &str) -> Result<Self> {
        let parts = prefix.split('/').map(|part| ("prefix", prefix, part));
        let parts = parts.chain([("topology", topology, topology), ("stream", stream, stream)]);
        for (what, whole, part) in parts {
            if !is_part(part) {
                return Err(Error::config(format!(
                    "could not use the {what} \"{whole}\": \"{part}\" cannot be a part of a path in ZooKeeper"
                )));
            }
        }
        Ok(Self { root: format!("/{prefix}/{topology}/{stream}") })
    }

    /// The node above all the others.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// The shard list.
    pub(super) fn shard_list(&self) -> String {
        format!("{}/{SHARD_LIST}", self.root)
    }

    /// The state of a shard.
    pub(super) fn state(&self, shard: &str) -> String {
        format!("{}/{shard}/state", self.root)
    }
}

/// Whether it can stand between two slashes.
fn is_part(text: &str) -> bool {
    let refused =
        |c: char| c == '/' || c.is_control() || matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}');
    !text.is_empty() && text != "." && text != ".." && !text.contains(refused)
}

/// The sequence number of a stream record up to and with which everything is done. Ordered as a number.
#[derive(Debug, Clone)]
pub(super) struct Checkpoint(String);

impl Checkpoint {
    /// `None` where it is no sequence number.
    pub(super) fn new(number: &str) -> Option<Self> {
        let sequence = Sequence::parse(number).filter(|sequence| sequence.sub.is_none());
        sequence.map(|sequence| Self(sequence.number))
    }

    /// Its digits.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Ord for Checkpoint {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for Checkpoint {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Checkpoint {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Checkpoint {}

/// Why a node cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Malformed(String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

/// What a shard's state node says. `None`: the spout starts the shard at its initial position.
pub(super) fn read_state(bytes: &[u8]) -> Result<Option<Checkpoint>, Malformed> {
    Fields::read(bytes)?.checkpoint()
}

/// The shards that a shard list names.
pub(super) fn read_list(bytes: &[u8]) -> Result<Vec<String>, Malformed> {
    Fields::read(bytes)?.shards()
}

/// What to write where a state node holds `stands`, so that it holds `wanted`; `None` where it holds that or a later one.
pub(super) fn state_towards(stands: Option<&[u8]>, wanted: &Checkpoint) -> Result<Option<Vec<u8>>, Malformed> {
    let mut fields = stands.map(Fields::read).transpose()?.unwrap_or_default();
    if fields.checkpoint()?.is_some_and(|stands| stands >= *wanted) {
        return Ok(None);
    }
    fields.set("checkpoint", serde_json::Value::from(wanted.as_str()));
    Ok(Some(fields.written("checkpoint")))
}

/// What to write where the shard list holds `stands`, so that it holds `wanted`; `None` where it does.
pub(super) fn list_towards(stands: Option<&[u8]>, wanted: &[String]) -> Result<Option<Vec<u8>>, Malformed> {
    let mut fields = stands.map(Fields::read).transpose()?.unwrap_or_default();
    if stands.is_some() && fields.shards()? == wanted {
        return Ok(None);
    }
    fields.set(SHARD_LIST, serde_json::Value::from(wanted));
    Ok(Some(fields.written(SHARD_LIST)))
}

/// The order in which the spout lists shards: by the number in their names. Tasks take their shards by place in this list.
pub(super) fn list_order(left: &str, right: &str) -> Ordering {
    let number = |id: &str| id.split('-').nth(1).and_then(|digits| digits.parse::<u64>().ok()).unwrap_or(u64::MAX);
    number(left).cmp(&number(right)).then_with(|| left.cmp(right))
}

/// The fields of a node, each as it was written.
#[derive(Debug, Default)]
struct Fields(BTreeMap<String, Box<RawValue>>);

impl Fields {
    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        serde_json::from_slice(bytes).map(Self).map_err(|error| Malformed(format!("it is no JSON object ({error})")))
    }

    fn checkpoint(&self) -> Result<Option<Checkpoint>, Malformed> {
        let text: String = self.get("checkpoint")?;
        if text.is_empty() {
            return Ok(None);
        }
        let checkpoint = Checkpoint::new(&text);
        checkpoint.map(Some).ok_or_else(|| Malformed(format!("its checkpoint \"{text}\" is no sequence number")))
    }

    fn shards(&self) -> Result<Vec<String>, Malformed> {
        self.get(SHARD_LIST)
    }

    fn get<T: serde::de::DeserializeOwned + Default>(&self, name: &str) -> Result<T, Malformed> {
        let Some(raw) = self.0.get(name) else { return Ok(T::default()) };
        serde_json::from_str(raw.get()).map_err(|error| Malformed(format!("its field \"{name}\" is wrong ({error})")))
    }

    fn set(&mut self, name: &str, value: serde_json::Value) {
        let raw = RawValue::from_string(value.to_string()).expect("a JSON value prints as JSON");
        self.0.insert(name.to_owned(), raw);
    }

    /// The spout's own field, `first`, and then whatever else there was.
    fn written(&self, first: &str) -> Vec<u8> {
        let own = self.0.get_key_value(first);
        let others = self.0.iter().filter(|(name, _)| *name != first);
        let mut fields = Vec::with_capacity(self.0.len());
        for (name, raw) in own.into_iter().chain(others) {
            fields.push(format!("{}:{raw}", serde_json::Value::from(name.as_str())));
        }
        format!("{{{}}}", fields.join(",")).into_bytes()
    }
}

#[cfg(test)]
#[path = "nodes_tests.rs"]
mod tests;
