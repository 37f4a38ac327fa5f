//! `shardflow stream tail`.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use shardflow_sources::stream::{Record, Stream, TailOptions};

use crate::args::Tail;
use crate::json;
use crate::out::{Out, Stop};

pub(crate) async fn run(stream: &Stream, args: &Tail) -> Result<(), Stop> {
    let options = TailOptions { start: args.from, shards: args.shard.iter().cloned().collect() };
    tokio::select! {
        printed = print(stream, options, args) => printed,
        // Whoever follows a stream ends it in this way: no failure.
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn print(stream: &Stream, options: TailOptions, args: &Tail) -> Result<(), Stop> {
    let mut tail = stream.tail(options).await?;
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut out = Out::new();
    while let Some(records) = tail.next().await? {
        for record in records.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            let line = if args.json { json::record(record) } else { line(record) };
            out.write(&line)?;
            out.write("\n")?;
            left -= 1;
        }
        // A page at a time, so that records are seen as they come.
        out.flush()?;
        if left == 0 {
            return Ok(());
        }
    }
    Ok(())
}

/// `2026-11-01T12:00:00.25Z shardId-000000000000 4957…[.2] key data`, with control characters escaped; data that is no text in
/// base64, after `base64:`.
fn line(record: &Record) -> String {
    let arrived = record.arrived.map_or_else(|| "-".to_owned(), |time| time.to_string());
    let mut line = format!("{arrived} {} {}", record.shard, record.sequence);
    if let Some(sub) = record.sub_sequence {
        // Writing to a string cannot fail.
        let _ = write!(line, ".{sub}");
    }
    line.push(' ');
    push_escaped(&mut line, record.partition_key.as_deref().unwrap_or("-"));
    line.push(' ');
    match std::str::from_utf8(&record.data) {
        Ok(text) => push_escaped(&mut line, text),
        Err(_) => {
            line.push_str("base64:");
            line.push_str(&BASE64_STANDARD.encode(&record.data));
        }
    }
    line
}

/// A terminal must not obey what lies in a stream, and a record is a line.
fn push_escaped(line: &mut String, text: &str) {
    for character in text.chars() {
        if character.is_control() { line.extend(character.escape_default()) } else { line.push(character) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_line_whatever_it_holds() {
        let mut record = Record {
            shard: "shardId-000000000000".to_owned(),
            sequence: "495".to_owned(),
            sub_sequence: None,
            partition_key: Some("k\n".to_owned()),
            explicit_hash_key: None,
            arrived: None,
            data: "ü\u{1b}[31m\t\"x\"\n".into(),
        };
        assert_eq!(line(&record), r#"- shardId-000000000000 495 k\n ü\u{1b}[31m\t"x"\n"#);
        record.sub_sequence = Some(2);
        record.partition_key = None;
        record.arrived = Some("2026-11-01T12:00:00Z".parse().unwrap());
        record.data = vec![0xFF];
        assert_eq!(line(&record), "2026-11-01T12:00:00Z shardId-000000000000 495.2 - base64:/w==");
    }
}
