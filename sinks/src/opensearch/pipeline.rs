//! The ingest pipeline that documents go through: whether it is there.
//!
//! Where it is not, the server refuses each document by itself, as if something were wrong with it. So it is looked for
//! before the job starts, and where it disappears later the job stops: else all that comes would be refused, and the epochs
//! committed all the same.

use std::fmt::Write;

use serde_json::Value;
use shardflow::metrics::RetryMetrics;
use shardflow::retry::{Retries, WallClock};
use shardflow::{Error, Result};

use super::connection::{CHECK_TIMEOUT, Call, Connection};

/// The name that stands for no pipeline, not even the index's own.
const NONE: &str = "_none";

/// Looks whether the pipeline is there.
///
/// # Errors
/// It is not, or the server does not answer for half a minute.
pub(super) async fn check(connection: &Connection, name: &str) -> Result<()> {
    if name == NONE {
        return Ok(());
    }
    let attempted = format!("find ingest pipeline \"{name}\"");
    let refuse = |why: &str| Error::config(format!("could not {attempted} at {}: {why}", connection.place()));
    if name.is_empty() {
        return Err(refuse("it has no name"));
    }
    let path = format!("_ingest/pipeline/{}", segment(name));
    let retries = Retries::new(CHECK_TIMEOUT, &WallClock, &RetryMetrics::unseen(), attempted.clone());
    let ask = || async {
        let answer = connection.call(&Call::get(&path, &[])).await?;
        if answer.status == 404 { Ok(answer) } else { connection.started(answer) }
    };
    let answer = retries.run(ask).await.map_err(|trouble| refuse(&trouble.text))?;
    if answer.status == 403 {
        tracing::warn!(pipeline = name, "this login may not see whether the ingest pipeline is there");
        return Ok(());
    }
    // A name with `*` or `,` in it is a pattern to the server, and may find others.
    let found: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match answer.status == 200 && found.get(name).is_some() {
        true => Ok(()),
        false => Err(refuse("there is none of this name")),
    }
}

/// Whether the server says that a pipeline is not there: the one that is set here, or the index's own.
pub(super) fn is_missing(kind: &str, text: &str) -> bool {
    let reason = text.strip_prefix(kind).and_then(|text| text.strip_prefix(": pipeline with id ["));
    kind == "illegal_argument_exception" && reason.is_some_and(|reason| reason.contains("] does not exist"))
}

/// A name as one segment of a path.
fn segment(name: &str) -> String {
    let mut segment = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            segment.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(segment, "%{byte:02X}");
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_whatever_it_holds() {
        assert_eq!(segment("geo_ip-1.2~x"), "geo_ip-1.2~x");
        assert_eq!(segment("geo ip/%?#ö"), "geo%20ip%2F%25%3F%23%C3%B6");
    }

    #[test]
    fn a_pipeline_that_is_not_there_is_told_from_what_is_wrong_with_a_document() {
        let kind = "illegal_argument_exception";
        assert!(is_missing(kind, "illegal_argument_exception: pipeline with id [geo] does not exist"));
        for (kind, text) in [
            (kind, "illegal_argument_exception: field [geo] does not exist"),
            (kind, "illegal_argument_exception: no pipeline with id [geo] does not exist"),
            (kind, "illegal_argument_exception: pipeline with id [geo] could not be loaded"),
            ("fail_processor_exception", "fail_processor_exception: pipeline with id [geo] does not exist"),
            ("", ""),
        ] {
            assert!(!is_missing(kind, text), "{text}");
        }
    }
}
