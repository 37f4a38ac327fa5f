//! An epoch's records as a handle. Pure.
//!
//! A frame around: how many there are (`u64`, little endian), then each in bincode.

use serde::Serialize;
use serde::de::DeserializeOwned;
use shardflow::{Error, Result};

use crate::frame;

const MAGIC: [u8; 4] = *b"SFch";
const VERSION: u16 = 1;

/// One worker's records of the open epoch.
#[derive(Debug, Default)]
pub(super) struct Collected {
    count: u64,
    records: Vec<u8>,
}

impl Collected {
    /// Adds a record.
    ///
    /// # Errors
    /// It has no form in bincode. Nothing is added then.
    pub(super) fn push(&mut self, record: &impl Serialize) -> Result<()> {
        let start = self.records.len();
        bincode::serialize_into(&mut self.records, record).map_err(|cause| {
            self.records.truncate(start);
            Error::sink("could not write a record").caused_by(cause)
        })?;
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    pub(super) fn bytes(&self) -> u64 {
        self.records.len() as u64
    }

    /// The handle of what was added since the last one.
    pub(super) fn seal(&mut self) -> Option<Vec<u8>> {
        let Self { count, records } = std::mem::take(self);
        (count > 0).then(|| frame::seal(MAGIC, VERSION, &[&count.to_le_bytes(), records.as_slice()].concat()))
    }
}

/// The records of a handle.
///
/// # Errors
/// It is damaged, or of records of another type.
pub(super) fn open<T: DeserializeOwned>(handle: &[u8]) -> Result<Vec<T>> {
    let payload = frame::open("a handle of the channel sink", MAGIC, VERSION, handle)?;
    let other = || {
        Error::state("could not read a handle of the channel sink: its records are of another type than this program's")
    };
    let (count, mut rest) = payload.split_first_chunk::<8>().ok_or_else(other)?;
    let count = u64::from_le_bytes(*count);
    let mut records = Vec::new();
    for _ in 0..count {
        records.push(bincode::deserialize_from(&mut rest).map_err(|cause| other().caused_by(cause))?);
    }
    if rest.is_empty() { Ok(records) } else { Err(other()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealed(records: &[String]) -> Option<Vec<u8>> {
        let mut collected = Collected::default();
        records.iter().for_each(|record| collected.push(record).unwrap());
        collected.seal()
    }

    #[test]
    fn nothing_has_no_handle() {
        assert_eq!(sealed(&[]), None);
    }

    #[test]
    fn the_stored_form_stays_readable() {
        // Written by the first version of this format.
        let v1 = [&b"SFch\x01\0"[..], &[1, 0, 0, 0, 0, 0, 0, 0], &[1, 0, 0, 0, 0, 0, 0, 0], b"a"].concat();
        let v1 = [v1.clone(), crc32fast::hash(&v1).to_le_bytes().to_vec()].concat();
        assert_eq!(sealed(&["a".to_owned()]).unwrap(), v1);
        assert_eq!(open::<String>(&v1).unwrap(), ["a"]);
    }

    #[test]
    fn records_of_another_type_are_refused() {
        let handle = sealed(&["abc".to_owned()]).unwrap();
        let error = open::<(u64, u64, u64)>(&handle).unwrap_err().to_string();
        assert!(error.contains("another type"), "{error}");
        assert!(open::<u8>(&handle).is_err(), "bytes are left");
    }

    #[test]
    fn a_record_that_cannot_be_written_leaves_the_others_alone() {
        struct Bad;
        impl Serialize for Bad {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::{Error, SerializeTuple};
                let mut tuple = serializer.serialize_tuple(2)?;
                tuple.serialize_element(&7_u64)?;
                Err(S::Error::custom("no"))
            }
        }
        let mut collected = Collected::default();
        collected.push(&"a").unwrap();
        assert!(collected.push(&Bad).is_err());
        collected.push(&"b").unwrap();
        assert_eq!(open::<String>(&collected.seal().unwrap()).unwrap(), ["a", "b"]);
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens_and_what_is_damaged_does_not(records in prop::collection::vec(".*", 1..20), at: prop::sample::Index, flip in 1u8..) {
            let mut handle = sealed(&records).unwrap();
            prop_assert_eq!(open::<String>(&handle).unwrap(), records);
            let at = at.index(handle.len());
            handle[at] ^= flip;
            prop_assert!(open::<String>(&handle).is_err());
        }
    }
}
