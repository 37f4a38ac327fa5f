//! What the records of the folder hold. Each is one sealed frame.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sink::StagedHandle;
use crate::state::codec;
use crate::state::frame::{self, Kind};
use crate::vocabulary::{Epoch, Incarnation, StepName};

/// A step as the snapshot knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepInfo {
    /// Its name in the flow: the address of its state.
    pub name: StepName,
    /// What kind of state it keeps: `"window"`, `"dedupe"`, `"source"`, …
    pub kind: String,
    /// The version of its state types.
    pub version: u32,
}

/// The file `job`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JobFile {
    pub(super) job: String,
}

/// The file `committed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) epoch: Option<Epoch>,
    pub(super) incarnation: Incarnation,
}

/// What is fixed at the job's first start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IdentityRecord {
    pub(super) job: String,
    pub(super) key_groups: u16,
    pub(super) secret: [u8; 16],
}

/// A step and the number that stands for its name in keys. Numbers are never used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StepRecord {
    pub(super) id: u32,
    pub(super) info: StepInfo,
    pub(super) dropped: bool,
}

/// One changelog of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogEntry {
    pub(super) step: u32,
    pub(super) worker: u32,
    pub(super) bytes: u64,
    pub(super) checksum: u32,
}

/// A committed epoch: a link of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EpochRecord {
    pub(super) epoch: Epoch,
    /// The epoch committed before it.
    pub(super) previous: Option<Epoch>,
    pub(super) logs: Vec<LogEntry>,
    /// All handles that were not acknowledged, those of earlier epochs among them.
    pub(super) handles: Vec<(StepName, StagedHandle)>,
}

impl EpochRecord {
    pub(super) fn bytes(&self) -> u64 {
        self.logs.iter().fold(0, |sum, log| sum.saturating_add(log.bytes))
    }
}

/// How far the changelogs are in the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Folded {
    pub(super) through: Option<Epoch>,
}

/// The sealed bytes of a record.
pub(super) fn seal<T: Serialize>(kind: Kind, record: &T) -> Result<Vec<u8>> {
    let mut buffer = vec![0; frame::HEADER];
    codec::encode_into(record, &mut buffer)?;
    Ok(frame::seal_in_place(kind, buffer))
}

pub(super) fn unseal<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<T> {
    codec::decode(frame::unseal(kind, bytes)?)
}

impl Marker {
    /// Always of one length: it is written over the last one in place.
    pub(super) fn seal(self) -> Vec<u8> {
        let mut payload = vec![u8::from(self.epoch.is_some())];
        payload.extend_from_slice(&self.epoch.unwrap_or_default().number().to_le_bytes());
        payload.extend_from_slice(&self.incarnation.number().to_le_bytes());
        frame::seal(Kind::Marker, &payload)
    }

    pub(super) fn unseal(bytes: &[u8]) -> Result<Self> {
        let payload = frame::unseal(Kind::Marker, bytes)?;
        let wrong = || Error::state("could not read the committed file: it has another length");
        let (some, rest) = payload.split_first().ok_or_else(wrong)?;
        let (epoch, rest) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
        let incarnation: [u8; 8] = rest.try_into().map_err(|_| wrong())?;
        let epoch = (*some != 0).then(|| Epoch::new(u64::from_le_bytes(*epoch)));
        Ok(Self { epoch, incarnation: Incarnation::new(u64::from_le_bytes(incarnation)) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn markers_have_one_length_and_survive(epoch: Option<u64>, incarnation: u64) {
            let marker = Marker { epoch: epoch.map(Epoch::new), incarnation: Incarnation::new(incarnation) };
            prop_assert_eq!(Marker::unseal(&marker.seal()).unwrap(), marker);
            prop_assert_eq!(marker.seal().len(), 36);
        }

        #[test]
        fn no_payload_makes_a_record_panic(payload: Vec<u8>) {
            let _ = Marker::unseal(&frame::seal(Kind::Marker, &payload));
            let _ = unseal::<EpochRecord>(Kind::Epoch, &frame::seal(Kind::Epoch, &payload));
            let _ = unseal::<Vec<StepRecord>>(Kind::Steps, &frame::seal(Kind::Steps, &payload));
        }
    }
}
