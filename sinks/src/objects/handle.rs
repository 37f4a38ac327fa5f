//! What a writer hands over for an epoch: which spool files it wrote to, and how many of their bytes count.

use serde::{Deserialize, Serialize};
use shardflow::{Epoch, Error, Result};

use crate::frame;

const MAGIC: [u8; 4] = *b"SFob";
const VERSION: u16 = 1;

/// One writer's part of one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Handle {
    /// The start that staged it.
    pub(super) incarnation: u64,
    /// The worker that staged it.
    pub(super) worker: u32,
    /// The spool files, in the order of their first records.
    pub(super) pieces: Vec<Piece>,
}

/// A spool file at the end of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Piece {
    /// Which of the writer's files it is.
    pub(super) serial: u64,
    /// The first epoch with records in it.
    pub(super) first: Epoch,
    /// Bytes that belong to this epoch or an earlier one. What follows belongs to epochs that may never commit.
    pub(super) length: u64,
    /// Whether the writer goes on writing to it: it is not sealed then.
    pub(super) open: bool,
}

impl Handle {
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let payload = bincode::serialize(self)
            .map_err(|cause| Error::internal("could not encode a handle of the object sink").caused_by(cause))?;
        Ok(frame::seal(MAGIC, VERSION, &payload))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let payload = frame::open("a handle of the object sink", MAGIC, VERSION, bytes)?;
        bincode::deserialize(payload)
            .map_err(|cause| Error::state("could not decode a handle of the object sink").caused_by(cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Handle {
        let pieces = vec![
            Piece { serial: 6, first: Epoch::new(9), length: 1 << 40, open: false },
            Piece { serial: 7, first: Epoch::new(12), length: 12, open: true },
        ];
        Handle { incarnation: 3, worker: 1, pieces }
    }

    /// Such handles lie in users' state folders: they stay readable, and are still what we write.
    #[test]
    fn version_1_stays_readable() {
        let stored = include_bytes!("../../tests/fixtures/object-handle-v1.bin");
        assert_eq!(Handle::decode(stored).unwrap(), sample());
        assert_eq!(sample().encode().unwrap(), stored);
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
