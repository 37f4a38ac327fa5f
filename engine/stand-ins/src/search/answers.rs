//! The shapes of answers.

use serde_json::{Map, Value, json};

use super::bulk::Request;

/// An error of the server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub kind: &'static str,
    pub reason: String,
    pub cause: Option<(&'static str, String)>,
}

impl Refusal {
    pub fn new(status: u16, kind: &'static str, reason: impl Into<String>) -> Self {
        Self { status, kind, reason: reason.into(), cause: None }
    }

    pub fn caused_by(mut self, kind: &'static str, reason: impl Into<String>) -> Self {
        self.cause = Some((kind, reason.into()));
        self
    }

    fn error(&self) -> Value {
        let mut error = json!({"type": self.kind, "reason": self.reason});
        if let Some((kind, reason)) = &self.cause {
            error["caused_by"] = json!({"type": kind, "reason": reason});
        }
        error
    }

    /// As the answer to a whole call. Some have text for an error, and no more.
    pub fn whole(&self) -> Value {
        if self.kind.is_empty() {
            return json!({"error": self.reason, "status": self.status});
        }
        let mut error = self.error();
        error["root_cause"] = json!([{"type": self.kind, "reason": self.reason}]);
        json!({"error": error, "status": self.status})
    }
}

/// What was done with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Done {
    pub index: String,
    pub id: String,
    pub version: i64,
    pub seq_no: u64,
    pub result: &'static str,
}

/// One document's part of the answer to a bulk call.
pub(crate) fn item(request: &Request, outcome: Result<Done, Refusal>) -> Value {
    let body = match outcome {
        Ok(Done { index, id, version, seq_no, result }) => json!({
            "_index": index, "_id": id, "_version": version, "result": result,
            "_shards": {"total": 2, "successful": 1, "failed": 0}, "_seq_no": seq_no, "_primary_term": 1,
            "status": match result { "created" => 201, "not_found" => 404, _ => 200 },
        }),
        Err(refusal) => {
            let mut error = refusal.error();
            if refusal.kind == "version_conflict_engine_exception" {
                error["index"] = json!(request.index);
                error["shard"] = json!("0");
                error["index_uuid"] = json!("0wSo5-3zTeqe9RAoQhiC8Q");
            }
            json!({"_index": request.index, "_id": request.id, "status": refusal.status, "error": error})
        }
    };
    json!({ request.op.name(): body })
}

/// What `filter_path` leaves of an answer: paths with commas between, with `*` for any name. An array stands for each of its
/// elements, and what has nothing left is left out.
pub(crate) fn filtered(value: &Value, filter: &str) -> Value {
    let paths: Vec<Vec<&str>> = filter.split(',').map(|path| path.split('.').collect()).collect();
    let paths: Vec<&[&str]> = paths.iter().map(Vec::as_slice).collect();
    kept(value, &paths).unwrap_or_else(|| json!({}))
}

fn kept(value: &Value, paths: &[&[&str]]) -> Option<Value> {
    if paths.iter().any(|path| path.is_empty()) {
        return Some(value.clone());
    }
    match value {
        Value::Object(fields) => {
            let mut left = Map::new();
            for (name, value) in fields {
                let below: Vec<&[&str]> = paths
                    .iter()
                    .filter_map(|path| path.split_first().filter(|(first, _)| **first == "*" || *first == name))
                    .map(|(_, rest)| rest)
                    .collect();
                if let Some(value) = kept(value, &below).filter(|_| !below.is_empty()) {
                    left.insert(name.clone(), value);
                }
            }
            (!left.is_empty()).then_some(Value::Object(left))
        }
        Value::Array(elements) => {
            let left: Vec<Value> = elements.iter().filter_map(|element| kept(element, paths)).collect();
            (!left.is_empty()).then_some(Value::Array(left))
        }
        _ => None,
    }
}
