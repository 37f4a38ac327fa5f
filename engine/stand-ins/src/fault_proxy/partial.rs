//! A PutRecords call of which some records fail: what is passed on, and the answer made of what comes back. Pure.

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::answer::Whole;

/// A call in two parts.
pub(crate) struct Partial {
    /// The call, without the records that fail.
    rest: Value,
    /// Whether each record of the call fails.
    fails: Vec<bool>,
}

impl Partial {
    /// The first of every so many records fails.
    pub(crate) fn of(body: &Value, every: usize) -> Self {
        let records = body["Records"].as_array().cloned().unwrap_or_default();
        let fails: Vec<bool> = (0..records.len()).map(|place| place % every == 0).collect();
        let kept: Vec<Value> = records.into_iter().zip(&fails).filter(|(_, fails)| !**fails).map(|(r, _)| r).collect();
        let mut rest = body.clone();
        rest["Records"] = Value::Array(kept);
        Self { rest, fails }
    }

    /// The answer where nothing is left to ask for.
    pub(crate) fn without_asking(&self) -> Option<Whole> {
        let all_fail = self.fails.iter().all(|fails| *fails);
        all_fail.then(|| Whole::new(StatusCode::OK, "application/x-amz-json-1.1", self.merged(&[]).to_string()))
    }

    /// What is passed on.
    pub(crate) fn asked(&self) -> Bytes {
        Bytes::from(self.rest.to_string())
    }

    /// The answer about all records. A refusal of the rest is passed on as it is.
    pub(crate) fn answer(&self, answer: Whole) -> Whole {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        match body["Records"].as_array() {
            Some(records) if answer.status.is_success() => {
                Whole { body: Bytes::from(self.merged(records).to_string()), ..answer }
            }
            _ => answer,
        }
    }

    fn merged(&self, taken: &[Value]) -> Value {
        let mut taken = taken.iter();
        let failed = |place: usize| {
            let code =
                if place.is_multiple_of(4) { "ProvisionedThroughputExceededException" } else { "InternalFailure" };
            json!({"ErrorCode": code, "ErrorMessage": "by the fault proxy"})
        };
        let records: Vec<Value> = self
            .fails
            .iter()
            .enumerate()
            .map(|(place, fails)| if *fails { failed(place) } else { taken.next().cloned().unwrap_or_default() })
            .collect();
        let count = records.iter().filter(|record| record.get("ErrorCode").is_some_and(Value::is_string)).count();
        json!({"FailedRecordCount": count, "Records": records})
    }
}
