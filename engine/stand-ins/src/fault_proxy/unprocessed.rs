//! A `BatchWriteItem` of which a part is left out, as a busy table does it: what is left out never reaches the server, and the
//! answer has it as unprocessed.

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::answer::Whole;

/// A call without a part of its requests.
#[derive(Debug)]
pub(crate) struct LeftOut {
    body: Value,
    /// By table.
    left: Map<String, Value>,
}

impl LeftOut {
    /// Leaves each `every`-th request of each table out, from the first on.
    pub(crate) fn of(body: &Value, every: usize) -> Self {
        let mut body = body.clone();
        let mut left = Map::new();
        let tables = body["RequestItems"].as_object_mut().expect("a BatchWriteItem names tables");
        for (table, requests) in tables.iter_mut() {
            let all = requests.as_array().expect("a table has a list of requests").iter().enumerate();
            let (out, kept): (Vec<_>, Vec<_>) = all.partition(|(at, _)| at % every.max(1) == 0);
            let values =
                |pairs: Vec<(usize, &Value)>| pairs.into_iter().map(|(_, value)| value.clone()).collect::<Value>();
            let (out, kept) = (values(out), values(kept));
            left.insert(table.clone(), out);
            *requests = kept;
        }
        tables.retain(|_, requests| requests.as_array().is_some_and(|requests| !requests.is_empty()));
        Self { body, left }
    }

    /// The answer where nothing is left to ask the server for.
    pub(crate) fn without_asking(&self) -> Option<Whole> {
        let is_empty = self.body["RequestItems"].as_object().is_some_and(Map::is_empty);
        let body = || json!({ "UnprocessedItems": self.left }).to_string();
        is_empty.then(|| Whole::new(StatusCode::OK, "application/x-amz-json-1.0", body()))
    }

    /// What the server is asked for.
    pub(crate) fn asked(&self) -> Bytes {
        Bytes::from(self.body.to_string())
    }

    /// The server's answer, with what was left out as unprocessed.
    pub(crate) fn answer(self, mut answer: Whole) -> Whole {
        let Ok(mut body) = serde_json::from_slice::<Value>(&answer.body) else { return answer };
        if !answer.status.is_success() {
            return answer;
        }
        for (table, left) in self.left {
            let unprocessed = &mut body["UnprocessedItems"][table];
            let mut all = unprocessed.as_array().cloned().unwrap_or_default();
            all.extend(left.as_array().cloned().unwrap_or_default());
            *unprocessed = Value::Array(all);
        }
        answer.headers.remove("x-amz-crc32");
        answer.body = Bytes::from(body.to_string());
        answer
    }
}
