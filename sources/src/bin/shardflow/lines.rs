//! From a line to a record. Pure, but for the dice of random keys.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use serde_json::value::RawValue;
use shardflow_sources::stream::PutRecord;

/// How a line's partition key and data are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// The line is the data, and the key is random.
    Line,
    /// The line is the data, JSON, and the key is in it: the names that lead there.
    KeyField(Vec<String>),
    /// The line is JSON that has both.
    Envelope,
}

/// The fields of an envelope that are looked at; others may be there.
#[derive(Default)]
struct Envelope {
    partition_key: Option<String>,
    explicit_hash_key: Option<String>,
    data: Option<Vec<u8>>,
}

impl Form {
    /// Reads `account.id`.
    pub(crate) fn key_field(path: &str) -> Self {
        Self::KeyField(path.split('.').map(ToOwned::to_owned).collect())
    }

    /// The record in a line that has no end any more; or why there is none.
    pub(crate) fn record(&self, id: u64, line: &[u8], most_bytes: usize) -> Result<PutRecord, String> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Err("it is blank".to_owned());
        }
        let (key, hash, data) = match self {
            Self::Line => (format!("{:016x}", random_key()), None, line.to_vec()),
            Self::KeyField(path) => (key_in(line, path)?, None, line.to_vec()),
            Self::Envelope => {
                let Envelope { partition_key, explicit_hash_key, data } = envelope(line)?;
                // A record of a stream that does without keys has none; `tail` says null.
                let partition_key = match partition_key {
                    Some(key) => key,
                    None if says_null(line, "partition_key") => format!("{:016x}", random_key()),
                    None => return Err("it has no partition_key".to_owned()),
                };
                (partition_key, explicit_hash_key, data.ok_or("it has neither data nor data_base64")?)
            }
        };
        PutRecord::new(id, key, hash, data, most_bytes).map_err(|refused| refused.to_string())
    }
}

/// Whether a field is there and says that it has no value.
fn says_null(line: &[u8], name: &str) -> bool {
    serde_json::from_slice::<Value>(line).is_ok_and(|line| line.get(name).is_some_and(Value::is_null))
}

/// Keys need to be spread, not secret.
fn random_key() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(())
}

fn key_in(line: &[u8], path: &[String]) -> Result<String, String> {
    let line: Value = serde_json::from_slice(line).map_err(|error| format!("it is no JSON: {error}"))?;
    let field = path.iter().try_fold(&line, |value, name| value.get(name));
    let name = path.join(".");
    match field {
        None => Err(format!("it has no field \"{name}\"")),
        Some(Value::String(key)) => Ok(key.clone()),
        Some(key @ (Value::Number(_) | Value::Bool(_))) => Ok(key.to_string()),
        Some(_) => Err(format!("its field \"{name}\" is neither text nor a number")),
    }
}

fn envelope(line: &[u8]) -> Result<Envelope, String> {
    let fields: std::collections::HashMap<String, &RawValue> =
        serde_json::from_slice(line).map_err(|error| format!("it is no JSON object: {error}"))?;
    let text = |name: &str| match fields.get(name).map(|raw| raw.get()) {
        None | Some("null") => Ok(None),
        Some(raw) => serde_json::from_str::<String>(raw).map(Some).map_err(|_| format!("its {name} is no text")),
    };
    let data = fields.get("data").map(|raw| raw.get()).filter(|raw| *raw != "null");
    let data = match (data, text("data_base64")?) {
        (Some(_), Some(_)) => return Err("it has both data and data_base64".to_owned()),
        (None, base64) => match base64.map(|base64| BASE64_STANDARD.decode(base64)).transpose() {
            Ok(data) => data,
            Err(error) => return Err(format!("its data_base64 is no base64: {error}")),
        },
        // Text is put as it reads, any other JSON as it is written.
        (Some(raw), None) if raw.starts_with('"') => text("data")?.map(String::into_bytes),
        (Some(raw), None) => Some(raw.as_bytes().to_vec()),
    };
    let explicit_hash_key = text("explicit_hash_key")?;
    Ok(Envelope { partition_key: text("partition_key")?, explicit_hash_key, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(form: &Form, line: &str) -> Result<(String, Option<String>, String), String> {
        let record = form.record(1, line.as_bytes(), 1_000)?;
        let data = String::from_utf8(record.data().to_vec()).unwrap();
        Ok((record.partition_key().to_owned(), record.explicit_hash_key().map(ToOwned::to_owned), data))
    }

    fn ok(key: &str, hash: Option<&str>, data: &str) -> Result<(String, Option<String>, String), String> {
        Ok((key.to_owned(), hash.map(ToOwned::to_owned), data.to_owned()))
    }

    #[test]
    fn a_plain_line_gets_a_random_key() {
        let (one, _, data) = record(&Form::Line, "not even JSON").unwrap();
        let (other, ..) = record(&Form::Line, "not even JSON").unwrap();
        assert_eq!((data.as_str(), one.len()), ("not even JSON", 16));
        assert_ne!(one, other);
    }

    #[test]
    fn keys_are_found_in_the_line_and_the_line_stays_as_it_is() {
        let form = Form::key_field("account.id");
        let line = r#"{ "account": {"id": "a-1"}, "n": 1.50 }"#;
        assert_eq!(record(&form, line), ok("a-1", None, line));
        assert_eq!(record(&form, r#"{"account":{"id":17}}"#), ok("17", None, r#"{"account":{"id":17}}"#));
    }

    #[test]
    fn envelopes_hold_text_json_or_base64() {
        let form = Form::Envelope;
        assert_eq!(record(&form, r#"{"partition_key":"k","data":"a\nb"}"#), ok("k", None, "a\nb"));
        let line = r#"{"partition_key":"k","explicit_hash_key":"7","data":{"n": 1.50},"shard":"s"}"#;
        assert_eq!(record(&form, line), ok("k", Some("7"), r#"{"n": 1.50}"#));
        let line = r#"{"partition_key":"k","explicit_hash_key":null,"data_base64":"eA=="}"#;
        assert_eq!(record(&form, line), ok("k", None, "x"));
    }

    #[test]
    fn bad_lines_say_what_is_wrong() {
        for (form, line, why) in [
            (Form::Line, " \t", "it is blank"),
            (Form::key_field("a"), "{", "it is no JSON: EOF while parsing an object at line 1 column 1"),
            (Form::key_field("a.b"), r#"{"a":1}"#, "it has no field \"a.b\""),
            (Form::key_field("a"), r#"{"a":null}"#, "its field \"a\" is neither text nor a number"),
            (Form::key_field("a"), r#"{"a":""}"#, "its partition key has 0 characters, not 1 to 256"),
            (Form::Envelope, r#"{"data":1}"#, "it has no partition_key"),
            (Form::Envelope, r#"{"partition_key":"k"}"#, "it has neither data nor data_base64"),
            (Form::Envelope, r#"{"partition_key":1,"data":1}"#, "its partition_key is no text"),
            (
                Form::Envelope,
                r#"{"partition_key":"k","data":1,"data_base64":"eA=="}"#,
                "it has both data and data_base64",
            ),
        ] {
            assert_eq!(record(&form, line), Err(why.to_owned()));
        }
        let wrong = record(&Form::Envelope, r#"{"partition_key":"k","data_base64":"!"}"#).unwrap_err();
        assert!(wrong.starts_with("its data_base64 is no base64"), "{wrong}");
        assert!(record(&Form::Line, &"x".repeat(1_000)).unwrap_err().contains("1016 bytes"));
    }
}
