//! Every stored value says what it is and proves that it is whole: magic, kind, format version, length, checksum.
//!
//! ```text
//! 0     4     5        7         15      19
//! SFLW  kind  version  length    crc32   payload …        numbers little endian; the crc covers bytes 4..15 and the payload
//! ```

use crate::error::{Error, Result};

/// The four bytes that every stored value starts with.
pub const MAGIC: [u8; 4] = *b"SFLW";
/// The newest format this program writes and reads. Older ones stay readable, see `tests/fixtures`.
pub const FORMAT_VERSION: u16 = 1;
/// Bytes before the payload.
pub const HEADER: usize = 19;

const CHECKED_HEADER: std::ops::Range<usize> = 4..15;

/// What a frame holds. A value read back as another kind is refused, so that a mix-up is an error and no wrong state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Changes of one step, worker and epoch.
    Changelog = 1,
    /// Whose folder it is.
    Job = 2,
    /// The marker file beside the database: the last committed epoch.
    Marker = 3,
    /// What was fixed at the job's first start.
    Identity = 4,
    /// The steps and their numbers.
    Steps = 5,
    /// One committed epoch.
    Epoch = 6,
    /// How far changelogs have been folded into the base.
    Folded = 7,
    /// The number of the last start.
    Incarnation = 8,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Changelog => "changelog",
            Self::Job => "job file",
            Self::Marker => "committed file",
            Self::Identity => "identity record",
            Self::Steps => "step list",
            Self::Epoch => "epoch record",
            Self::Folded => "fold record",
            Self::Incarnation => "incarnation record",
        })
    }
}

/// Wraps `payload` into a frame.
///
/// # Examples
/// ```
/// use shardflow::state::frame::{Kind, seal, unseal};
/// let sealed = seal(Kind::Job, b"metering");
/// assert_eq!(unseal(Kind::Job, &sealed).unwrap(), b"metering");
/// assert!(unseal(Kind::Job, &sealed[..20]).is_err());
/// ```
#[must_use]
pub fn seal(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER.saturating_add(payload.len()));
    frame.resize(HEADER, 0);
    frame.extend_from_slice(payload);
    seal_in_place(kind, frame)
}

/// Turns a buffer whose first [`HEADER`] bytes were left free into a frame: the payload is not copied.
#[must_use]
pub fn seal_in_place(kind: Kind, mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(frame.len().max(HEADER), 0);
    let length = (frame.len().saturating_sub(HEADER)) as u64;
    let mut header = [0; HEADER];
    header[0..4].copy_from_slice(&MAGIC);
    header[4] = kind as u8;
    header[5..7].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[7..15].copy_from_slice(&length.to_le_bytes());
    let payload = frame.get(HEADER..).unwrap_or_default();
    let crc = crc(&header, payload);
    header[15..19].copy_from_slice(&crc.to_le_bytes());
    if let Some(room) = frame.first_chunk_mut::<HEADER>() {
        *room = header;
    }
    frame
}

/// The payload of a frame of this kind.
///
/// # Errors
/// It is cut short, damaged, of another kind, of a newer format, or no frame at all; the error says which.
pub fn unseal(kind: Kind, frame: &[u8]) -> Result<&[u8]> {
    let refuse = |why: String| Err(Error::state(format!("could not read the {kind}: {why}")));
    let Some((header, payload)) = frame.split_first_chunk::<HEADER>() else {
        return refuse(format!("it is cut short, {} bytes and not even a header of {HEADER}", frame.len()));
    };
    if !header.starts_with(&MAGIC) {
        return refuse("it does not start with \"SFLW\"".into());
    }
    // The version comes before the checksum: a newer format may place its checksum elsewhere.
    let version = u16::from_le_bytes([header[5], header[6]]);
    if version == 0 || version > FORMAT_VERSION {
        return refuse(format!("its format version {version} is newer than this program's {FORMAT_VERSION}"));
    }
    let length = u64::from_le_bytes(header[7..15].try_into().unwrap_or_default());
    if length != payload.len() as u64 {
        return refuse(format!("it is damaged, {} bytes where its header says {length}", payload.len()));
    }
    if stored_crc(header) != crc(header, payload) {
        return refuse("it is damaged, its checksum does not match".into());
    }
    if header[4] != kind as u8 {
        return refuse(format!("it is a value of another kind ({})", header[4]));
    }
    Ok(payload)
}

/// The checksum that the header of a frame carries, without looking at the payload. It identifies the frame's content.
///
/// # Errors
/// The frame is cut short.
pub fn checksum(frame: &[u8]) -> Result<u32> {
    let header =
        frame.first_chunk::<HEADER>().ok_or_else(|| Error::state("could not read a frame: it is cut short"))?;
    Ok(stored_crc(header))
}

fn stored_crc(header: &[u8; HEADER]) -> u32 {
    u32::from_le_bytes([header[15], header[16], header[17], header[18]])
}

fn crc(header: &[u8; HEADER], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[CHECKED_HEADER]);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_frame_of_another_kind_is_refused() {
        let error = unseal(Kind::Steps, &seal(Kind::Job, b"x")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State);
        assert_eq!(error.to_string(), "could not read the step list: it is a value of another kind (2)");
    }

    #[test]
    fn a_newer_format_is_named() {
        let mut frame = seal(Kind::Job, b"x");
        frame[5] = 9;
        assert!(
            unseal(Kind::Job, &frame).unwrap_err().to_string().contains("version 9 is newer than this program's 1")
        );
    }

    #[test]
    fn an_empty_payload_is_a_frame() {
        assert_eq!(unseal(Kind::Job, &seal(Kind::Job, b"")).unwrap(), b"");
        assert_eq!(unseal(Kind::Job, &seal_in_place(Kind::Job, Vec::new())).unwrap(), b"");
    }

    proptest! {
        #[test]
        fn what_was_sealed_is_unsealed(payload: Vec<u8>) {
            let frame = seal(Kind::Changelog, &payload);
            prop_assert_eq!(unseal(Kind::Changelog, &frame).unwrap(), &payload[..]);
        }

        #[test]
        fn every_cut_and_every_flipped_bit_is_an_error(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            let frame = seal(Kind::Changelog, &payload);
            for length in 0..frame.len() {
                prop_assert!(unseal(Kind::Changelog, &frame[..length]).is_err());
            }
            for bit in 0..frame.len() * 8 {
                let mut damaged = frame.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(unseal(Kind::Changelog, &damaged).is_err());
            }
        }

        #[test]
        fn no_bytes_at_all_make_it_panic(bytes: Vec<u8>) {
            prop_assert!(unseal(Kind::Changelog, &bytes).is_err());
        }
    }
}
