//! What a writer hands over for an epoch: the rows themselves, since nothing else of them survives a crash.
//!
//! Inside the frame: length of the head (`u32`, little endian), head (bincode), rows (COPY's text format, zstd where it pays).

use serde::{Deserialize, Serialize};
use shardflow::{Error, Result};

use crate::frame;

const MAGIC: [u8; 4] = *b"SFpg";
const VERSION: u16 = 1;
const WHAT: &str = "a handle of the postgres sink";

/// Fewer bytes are not worth the effort.
const PACKED_FROM: usize = 512;

/// Fast: the rows are read once, within seconds as a rule.
const LEVEL: i32 = 1;

/// A record that can never be written, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SetAside {
    pub(crate) error: String,
    /// As [`row::show`](super::row::show) shows it.
    pub(crate) row: String,
}

/// What is known of a handle's rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// The start that staged them.
    pub(crate) incarnation: u64,
    /// The worker that staged them.
    pub(crate) worker: u32,
    /// The columns as they were then: a later program may have others.
    pub(crate) columns: Vec<String>,
    /// How many rows.
    pub(crate) count: u64,
    /// Their bytes, unpacked.
    pub(crate) length: u64,
    /// Whether they are compressed with zstd.
    pub(crate) packed: bool,
    /// Records that are refused already.
    pub(crate) set_aside: Vec<SetAside>,
}

/// One writer's part of one epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(crate) head: Head,
    body: Vec<u8>,
}

impl Handle {
    /// Packs `rows`, of which there are `head.count`. `head.length` and `head.packed` are set here.
    pub(crate) fn new(mut head: Head, rows: Vec<u8>) -> Result<Self> {
        head.length = rows.len() as u64;
        head.packed = false;
        if rows.len() >= PACKED_FROM {
            let packed = zstd::bulk::compress(&rows, LEVEL)
                .map_err(|cause| Error::internal("could not compress rows").caused_by(cause))?;
            if packed.len() < rows.len() {
                head.packed = true;
                return Ok(Self { head, body: packed });
            }
        }
        Ok(Self { head, body: rows })
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let failed = || Error::internal(format!("could not encode {WHAT}"));
        let head = bincode::serialize(&self.head).map_err(|cause| failed().caused_by(cause))?;
        let length = u32::try_from(head.len()).map_err(|cause| failed().caused_by(cause))?;
        let mut payload = Vec::with_capacity(head.len().saturating_add(self.body.len()).saturating_add(4));
        payload.extend_from_slice(&length.to_le_bytes());
        payload.extend_from_slice(&head);
        payload.extend_from_slice(&self.body);
        Ok(frame::seal(MAGIC, VERSION, &payload))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let payload = frame::open(WHAT, MAGIC, VERSION, bytes)?;
        let refuse = || Error::state(format!("could not decode {WHAT}"));
        let (length, rest) = payload.split_first_chunk::<4>().ok_or_else(refuse)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|cause| refuse().caused_by(cause))?;
        let (head, body) = rest.split_at_checked(length).ok_or_else(refuse)?;
        let head: Head = bincode::deserialize(head).map_err(|cause| refuse().caused_by(cause))?;
        Ok(Self { head, body: body.to_vec() })
    }

    /// Appends the rows.
    pub(crate) fn unpack(&self, rows: &mut Vec<u8>) -> Result<()> {
        let refuse = |cause| Error::state(format!("could not unpack {WHAT}")).caused_by(cause);
        let start = rows.len();
        if self.head.packed {
            // The handle's checksum has been right, so the length is what was written.
            let expected = usize::try_from(self.head.length).unwrap_or(usize::MAX);
            let unpacked = zstd::bulk::decompress(&self.body, expected).map_err(refuse)?;
            if rows.is_empty() {
                *rows = unpacked;
            } else {
                rows.extend_from_slice(&unpacked);
            }
        } else {
            rows.extend_from_slice(&self.body);
        }
        let length = rows.len().saturating_sub(start) as u64;
        if length != self.head.length {
            let expected = self.head.length;
            return Err(Error::state(format!("could not unpack {WHAT}: {length} bytes came out and not {expected}")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(count: u64) -> Head {
        Head {
            incarnation: 3,
            worker: 1,
            columns: vec!["account".to_owned(), "cents".to_owned()],
            count,
            length: 0,
            packed: false,
            set_aside: vec![SetAside { error: "column \"account\": no".to_owned(), row: "{}".to_owned() }],
        }
    }

    fn small() -> Handle {
        Handle::new(head(2), b"a\t1\nb\\n\t\\N\n".to_vec()).unwrap()
    }

    fn large() -> (Handle, Vec<u8>) {
        let rows = b"account\t12345\n".repeat(1_000);
        (Handle::new(head(1_000), rows.clone()).unwrap(), rows)
    }

    fn rows(handle: &Handle) -> Vec<u8> {
        let mut rows = b"before".to_vec();
        handle.unpack(&mut rows).unwrap();
        rows.split_off(6)
    }

    /// Such handles lie in users' state folders: they stay readable, and are still what we write.
    #[test]
    fn version_1_stays_readable() {
        let stored = include_bytes!("../../tests/fixtures/postgres-handle-v1.bin");
        assert_eq!(Handle::decode(stored).unwrap(), small());
        assert_eq!(small().encode().unwrap(), stored);
        // Another zstd may pack otherwise, so only reading is held here.
        let stored = include_bytes!("../../tests/fixtures/postgres-handle-v1-packed.bin");
        let handle = Handle::decode(stored).unwrap();
        assert!(handle.head.packed);
        assert_eq!((rows(&handle), handle.head), (large().1, large().0.head));
    }

    #[test]
    fn large_handles_are_packed() {
        let (handle, rows) = large();
        assert!(handle.encode().unwrap().len() < rows.len() / 10);
    }

    #[test]
    fn a_damaged_handle_is_an_error() {
        let bytes = large().0.encode().unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(Handle::decode(&damaged).is_err(), "byte {at}");
            assert!(Handle::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn rows_of_another_length_are_an_error() {
        for mut handle in [small(), large().0] {
            handle.head.length += 1;
            assert!(handle.unpack(&mut Vec::new()).unwrap_err().to_string().contains("came out"));
        }
        let mut handle = large().0;
        handle.body.truncate(10);
        assert!(handle.unpack(&mut Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn a_handle_comes_back_as_it_was(bytes in prop::collection::vec(any::<u8>(), 0..3_000), count: u64) {
            let handle = Handle::new(head(count), bytes.clone()).unwrap();
            let read = Handle::decode(&handle.encode().unwrap()).unwrap();
            prop_assert_eq!(&read, &handle);
            prop_assert_eq!(rows(&read), bytes);
        }
    }
}
