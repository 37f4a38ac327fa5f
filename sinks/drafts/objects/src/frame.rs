//! A stored handle says what it is, in which version, and that it is whole.
//!
//! Layout: magic (4 bytes), version (`u16`, little endian), payload, CRC-32 of all before it (`u32`, little endian).

use shardflow::{Error, Result};

/// Wraps a payload.
pub(crate) fn seal(magic: [u8; 4], version: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len().saturating_add(10));
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(payload);
    let sum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// Checks a frame and gives its payload. `what` names it in errors; `version` is the only one this program knows.
pub(crate) fn open<'a>(what: &str, magic: [u8; 4], version: u16, bytes: &'a [u8]) -> Result<&'a [u8]> {
    let refuse = |why: String| Error::state(format!("could not read {what} of {} bytes: {why}", bytes.len()));
    let (body, sum) = bytes.split_last_chunk::<4>().ok_or_else(|| refuse("it is cut short".into()))?;
    if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
        return Err(refuse("its checksum does not match".into()));
    }
    let (found, rest) = body.split_first_chunk::<4>().ok_or_else(|| refuse("it is cut short".into()))?;
    if *found != magic {
        return Err(refuse("it belongs to another kind of sink".into()));
    }
    let (found, payload) = rest.split_first_chunk::<2>().ok_or_else(|| refuse("it is cut short".into()))?;
    let found = u16::from_le_bytes(*found);
    if found != version {
        return Err(refuse(format!("version {found} is not this program's {version}")));
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: [u8; 4] = *b"test";

    #[test]
    fn what_was_sealed_opens() {
        assert_eq!(open("a handle", MAGIC, 3, &seal(MAGIC, 3, b"payload")).unwrap(), b"payload");
        assert_eq!(open("a handle", MAGIC, 3, &seal(MAGIC, 3, b"")).unwrap(), b"");
    }

    #[test]
    fn another_kind_or_version_is_refused_by_name() {
        let sealed = seal(MAGIC, 3, b"payload");
        let kind = open("a handle", *b"else", 3, &sealed).unwrap_err().to_string();
        let version = open("a handle", MAGIC, 2, &sealed).unwrap_err().to_string();
        assert!(kind.contains("another kind of sink"), "{kind}");
        assert!(version.contains("version 3 is not this program's 2"), "{version}");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let sealed = seal(MAGIC, 3, b"payload");
        for at in 0..sealed.len() {
            assert!(open("a handle", MAGIC, 3, &sealed[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut damaged = sealed.clone();
                damaged[at] ^= 1 << bit;
                assert!(open("a handle", MAGIC, 3, &damaged).is_err(), "bit {bit} of byte {at}");
            }
        }
    }
}
