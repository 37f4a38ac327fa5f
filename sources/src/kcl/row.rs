//! A row of a lease table: one shard, who reads it, and how far. Pure: between [`Lease`] and DynamoDB's attributes.
//!
//! Names and types are those of the Kinesis Client Library (3.5): it must be able to read what we write. What it does not
//! know from us and what we do not know from it stays as it is, since a row is changed attribute by attribute, never
//! rewritten.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;

use super::checkpoint::Checkpoint;

/// A row's attributes by their names.
pub(super) type Item = HashMap<String, AttributeValue>;

/// The partition key, a string: the shard.
pub(super) const KEY: &str = "leaseKey";
const OWNER: &str = "leaseOwner";
const CHECKPOINT_OWNER: &str = "checkpointOwner";
const COUNTER: &str = "leaseCounter";
const SWITCHES: &str = "ownerSwitchesSinceCheckpoint";
const CHECKPOINT: &str = "checkpoint";
const SUB: &str = "checkpointSubSequenceNumber";
const PENDING: [&str; 3] = ["pendingCheckpoint", "pendingCheckpointSubSequenceNumber", "pendingCheckpointState"];
/// Singular, and a set.
const PARENTS: &str = "parentShardId";
const CHILDREN: &str = "childShardIds";
const FIRST_HASH: &str = "startingHashKey";
const LAST_HASH: &str = "endingHashKey";
const STREAM: &str = "streamName";
const KIND: &str = "entityType";

/// The lease of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    /// The shard.
    pub(super) key: String,
    /// Who reads the shard; `None`: nobody, it is free.
    pub(super) owner: Option<String>,
    /// Who is asked to finish and hand over to `owner`. Until it has, it is the one that reads.
    pub(super) checkpoint_owner: Option<String>,
    /// Moves with each sign of life of the owner, and with each change. Nobody may write without having seen its last value.
    pub(super) counter: u64,
    /// How often the owner changed since the checkpoint did. Not 0: somebody may believe that it still has the lease.
    pub(super) switches: u64,
    /// How far the shard was processed.
    pub(super) checkpoint: Checkpoint,
    /// The shards that it came from: none, one after a split, two after a merge.
    pub(super) parents: BTreeSet<String>,
    /// The shards that it became, once its end was read.
    pub(super) children: BTreeSet<String>,
    /// Its first and last hash key.
    pub(super) hash_range: Option<(u128, u128)>,
    /// The stream, in a table that serves several. Such a table is not for us.
    pub(super) stream: Option<String>,
}

/// What a change writes and what it relies on, attribute by attribute. `None`: the attribute is removed, or must be absent.
#[derive(Debug, PartialEq)]
pub(super) struct Update {
    /// What is written.
    pub(super) writes: Vec<(&'static str, Option<AttributeValue>)>,
    /// What must be as it was seen.
    pub(super) expects: Vec<(&'static str, Option<AttributeValue>)>,
}

impl Lease {
    /// A lease that nobody holds yet.
    pub(super) fn new(key: &str, checkpoint: Checkpoint) -> Self {
        Self {
            key: key.to_owned(),
            owner: None,
            checkpoint_owner: None,
            counter: 0,
            switches: 0,
            checkpoint,
            parents: BTreeSet::new(),
            children: BTreeSet::new(),
            hash_range: None,
            stream: None,
        }
    }

    /// Who reads the shard at present: while a hand-over is asked for that is still the old owner.
    pub(super) fn reader(&self) -> Option<&str> {
        self.checkpoint_owner.as_deref().or(self.owner.as_deref())
    }

    /// A sign of life.
    pub(super) fn renewed(&self) -> Self {
        Self { counter: self.counter.saturating_add(1), ..self.clone() }
    }

    /// Taken over by `owner` from nobody, or from somebody who is gone.
    pub(super) fn inherited_by(&self, owner: &str) -> Self {
        Self { switches: self.switches, ..self.taken_by(owner) }
    }

    /// With all former owners' time over.
    pub(super) fn undisputed(self) -> Self {
        Self { switches: 0, ..self }
    }

    /// Taken by `owner`, whoever had it.
    pub(super) fn taken_by(&self, owner: &str) -> Self {
        let is_switch = self.owner.as_deref().is_some_and(|old| old != owner);
        let switches = self.switches.saturating_add(u64::from(is_switch));
        Self { owner: Some(owner.to_owned()), checkpoint_owner: None, switches, ..self.renewed() }
    }

    /// Processed up to `to`. Children once known stay.
    pub(super) fn advanced(&self, to: Checkpoint, children: &BTreeSet<String>) -> Self {
        let children = if children.is_empty() { self.children.clone() } else { children.clone() };
        Self { checkpoint: to, switches: 0, children, ..self.renewed() }
    }

    /// Free for whoever comes.
    pub(super) fn released(&self) -> Self {
        Self { owner: None, checkpoint_owner: None, ..self.renewed() }
    }

    /// Reads a row; `None` where it is none of a lease.
    ///
    /// # Errors
    /// A text that names the key and the attribute that cannot be understood.
    pub(super) fn read(item: &Item) -> Result<Option<Self>, String> {
        let row = Row { item, key: item.get(KEY).and_then(|key| key.as_s().ok()).map_or("", String::as_str) };
        // Older versions of the library write no type, and nothing but leases.
        if row.text(KIND)?.is_some_and(|kind| kind != "LEASE") {
            return Ok(None);
        }
        let sub = row.number(SUB)?.unwrap_or(0);
        let text = row.text(CHECKPOINT)?.ok_or_else(|| row.malformed(CHECKPOINT, "is missing"))?;
        let checkpoint = Checkpoint::parse(text, sub)
            .ok_or_else(|| row.malformed(CHECKPOINT, &format!("is \"{text}\", neither a number nor a known word")))?;
        let range = (row.hash(FIRST_HASH)?, row.hash(LAST_HASH)?);
        Ok(Some(Self {
            key: row.text(KEY)?.ok_or_else(|| row.malformed(KEY, "is missing"))?.to_owned(),
            owner: row.text(OWNER)?.map(ToOwned::to_owned),
            checkpoint_owner: row.text(CHECKPOINT_OWNER)?.map(ToOwned::to_owned),
            counter: row.number(COUNTER)?.ok_or_else(|| row.malformed(COUNTER, "is missing"))?,
            switches: row.number(SWITCHES)?.unwrap_or(0),
            checkpoint,
            parents: row.set(PARENTS)?,
            children: row.set(CHILDREN)?,
            hash_range: range.0.zip(range.1),
            stream: row.text(STREAM)?.map(ToOwned::to_owned),
        }))
    }

    /// The whole row, to be created.
    pub(super) fn item(&self) -> Item {
        let mut item = Item::from([(KIND.to_owned(), text("LEASE")), (KEY.to_owned(), text(&self.key))]);
        let range = self.hash_range.map(|(first, last)| [(FIRST_HASH, first), (LAST_HASH, last)]);
        let hashes = range.into_iter().flatten().map(|(name, hash)| (name, Some(text(&hash.to_string()))));
        let attributes = [
            (OWNER, self.owner.as_deref().map(text)),
            (CHECKPOINT_OWNER, self.checkpoint_owner.as_deref().map(text)),
            (COUNTER, Some(number(self.counter))),
            (SWITCHES, Some(number(self.switches))),
            (CHECKPOINT, Some(text(self.checkpoint.text()))),
            (SUB, Some(number(self.checkpoint.sub()))),
            (PARENTS, set(&self.parents)),
            (CHILDREN, set(&self.children)),
        ];
        let attributes = attributes.into_iter().chain(hashes);
        item.extend(attributes.filter_map(|(name, value)| Some((name.to_owned(), value?))));
        item
    }

    /// How the row as it is here becomes `then`, as long as it is still so in the table.
    pub(super) fn update_to(&self, then: &Self) -> Update {
        let mut writes = vec![(COUNTER, Some(number(then.counter)))];
        if self.owner != then.owner {
            writes.push((OWNER, then.owner.as_deref().map(text)));
        }
        if self.checkpoint_owner != then.checkpoint_owner {
            writes.push((CHECKPOINT_OWNER, then.checkpoint_owner.as_deref().map(text)));
        }
        if self.switches != then.switches {
            writes.push((SWITCHES, Some(number(then.switches))));
        }
        if self.children != then.children {
            writes.push((CHILDREN, set(&then.children)));
        }
        if self.checkpoint != then.checkpoint {
            writes.push((CHECKPOINT, Some(text(then.checkpoint.text()))));
            writes.push((SUB, Some(number(then.checkpoint.sub()))));
            // What was to become a checkpoint is older than this one.
            writes.extend(PENDING.map(|name| (name, None)));
        }
        Update { writes, expects: self.expects() }
    }

    /// By what a writer knows that nobody has written since it looked.
    pub(super) fn expects(&self) -> Vec<(&'static str, Option<AttributeValue>)> {
        vec![
            (COUNTER, Some(number(self.counter))),
            (OWNER, self.owner.as_deref().map(text)),
            (CHECKPOINT_OWNER, self.checkpoint_owner.as_deref().map(text)),
        ]
    }
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// DynamoDB has no empty sets: the attribute is absent then.
fn set(values: &BTreeSet<String>) -> Option<AttributeValue> {
    (!values.is_empty()).then(|| AttributeValue::Ss(values.iter().cloned().collect()))
}

/// A row that is being read.
struct Row<'a> {
    item: &'a Item,
    key: &'a str,
}

impl<'a> Row<'a> {
    fn malformed(&self, attribute: &str, why: &str) -> String {
        format!("attribute \"{attribute}\" of row \"{}\" {why}", self.key)
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, String> {
        let value = self.item.get(name).map(|value| value.as_s().map_err(|_| self.malformed(name, "is no string")));
        Ok(value.transpose()?.map(String::as_str))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, String> {
        let value = self.item.get(name).map(|value| {
            let digits = value.as_n().map_err(|_| self.malformed(name, "is no number"))?;
            digits.parse().map_err(|_| self.malformed(name, &format!("is {digits}, not a whole number from 0 on")))
        });
        value.transpose()
    }

    fn set(&self, name: &str) -> Result<BTreeSet<String>, String> {
        let value =
            self.item.get(name).map(|value| value.as_ss().map_err(|_| self.malformed(name, "is no string set")));
        Ok(value.transpose()?.into_iter().flatten().cloned().collect())
    }

    fn hash(&self, name: &str) -> Result<Option<u128>, String> {
        let value = self.text(name)?.filter(|hash| !hash.is_empty()).map(|hash| {
            hash.parse().map_err(|_| self.malformed(name, &format!("is \"{hash}\", not a hash key below 2^128")))
        });
        value.transpose()
    }
}

#[cfg(test)]
#[path = "row_tests.rs"]
mod tests;
