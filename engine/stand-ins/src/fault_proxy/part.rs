//! A batch call that the server is asked for in part only. Pure.

use bytes::Bytes;
use serde_json::Value;

use super::answer::Whole;
use super::partial::Partial;
use super::unprocessed::LeftOut;

/// What of a call the server gets.
pub(crate) enum Part {
    Whole,
    PutRecords(Partial),
    BatchWriteItem(LeftOut),
}

impl Part {
    /// The first of every so many records fails.
    pub(crate) fn put_records(body: &Value, every: usize) -> Self {
        Self::PutRecords(Partial::of(body, every))
    }

    /// The first of every so many requests of each table is left unprocessed.
    pub(crate) fn batch_write_item(body: &Value, every: usize) -> Self {
        Self::BatchWriteItem(LeftOut::of(body, every))
    }

    /// The answer where nothing is left to ask the server for.
    pub(crate) fn without_asking(&self) -> Option<Whole> {
        match self {
            Self::Whole => None,
            Self::PutRecords(part) => part.without_asking(),
            Self::BatchWriteItem(part) => part.without_asking(),
        }
    }

    /// The body that the server gets, where it is not the client's.
    pub(crate) fn asked(&self) -> Option<Bytes> {
        match self {
            Self::Whole => None,
            Self::PutRecords(part) => Some(part.asked()),
            Self::BatchWriteItem(part) => Some(part.asked()),
        }
    }

    /// The answer about the whole call.
    pub(crate) fn answer(self, answer: Whole) -> Whole {
        match self {
            Self::Whole => answer,
            Self::PutRecords(part) => part.answer(answer),
            Self::BatchWriteItem(part) => part.answer(answer),
        }
    }
}
