//! What the library gives, as JSON. Hash keys are decimal text: JSON readers round large numbers. Pure.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use shardflow_sources::stream::{Consumer, Description, Piece, Plan, Record, Shard, Step};

/// One line, without its end.
pub(crate) fn record(record: &Record) -> String {
    let mut line = json!({
        "shard": record.shard,
        "sequence": record.sequence,
        "sub_sequence": record.sub_sequence,
        "partition_key": record.partition_key,
        "explicit_hash_key": record.explicit_hash_key,
        "arrival": record.arrived.map(|time| time.to_string()),
    });
    let (name, data) = match std::str::from_utf8(&record.data) {
        Ok(text) => ("data", text.to_owned()),
        Err(_) => ("data_base64", BASE64_STANDARD.encode(&record.data)),
    };
    if let Some(fields) = line.as_object_mut() {
        fields.insert(name.to_owned(), Value::String(data));
    }
    line.to_string()
}

pub(crate) fn description(description: &Description) -> Value {
    let stream = &description.summary;
    let shard = |it: &Shard| {
        let lag = description.lags.as_ref().map(|lags| lags.get(&it.id).copied().unwrap_or_default());
        json!({
            "shard": it.id,
            "parents": it.parents,
            "open": it.is_open(),
            "first_hash_key": it.range.start().to_string(),
            "last_hash_key": it.range.end().to_string(),
            "share_percent": it.range.share() * 100.0,
            "first_sequence": it.first_sequence,
            "last_sequence": it.last_sequence,
            "lag": lag.map(|lag| json!({
                "trim_horizon_millis_behind_latest": lag.oldest_behind,
                "oldest_arrival": lag.oldest_arrived.map(|time| time.to_string()),
                "latest_millis_behind_latest": lag.newest_behind,
            })),
        })
    };
    json!({
        "stream": stream.name,
        "arn": stream.arn,
        "status": stream.status,
        "mode": stream.mode,
        "created": stream.created.map(|time| time.to_string()),
        "retention_hours": stream.retention_hours,
        "encryption": stream.encryption,
        "record_bytes": stream.record_bytes,
        "shards": description.shards.iter().map(shard).collect::<Vec<_>>(),
        "consumers": consumers(&description.consumers),
    })
}

pub(crate) fn consumers(consumers: &[Consumer]) -> Value {
    let consumer = |it: &Consumer| {
        let created = it.created.map(|time| time.to_string());
        json!({ "consumer": it.name, "arn": it.arn, "status": it.status, "created": created })
    };
    consumers.iter().map(consumer).collect()
}

pub(crate) fn plan(plan: &Plan) -> Value {
    let piece = |it: &Piece| {
        json!({
            "shard": it.shard,
            "first_hash_key": it.range.start().to_string(),
            "last_hash_key": it.range.end().to_string(),
            "share_percent": it.range.share() * 100.0,
            "bytes_per_second": it.load.bytes_per_second(),
        })
    };
    let pieces = |pieces: &[Piece]| pieces.iter().map(piece).collect::<Value>();
    let step = |step: &Step| match step {
        Step::Split { range, at } => json!({ "split": range.to_string(), "at": at.to_string() }),
        Step::Merge { left, right } => json!({ "merge": left.to_string(), "with": right.to_string() }),
    };
    json!({
        "before": pieces(&plan.before),
        "steps": plan.steps.iter().map(step).collect::<Value>(),
        "after": pieces(&plan.after),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_is_text_is_given_as_text_and_all_else_in_base64() {
        let mut it = Record {
            shard: "s".to_owned(),
            sequence: "5".to_owned(),
            sub_sequence: Some(1),
            partition_key: None,
            explicit_hash_key: None,
            arrived: Some("2026-11-01T12:00:00.25Z".parse().unwrap()),
            data: "{\"ä\":1}\n".into(),
        };
        let expected = r#"{"arrival":"2026-11-01T12:00:00.25Z","data":"{\"ä\":1}\n","explicit_hash_key":null,"partition_key":null,"sequence":"5","shard":"s","sub_sequence":1}"#;
        assert_eq!(record(&it), expected);
        it.data = vec![0xFF, 0];
        assert!(record(&it).contains(r#""data_base64":"/wA=""#));
    }
}
