//! The frames of an AWS event stream: found in a stream of bytes, and made. Pure.
//!
//! A frame is its total length, the length of its headers (four bytes each, big-endian), their CRC-32, the headers, the
//! payload, and a CRC-32 of all before. A header is a length byte, its name, the type byte 7 for a string, a two-byte length
//! and the string. (Amazon Transcribe's developer guide, "Event stream encoding".)

use bytes::{Buf, Bytes, BytesMut};
use serde_json::Value;

/// The lengths of a frame and their checksum.
pub(crate) const PRELUDE: usize = 12;

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffered: BytesMut,
}

impl Frames {
    /// Takes what has arrived.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffered.extend_from_slice(bytes);
    }

    /// The next frame that has arrived whole.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        let length = self.buffered.get(..4)?.get_u32() as usize;
        assert!(length > PRELUDE, "not an event stream");
        (self.buffered.len() >= length).then(|| self.buffered.split_to(length).freeze())
    }

    /// What is left of a frame that did not arrive whole.
    pub(crate) fn rest(self) -> Bytes {
        self.buffered.freeze()
    }
}

/// Whether the frame carries records, which the initial response does not.
pub(crate) fn is_event(frame: &[u8]) -> bool {
    let name = b"initial-response";
    !parts(frame).0.windows(name.len()).any(|part| part == name)
}

/// An exception, as a server puts it into a stream.
pub(crate) fn exception(of: &str) -> Bytes {
    let mut headers = Vec::new();
    for (name, value) in
        [(":message-type", "exception"), (":exception-type", of), (":content-type", "application/x-amz-json-1.1")]
    {
        headers.push(u8::try_from(name.len()).expect("a short name"));
        headers.extend_from_slice(name.as_bytes());
        headers.push(7);
        headers.extend_from_slice(&u16::try_from(value.len()).expect("a short value").to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    made(&headers, format!(r#"{{"message":"{of}, by the fault proxy"}}"#).as_bytes())
}

/// The frame, with null for a continuation where it names a shard's children; any other as it is.
pub(crate) fn null_at_end(frame: Bytes) -> Bytes {
    let (headers, payload) = parts(&frame);
    let Ok(Value::Object(mut event)) = serde_json::from_slice(payload) else { return frame };
    if event.get("ChildShards").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        return frame;
    }
    event.insert("ContinuationSequenceNumber".to_owned(), Value::Null);
    made(headers, Value::Object(event).to_string().as_bytes())
}

/// The headers and the payload of a whole frame.
fn parts(frame: &[u8]) -> (&[u8], &[u8]) {
    let headers = frame.get(4..8).map_or(0, |mut length| length.get_u32() as usize);
    let end = frame.len().saturating_sub(4);
    let part = |range: std::ops::Range<usize>| frame.get(range).unwrap_or_default();
    (part(PRELUDE..PRELUDE + headers), part(PRELUDE + headers..end))
}

fn made(headers: &[u8], payload: &[u8]) -> Bytes {
    let length = |bytes: usize| u32::try_from(bytes).expect("a frame of less than 4 GiB").to_be_bytes();
    let mut frame = Vec::new();
    frame.extend_from_slice(&length(PRELUDE + headers.len() + payload.len() + 4));
    frame.extend_from_slice(&length(headers.len()));
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    frame.extend_from_slice(headers);
    frame.extend_from_slice(payload);
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    Bytes::from(frame)
}
