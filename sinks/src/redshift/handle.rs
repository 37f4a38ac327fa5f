//! What a writer hands over for an epoch: the names of the files that hold its rows.

use serde::{Deserialize, Serialize};
use shardflow::{Error, Result};

use crate::frame;
use crate::postgres::handle::SetAside;

const MAGIC: [u8; 4] = *b"SFrs";
const VERSION: u16 = 1;
const WHAT: &str = "a handle of the redshift sink";

/// A file that is complete in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StagedFile {
    /// Its key.
    pub(super) key: String,
    /// Its length.
    pub(super) bytes: u64,
    pub(super) rows: u64,
}

/// One writer's part of one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Handle {
    /// The start that staged it.
    pub(super) incarnation: u64,
    /// The worker that staged it.
    pub(super) worker: u32,
    /// The bucket, as `s3://bucket`: a later program may have another.
    pub(super) bucket: String,
    /// The columns as they were then.
    pub(super) columns: Vec<String>,
    pub(super) files: Vec<StagedFile>,
    /// Records that are refused already.
    pub(super) set_aside: Vec<SetAside>,
}

impl Handle {
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let payload = bincode::serialize(self)
            .map_err(|cause| Error::internal(format!("could not encode {WHAT}")).caused_by(cause))?;
        Ok(frame::seal(MAGIC, VERSION, &payload))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let payload = frame::open(WHAT, MAGIC, VERSION, bytes)?;
        bincode::deserialize(payload).map_err(|cause| Error::state(format!("could not decode {WHAT}")).caused_by(cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Handle {
        Handle {
            incarnation: 3,
            worker: 1,
            bucket: "s3://staging".to_owned(),
            columns: vec!["account".to_owned(), "cents".to_owned()],
            files: vec![StagedFile { key: "billing/charges/0000000003-7-1-0.json.gz".to_owned(), bytes: 80, rows: 2 }],
            set_aside: vec![SetAside { error: "column \"account\": no".to_owned(), row: "{}".to_owned() }],
        }
    }

    /// Such handles lie in users' state folders: they stay readable, and are still what we write.
    #[test]
    fn version_1_stays_readable() {
        let stored = include_bytes!("../../tests/fixtures/redshift-handle-v1.bin");
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
