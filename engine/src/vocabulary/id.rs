//! What names a record to the outside, so that whoever gets it twice can tell.

use std::fmt;
use std::str::FromStr;

use bincode::Options;
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_128;

use crate::error::{Error, Result};

/// A record's id, which a replay repeats: 128 bits, printed as 32 hexadecimal digits.
///
/// It is made of what the record *is*: of a result its job, step, key and window; of a record that is passed through the
/// source, the split and the position (in an aggregate, with the index). Never of an epoch, or of a place in one: a replay
/// cuts epochs elsewhere.
///
/// | record | id |
/// |---|---|
/// | a window's result | [`WindowResult::id`](crate::WindowResult::id): job, step, key, window. A window fires once, so there is no revision |
/// | a running result | [`RunningResult::key_id`](crate::RunningResult::key_id): job, step, key. It is written with a version |
/// | a record passed through | [`Sourced::id`](crate::Sourced::id): source, split, position |
/// | a record that cannot be decoded | [`Rejected::id`](crate::Rejected::id): the same |
/// | anything else | [`Flow::ids`](crate::Flow::ids): job, step, and what tells it from the others of the step |
///
/// As JSON, and wherever else text is what readers expect, it is text: many of them would round the number.
///
/// # Examples
/// ```
/// use shardflow::RecordId;
/// let id = RecordId::of(&("charges", "acme", 1_700_000_000_000_u64))?;
/// assert_eq!(id, RecordId::of(&("charges".to_owned(), "acme".to_owned(), 1_700_000_000_000_u64))?);
/// assert_eq!(id.to_string().parse::<RecordId>()?, id);
/// # Ok::<(), shardflow::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(u128);

impl RecordId {
    /// The id of what these parts name: XXH3 (128 bits, seed 0) over bincode 1.3 with fixed-width, little-endian integers.
    /// It never changes for the same parts. What bincode writes alike has one id: lead with a word that tells one kind of
    /// record from another.
    ///
    /// # Errors
    /// Parts of this type cannot be serialized: they hold a struct with `#[serde(flatten)]`, or their own `Serialize` fails.
    /// An id of what could be written until then would be that of other records too.
    pub fn of<P: Serialize + ?Sized>(parts: &P) -> Result<Self> {
        Self::after(Vec::new(), parts)
    }

    /// The id of a record that was read. Texts can always be serialized.
    pub(crate) fn of_record(source: &str, split: &str, position: &str) -> Self {
        let mut bytes = Vec::new();
        for text in ["record", source, split, position] {
            push_text(text, &mut bytes);
        }
        Self(xxh3_128(&bytes))
    }

    /// The id of these parts, behind `bytes`.
    fn after<P: Serialize + ?Sized>(mut bytes: Vec<u8>, parts: &P) -> Result<Self> {
        let options = bincode::DefaultOptions::new().with_fixint_encoding();
        match options.serialize_into(&mut bytes, parts) {
            Ok(()) => Ok(Self(xxh3_128(&bytes))),
            Err(error) => {
                let name = std::any::type_name::<P>();
                Err(Error::config(format!("could not make a record's id of a `{name}`")).caused_by(error))
            }
        }
    }

    /// The id as a number.
    #[must_use]
    pub fn number(self) -> u128 {
        self.0
    }
}

/// Appends a text as bincode has it.
fn push_text(text: &str, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Reads what [`RecordId`] prints.
impl FromStr for RecordId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_printed = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let number = if is_printed { u128::from_str_radix(text, 16).ok() } else { None };
        number.map(Self).ok_or_else(|| Error::config(format!("could not read {text:?} as the id of a record")))
    }
}

impl Serialize for RecordId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for RecordId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return u128::deserialize(deserializer).map(Self);
        }
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &"32 hexadecimal digits"))
    }
}

/// Makes the ids of one step's records: what it names differs from what any other job or step names.
///
/// A result brings that of its step along; [`Flow::ids`](crate::Flow::ids) gives it for records that a program makes itself.
///
/// # Examples
/// ```
/// use shardflow::vocabulary::IdNamespace;
/// let (eu, us) = (IdNamespace::of_step("eu", "charges"), IdNamespace::of_step("us", "charges"));
/// assert_ne!(eu.id(&("acme", 7_u64))?, us.id(&("acme", 7_u64))?);
/// # Ok::<(), shardflow::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
// Bytes and no number: a number of 128 bits would make every result that it travels in larger than it is.
pub struct IdNamespace([u8; 16]);

impl IdNamespace {
    /// That of a step of the job of this name.
    #[must_use]
    pub fn of_step(job: &str, step: &str) -> Self {
        let mut bytes = Vec::new();
        for text in ["result", job, step] {
            push_text(text, &mut bytes);
        }
        Self(xxh3_128(&bytes).to_le_bytes())
    }

    /// The id of what these parts name within the step: as [`RecordId::of`], over this namespace's 16 bytes and the parts'.
    ///
    /// # Errors
    /// As of [`RecordId::of`].
    pub fn id<P: Serialize + ?Sized>(self, parts: &P) -> Result<RecordId> {
        RecordId::after(self.0.to_vec(), parts)
    }
}

impl fmt::Debug for IdNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdNamespace({:032x})", u128::from_le_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::vocabulary::EventTime;

    // As Python's xxhash has them for the same bytes. Whoever has ids of earlier versions would take repeats for new records.
    #[test]
    fn an_id_never_changes() {
        let id = RecordId::of(&("charges", "acme", 7_u64)).unwrap();
        assert_eq!(id.to_string(), "8d758d751a3d9e2c370aa49284a45e41");
        let record = RecordId::of_record("kinesis:usage", "shard-0", "12:1");
        assert_eq!(record.to_string(), "636139550acc61f90ede5b338167a4af");
        // As a window's result has it.
        let window = (EventTime::from_millis(60_000), EventTime::from_millis(120_000));
        let result = IdNamespace::of_step("eu", "minutes").id(&("acme", window.0, window.1)).unwrap();
        assert_eq!(result.to_string(), "375fce563e1b9c874dfd4f4ab45c0a48");
    }

    #[test]
    fn parts_do_not_run_into_one_another() {
        assert_ne!(RecordId::of(&("ab", "c")).unwrap(), RecordId::of(&("a", "bc")).unwrap());
        assert_ne!(RecordId::of(&("a", 1_u64)).unwrap(), RecordId::of(&("a", 2_u64)).unwrap());
        assert_ne!(RecordId::of_record("a", "b", "cd"), RecordId::of_record("a", "bc", "d"));
        assert_ne!(RecordId::of_record("a", "b", "cd"), RecordId::of_record("ab", "c", "d"));
        let (one, other) = (IdNamespace::of_step("ab", "c"), IdNamespace::of_step("a", "bc"));
        assert_ne!(one.id("key").unwrap(), other.id("key").unwrap());
    }

    /// bincode cannot write a struct whose number of fields it does not know, and stops at its beginning.
    #[derive(Serialize)]
    struct Flattened {
        #[serde(flatten)]
        inner: Inner,
    }

    #[derive(Serialize)]
    struct Inner {
        n: u64,
    }

    #[test]
    fn parts_that_cannot_be_serialized_have_no_id_and_the_error_names_their_type() {
        let parts = ("charges", Flattened { inner: Inner { n: 1 } });
        for error in [RecordId::of(&parts), IdNamespace::of_step("job", "step").id(&parts)].map(Result::unwrap_err) {
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains("Flattened"), "{error}");
        }
    }

    #[test]
    fn an_id_is_text_in_json_and_a_number_in_state() {
        let id = RecordId::of("acme").unwrap();
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<RecordId>(&json).unwrap(), id);
        let bytes = bincode::serialize(&id).unwrap();
        assert_eq!(bytes, id.number().to_le_bytes());
        assert_eq!(bincode::deserialize::<RecordId>(&bytes).unwrap(), id);
        for text in ["", "7", &format!("+{}", "0".repeat(31)), &"A".repeat(32), &"é".repeat(16)] {
            assert!(text.parse::<RecordId>().is_err() && serde_json::from_value::<RecordId>(text.into()).is_err());
        }
    }
}
