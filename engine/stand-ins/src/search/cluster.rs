//! Indices, aliases and data streams, and which one a name means.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::Flavour;
use super::answers::{Done, Refusal};
use super::bulk::{Op, Request};
use super::index::Index;

#[derive(Debug)]
pub struct Cluster {
    flavour: Flavour,
    indices: BTreeMap<String, Index>,
    aliases: BTreeMap<String, String>,
    /// Their backing indices; the last is written to.
    streams: BTreeMap<String, Vec<String>>,
    /// The ingest pipelines that are there. They change nothing in a document.
    pipelines: BTreeSet<String>,
    /// `action.auto_create_index`.
    pub auto_creates: bool,
}

fn not_found(name: &str, why: &str) -> Refusal {
    Refusal::new(404, "index_not_found_exception", format!("no such index [{name}]{why}"))
}

impl Cluster {
    pub fn new(flavour: Flavour) -> Self {
        Self {
            flavour,
            indices: BTreeMap::new(),
            aliases: BTreeMap::new(),
            streams: BTreeMap::new(),
            pipelines: BTreeSet::new(),
            auto_creates: true,
        }
    }

    pub fn create(&mut self, name: &str, mappings: &Value) {
        self.indices.insert(name.to_owned(), Index::mapped(mappings));
    }

    pub fn create_stream(&mut self, name: &str) {
        let backing = format!(".ds-{name}-000001");
        self.create(&backing, &json!({}));
        self.streams.insert(name.to_owned(), vec![backing]);
    }

    /// Begins a new backing index.
    pub fn roll_over(&mut self, stream: &str) {
        let number = self.streams[stream].len() + 1;
        let backing = format!(".ds-{stream}-{number:06}");
        self.create(&backing, &json!({}));
        self.streams.get_mut(stream).unwrap().push(backing);
    }

    pub fn alias(&mut self, alias: &str, index: &str) {
        self.aliases.insert(alias.to_owned(), index.to_owned());
    }

    pub fn drop_alias(&mut self, alias: &str) {
        self.aliases.remove(alias);
    }

    pub fn create_pipeline(&mut self, name: &str) {
        self.pipelines.insert(name.to_owned());
    }

    pub fn drop_pipeline(&mut self, name: &str) {
        self.pipelines.remove(name);
    }

    /// The answer of `GET /_ingest/pipeline/{id}`: status and body. An id may be a pattern with `*` at its end.
    pub(crate) fn pipelines(&self, id: &str) -> (u16, Value) {
        let fits = |name: &&String| id.strip_suffix('*').map_or(*name == id, |start| name.starts_with(start));
        let found: Map<String, Value> =
            self.pipelines.iter().filter(fits).map(|name| (name.clone(), json!({"processors": []}))).collect();
        (if found.is_empty() { 404 } else { 200 }, Value::Object(found))
    }

    /// Refuses what goes through a pipeline that is not there. A deletion goes through none.
    pub(crate) fn ingest(&self, request: &Request, pipeline: Option<&str>) -> Result<(), Refusal> {
        match pipeline.filter(|name| *name != "_none" && request.op != Op::Delete && !self.pipelines.contains(*name)) {
            None => Ok(()),
            Some(name) => {
                let reason = format!("pipeline with id [{name}] does not exist");
                Err(Refusal::new(400, "illegal_argument_exception", reason))
            }
        }
    }

    pub fn names(&self) -> Vec<String> {
        self.indices.keys().cloned().collect()
    }

    pub fn remove(&mut self, index: &str) -> bool {
        self.indices.remove(index).is_some()
    }

    pub fn index(&self, name: &str) -> Option<&Index> {
        self.indices.get(self.aliases.get(name).map_or(name, String::as_str))
    }

    pub fn index_mut(&mut self, name: &str) -> Option<&mut Index> {
        self.indices.get_mut(name)
    }

    /// The documents of an index, by id: version and source. Of none where there is no such index.
    pub fn documents(&self, name: &str) -> BTreeMap<String, (i64, Value)> {
        self.index(name).map(Index::documents).unwrap_or_default()
    }

    /// How many documents there are in an index, behind an alias, or in the indices of a pattern with `*` for any text.
    pub fn count(&self, pattern: &str) -> usize {
        let Some((start, rest)) = pattern.split_once('*') else { return self.documents(pattern).len() };
        let end = rest.rsplit('*').next().unwrap_or_default();
        let fits = |name: &&String| name.starts_with(start) && name.ends_with(end);
        self.indices.keys().filter(fits).map(|name| self.documents(name).len()).sum()
    }

    /// All documents of a data stream, with what is double.
    pub fn stream_ids(&self, stream: &str) -> Vec<String> {
        self.streams[stream].iter().flat_map(|index| self.documents(index).into_keys()).collect()
    }

    /// The answer of `GET /_resolve/index/{name}`, which is 404 where there is nothing of the name.
    pub fn resolve(&self, name: &str) -> Result<Value, Refusal> {
        let mut found = json!({"indices": [], "aliases": [], "data_streams": []});
        if let Some(index) = self.aliases.get(name) {
            found["aliases"] = json!([{"name": name, "indices": [index]}]);
        } else if let Some(backing) = self.streams.get(name) {
            found["data_streams"] =
                json!([{"name": name, "backing_indices": backing, "timestamp_field": "@timestamp"}]);
        } else if self.indices.contains_key(name) {
            found["indices"] = json!([{"name": name, "attributes": ["open"]}]);
        } else {
            return Err(not_found(name, ""));
        }
        Ok(found)
    }

    pub(crate) fn apply(&mut self, request: &Request) -> Result<Done, Refusal> {
        let name = request.index.clone().unwrap_or_default();
        if request.requires_alias && !self.aliases.contains_key(&name) {
            return Err(not_found(
                &name,
                &format!(" and [require_alias] request flag is [true] and [{name}] is not an alias"),
            ));
        }
        let concrete = match (self.streams.get(&name), self.aliases.get(&name)) {
            (Some(_), _) if request.op != Op::Create => {
                let reason = "only write ops with an op_type of create are allowed in data streams";
                return Err(Refusal::new(400, "illegal_argument_exception", reason));
            }
            (Some(backing), _) => {
                let fields: Value = serde_json::from_slice(&request.source).unwrap_or_default();
                if fields.get("@timestamp").is_none() {
                    let reason = "data stream timestamp field [@timestamp] is missing";
                    return Err(Refusal::new(400, "illegal_argument_exception", reason));
                }
                backing.last().unwrap().clone()
            }
            (None, Some(index)) => index.clone(),
            (None, None) => name,
        };
        if !self.indices.contains_key(&concrete) {
            if !self.auto_creates {
                return Err(not_found(&concrete, " and [action.auto_create_index] ([false]) doesn't match"));
            }
            if concrete != concrete.to_lowercase() {
                let reason = format!("Invalid index name [{concrete}], must be lowercase");
                return Err(Refusal::new(400, "invalid_index_name_exception", reason));
            }
        }
        let index = self.indices.entry(concrete.clone()).or_default();
        index.apply(&concrete, request, self.flavour)
    }
}
