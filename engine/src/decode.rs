//! The port of decoders: a raw record in, a value or a reason out.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::source::{RawBatch, RecordMeta};
use crate::vocabulary::{RecordId, SourceId, SplitId};

/// A raw record: its bytes, where it stands, and what its source says of it.
#[derive(Debug, Clone, Copy)]
pub struct RawRecord<'a> {
    bytes: &'a [u8],
    source: &'a SourceId,
    split: &'a SplitId,
    batch: &'a RawBatch,
    index: usize,
}

impl<'a> RawRecord<'a> {
    /// The records of a batch of `split`, a split of `source`, in order.
    pub fn of(
        source: &'a SourceId,
        split: &'a SplitId,
        batch: &'a RawBatch,
    ) -> impl ExactSizeIterator<Item = RawRecord<'a>> {
        batch.records().enumerate().map(move |(index, bytes)| RawRecord { bytes, source, split, batch, index })
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The input it was read from.
    #[must_use]
    pub fn source(&self) -> &'a SourceId {
        self.source
    }

    /// The split it was read from.
    #[must_use]
    pub fn split(&self) -> &'a SplitId {
        self.split
    }

    /// Where it stands in its split, in the source's own notation.
    #[must_use]
    pub fn position(&self) -> String {
        self.batch.position(self.index)
    }

    /// What its source says of it.
    #[must_use]
    pub fn meta(&self) -> Option<&'a RecordMeta> {
        self.batch.meta(self.index)
    }

    /// Why its source could not deliver it whole, where that is so.
    pub(crate) fn fault(&self) -> Option<&'a str> {
        if self.batch.has_faults() { self.batch.fault(self.index) } else { None }
    }
}

/// Turns a raw record into a value.
pub trait Decoder: Send + Sync + 'static {
    /// What it makes.
    type Output: Clone + Send + Sync + 'static;

    /// Decodes one record.
    ///
    /// # Errors
    /// The reason, in one line. The record goes to the rejected output with it.
    fn decode(&self, raw: &[u8]) -> Result<Self::Output, String>;

    /// Decodes one record of which more is known than its bytes. This is what the engine calls; by default it decodes the
    /// bytes alone.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    fn decode_record(&self, record: &RawRecord<'_>) -> Result<Self::Output, String> {
        self.decode(record.bytes())
    }

    /// The same decoder, whose values come with where they are from: split, position, partition key, time of arrival.
    ///
    /// # Examples
    /// Event time from the time of arrival, for records that have none of their own:
    /// ```
    /// use shardflow::{Decoder, EventTime, Lag, Sourced, lines, seconds};
    /// # fn program(flow: &shardflow::Flow<'_>, source: impl shardflow::source::Source) {
    /// let (records, rejected) = flow.source("clicks", source).decode(lines().sourced());
    /// rejected.sink("rejected", shardflow::testing::Collected::new());
    /// let arrived = |click: &Sourced<String>| click.meta.arrived.unwrap_or(EventTime::MIN);
    /// let clicks = records.event_time(arrived, Lag::of(seconds(5)));
    /// # clicks.sink("clicks", shardflow::testing::Collected::new());
    /// # }
    /// ```
    fn sourced(self) -> WithSource<Self>
    where
        Self: Sized,
    {
        WithSource(self)
    }
}

/// A value, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// The input it was read from: `kinesis:arn:aws:kinesis:eu-west-1:…`, `file:/data/usage`.
    pub source: SourceId,
    /// The split it was read from: a file, a shard.
    pub split: SplitId,
    /// Where it stands in the split, in the source's own notation: `1024`, `4957…:3`.
    pub position: String,
    /// What its source says of it; all empty where it says nothing.
    pub meta: RecordMeta,
}

impl<T> Sourced<T> {
    /// The record's id, which a replay repeats: of source, split and position. Two records of an aggregate have two
    /// positions, `4957…:0` and `4957…:1`.
    ///
    /// It is the record's, and not the job's: whoever passes the record on gives it this id, so that a job which takes over
    /// from another repeats what that one wrote. What a program makes of records is its own, and wants ids of its own
    /// ([`Flow::ids`](crate::Flow::ids)), as do the parts that one record is split into:
    ///
    /// ```
    /// use shardflow::{Flow, RecordId, Result, Sourced};
    /// # fn program(flow: &Flow<'_>, sourced: &Sourced<String>) -> Result<()> {
    /// let alerts = flow.ids("alerts");
    /// let second_alert: RecordId = alerts.id(&(sourced.id(), 1))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Folders of one path on two machines are one source by their names: where both go to one place, put the machine's name
    /// in too.
    #[must_use]
    pub fn id(&self) -> RecordId {
        RecordId::of_record(self.source.as_str(), self.split.as_str(), &self.position)
    }
}

/// Decodes as another decoder does and adds where each record comes from. Made by [`Decoder::sourced`].
#[derive(Debug)]
pub struct WithSource<D>(D);

impl<D: Decoder> Decoder for WithSource<D> {
    type Output = Sourced<D::Output>;

    /// Without a source: a record that is decoded outside of a job.
    fn decode(&self, raw: &[u8]) -> Result<Self::Output, String> {
        let value = self.0.decode(raw)?;
        let (source, split) = (SourceId::new(""), SplitId::new(""));
        Ok(Sourced { value, source, split, position: String::new(), meta: RecordMeta::default() })
    }

    fn decode_record(&self, record: &RawRecord<'_>) -> Result<Self::Output, String> {
        let value = self.0.decode_record(record)?;
        let meta = record.meta().cloned().unwrap_or_default();
        let (source, split) = (record.source().clone(), record.split().clone());
        Ok(Sourced { value, source, split, position: record.position(), meta })
    }
}

/// A record that could not be decoded, as the rejected output carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Why.
    pub error: String,
    /// The record as it came in; what is no UTF-8 is replaced by U+FFFD.
    pub raw: String,
    /// The input it came from: `kinesis:arn:aws:kinesis:eu-west-1:…`, `file:/data/usage`.
    pub source: String,
    /// The split it came from.
    pub split: String,
    /// Where it stands in the split, in the source's own notation.
    pub position: String,
}

impl Rejected {
    /// The record's id, which a replay repeats: as of [`Sourced::id`].
    #[must_use]
    pub fn id(&self) -> RecordId {
        RecordId::of_record(&self.source, &self.split, &self.position)
    }
}

/// Decodes one JSON value a record. Made by [`json`].
#[derive(Debug)]
pub struct Json<T>(PhantomData<fn() -> T>);

/// Decodes each record as one JSON value of type `T`.
///
/// # Examples
/// ```
/// use shardflow::{Decoder, json};
/// #[derive(Clone, serde::Deserialize)]
/// struct Usage { qty: u64 }
/// assert_eq!(json::<Usage>().decode(br#"{"qty":7}"#).map(|usage| usage.qty), Ok(7));
/// assert!(json::<Usage>().decode(b"{").is_err());
/// ```
#[must_use]
pub fn json<T: DeserializeOwned>() -> Json<T> {
    Json(PhantomData)
}

impl<T: DeserializeOwned + Clone + Send + Sync + 'static> Decoder for Json<T> {
    type Output = T;

    fn decode(&self, raw: &[u8]) -> Result<T, String> {
        // sonic-rs is the fast path; serde_json has the last word, and the better error text, on what it refuses.
        match sonic_rs::from_slice(raw) {
            Ok(value) => Ok(value),
            Err(_) => serde_json::from_slice(raw).map_err(|error| error.to_string()),
        }
    }
}

/// Takes each record as one line of UTF-8 text. Made by [`lines`].
#[derive(Debug)]
pub struct Lines(());

/// Decodes each record as UTF-8 text.
#[must_use]
pub fn lines() -> Lines {
    Lines(())
}

impl Decoder for Lines {
    type Output = String;

    fn decode(&self, raw: &[u8]) -> Result<String, String> {
        std::str::from_utf8(raw).map(str::to_owned).map_err(|error| error.to_string())
    }
}
