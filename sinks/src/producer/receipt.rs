//! What becomes of a record, as whoever put it learns it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use shardflow::sink::Trouble;
use shardflow::{Error, Outcome};
use tokio::sync::oneshot;

use super::Record;
use super::shared::Shared;

/// Where a record is in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The shard.
    pub shard: Arc<str>,
    /// The sequence number of the stream record.
    pub sequence: Arc<str>,
    /// The place in the aggregate, from 0; `None` for a record that went alone.
    pub sub_sequence: Option<u64>,
    /// Whether it may be in the stream more than once: an answer about it was lost, or it lay in a wrong shard first.
    pub maybe_repeated: bool,
}

/// Why a record was not put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotPut {
    /// The service never takes this record. Others are none the worse. The record comes back.
    Refused(Box<RefusedRecord>),
    /// It could not be put, or may have been put: [`Trouble::outcome`] tells.
    Failed(Trouble),
}

/// A record that the service never takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRecord {
    /// Why, in one line.
    pub reason: String,
    /// The record.
    pub record: Record,
}

impl fmt::Display for NotPut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => {
                write!(f, "the record of key \"{}\" is refused: {}", refused.record.partition_key(), refused.reason)
            }
            Self::Failed(trouble) => trouble.fmt(f),
        }
    }
}

impl std::error::Error for NotPut {}

impl From<NotPut> for Error {
    fn from(not_put: NotPut) -> Self {
        let is_open = matches!(&not_put, NotPut::Failed(trouble) if trouble.outcome == Outcome::Indeterminate);
        let error = Error::sink("could not put a record").caused_by(not_put);
        if is_open { error.indeterminate() } else { error }
    }
}

/// What a record is told of at its end.
pub(super) type Verdict = Result<Placed, Untold>;

/// Why a record was not put, until somebody looks. Where nobody does, the producer is told.
pub(super) struct Untold(Option<(NotPut, Arc<Shared>)>);

impl Untold {
    pub(super) fn new(not_put: NotPut, shared: &Arc<Shared>) -> Self {
        Self(Some((not_put, Arc::clone(shared))))
    }

    /// Somebody looks.
    pub(super) fn told(mut self) -> NotPut {
        self.0.take().map_or_else(stopped, |(not_put, _)| not_put)
    }
}

impl Drop for Untold {
    fn drop(&mut self) {
        if let Some((not_put, shared)) = self.0.take() {
            shared.tell_unseen(not_put);
        }
    }
}

/// Gives, once awaited, what became of a record. Dropping it does not take the record back: what went wrong with it is then told
/// by [`flush`](super::Producer::flush) and [`close`](super::Producer::close).
#[must_use = "a record that could not be put is told of here; without it, by flush and close"]
pub struct Receipt(Inner);

enum Inner {
    Known(Untold),
    Pending(oneshot::Receiver<Verdict>),
    Seen,
}

impl Receipt {
    pub(super) fn known(untold: Untold) -> Self {
        Self(Inner::Known(untold))
    }

    pub(super) fn pending(verdict: oneshot::Receiver<Verdict>) -> Self {
        Self(Inner::Pending(verdict))
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Inner::Known(_) => "Receipt(known)",
            Inner::Pending(_) => "Receipt(pending)",
            Inner::Seen => "Receipt(seen)",
        })
    }
}

/// The producer has ended before the record did.
pub(super) fn stopped() -> NotPut {
    NotPut::Failed(Trouble {
        may_pass: None,
        outcome: Outcome::Indeterminate,
        text: "the producer was stopped before there was an answer".to_owned(),
    })
}

/// The producer took the record no more.
pub(super) fn closed() -> NotPut {
    let text = "the producer is closed".to_owned();
    NotPut::Failed(Trouble { may_pass: None, outcome: Outcome::Determinate, text })
}

impl Future for Receipt {
    type Output = Result<Placed, NotPut>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match std::mem::replace(&mut self.0, Inner::Seen) {
            Inner::Known(untold) => Poll::Ready(Err(untold.told())),
            Inner::Seen => Poll::Ready(Err(stopped())),
            Inner::Pending(mut pending) => match Pin::new(&mut pending).poll(cx) {
                Poll::Ready(Ok(verdict)) => Poll::Ready(verdict.map_err(Untold::told)),
                Poll::Ready(Err(_)) => Poll::Ready(Err(stopped())),
                Poll::Pending => {
                    self.0 = Inner::Pending(pending);
                    Poll::Pending
                }
            },
        }
    }
}
