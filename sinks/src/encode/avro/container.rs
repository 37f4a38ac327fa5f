//! The frame of an object container file: <https://avro.apache.org/docs/1.12.0/specification/#object-container-files>.

use md5::{Digest, Md5};

/// What stands behind the header and each block.
pub(super) type Marker = [u8; 16];

/// The marker of a file with this schema, codec and first block.
pub(super) fn marker(schema: &str, codec: &str, first: &[u8]) -> Marker {
    let length = (schema.len() as u64).to_le_bytes();
    Md5::new().chain_update(length).chain_update(schema).chain_update(codec).chain_update(first).finalize().into()
}

/// Magic, metadata and marker.
pub(super) fn header(schema: &str, codec: &str, marker: Marker, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Obj\x01");
    // A map of bytes: a block of two entries, and the end.
    long(2, out);
    for (key, value) in [("avro.codec", codec), ("avro.schema", schema)] {
        bytes(key.as_bytes(), out);
        bytes(value.as_bytes(), out);
    }
    long(0, out);
    out.extend_from_slice(&marker);
}

/// One block of records.
pub(super) fn block(records: i64, packed: &[u8], marker: Marker, out: &mut Vec<u8>) {
    long(records, out);
    bytes(packed, out);
    out.extend_from_slice(&marker);
}

fn bytes(bytes: &[u8], out: &mut Vec<u8>) {
    // No slice is longer than i64::MAX bytes.
    long(i64::try_from(bytes.len()).unwrap_or(i64::MAX), out);
    out.extend_from_slice(bytes);
}

/// Zigzag, then seven bits a byte, the least first.
fn long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest > 0x7f {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_specification_shows() {
        for (value, expected) in [
            (0, vec![0x00]),
            (-1, vec![0x01]),
            (1, vec![0x02]),
            (-2, vec![0x03]),
            (-64, vec![0x7f]),
            (64, vec![0x80, 0x01]),
            (i64::MAX, vec![0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
            (i64::MIN, vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ] {
            let mut out = Vec::new();
            long(value, &mut out);
            assert_eq!(out, expected, "{value}");
        }
    }

    #[test]
    fn schema_codec_and_first_block_each_change_the_marker() {
        let one = marker("a", "b", b"c");
        assert_eq!(one, marker("a", "b", b"c"));
        for other in [marker("ab", "", b"c"), marker("a", "c", b"c"), marker("a", "b", b"d")] {
            assert_ne!(one, other);
        }
    }
}
