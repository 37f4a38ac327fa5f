//! What a writer hands over for an epoch: which staged files it wrote to, and how many of their bytes count.

use serde::{Deserialize, Serialize};
use shardflow::{Error, Result};

use crate::frame;

const MAGIC: [u8; 4] = *b"SFfi";
const VERSION: u16 = 1;

/// One writer's part of one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Handle {
    /// The start that staged it.
    pub(super) incarnation: u64,
    /// The worker that staged it.
    pub(super) worker: u32,
    /// The files, in the order of their first records.
    pub(super) pieces: Vec<Piece>,
}

/// A staged file at the end of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Piece {
    /// Which of the writer's files it is.
    pub(super) serial: u64,
    /// Its place among the files of this epoch and worker: part of its visible name.
    pub(super) part: u32,
    /// Bytes that belong to this epoch or an earlier one. What follows belongs to epochs that may never commit.
    pub(super) length: u64,
    /// Whether the writer goes on writing to it: it stays out of sight then.
    pub(super) open: bool,
}

impl Handle {
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let payload = bincode::serialize(self)
            .map_err(|cause| Error::internal("could not encode a handle of the file sink").caused_by(cause))?;
        Ok(frame::seal(MAGIC, VERSION, &payload))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let payload = frame::open("a handle of the file sink", MAGIC, VERSION, bytes)?;
        bincode::deserialize(payload)
            .map_err(|cause| Error::state("could not decode a handle of the file sink").caused_by(cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Handle {
        let pieces = vec![
            Piece { serial: 6, part: 0, length: 1 << 40, open: false },
            Piece { serial: 7, part: 1, length: 12, open: true },
        ];
        Handle { incarnation: 3, worker: 1, pieces }
    }

    /// Such handles lie in users' state folders: they stay readable, and are still what we write.
    #[test]
    fn version_1_stays_readable() {
        let stored = include_bytes!("../../tests/fixtures/file-handle-v1.bin");
        assert_eq!(Handle::decode(stored).unwrap(), sample());
        assert_eq!(sample().encode().unwrap(), stored);
    }

    #[test]
    fn a_handle_comes_back_as_it_was() {
        assert_eq!(Handle::decode(&sample().encode().unwrap()).unwrap(), sample());
    }

    #[test]
    fn a_damaged_handle_is_an_error() {
        let bytes = sample().encode().unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(Handle::decode(&damaged).is_err(), "byte {at}");
            assert!(Handle::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
