//! A connection that is made again when it breaks, and calls that are made again until they succeed.

use std::time::Duration;

use shardflow::metrics::DeliveryMetrics;
use shardflow::retry::{Clock, Failed, Failing, Retries};
use shardflow::{Error, Result};

use super::failure::Failure;
use super::name::TableName;
use super::session::{Server, Session};

/// How long the server may be away at the start.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// A connection that is made again when it breaks.
pub(crate) struct Link<C> {
    pub(crate) server: Server,
    session: Option<Session>,
    pub(crate) metrics: DeliveryMetrics,
    pub(crate) clock: C,
    pub(crate) give_up_after: Duration,
    /// What a COMMIT was to do that is without an answer. What comes after it may settle it, so this is more than what
    /// [`Retries`] remember.
    in_doubt: Option<Committed>,
}

/// What one transaction has done.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) set_aside: u64,
    /// The first of those.
    pub(crate) first: Option<String>,
}

impl<C: Clock> Link<C> {
    /// Connects when it is first used.
    pub(crate) fn new(server: Server, metrics: DeliveryMetrics, clock: C, give_up_after: Duration) -> Self {
        Self { server, session: None, metrics, clock, give_up_after, in_doubt: None }
    }

    /// Repeats `work` until it succeeds, fails for good, or has failed for too long. `at_start`: what is wrong with the
    /// settings is not waited for.
    pub(crate) async fn repeat<R>(
        &mut self,
        attempted: &str,
        at_start: bool,
        mut work: impl AsyncFnMut(&mut Session, &mut Option<Committed>) -> Result<R, Failure>,
    ) -> Result<R> {
        let attempted = format!("{attempted} in {}", self.server.place());
        let give_up_after = if at_start { self.give_up_after.min(STARTS_WITHIN) } else { self.give_up_after };
        let mut retries = Retries::new(give_up_after, &self.clock, &self.metrics.retries, attempted.clone());
        loop {
            let call = self.metrics.call();
            let begun = self.clock.now();
            let outcome = self.once(&mut work).await;
            drop(call);
            self.metrics.seconds.record(self.clock.now().saturating_duration_since(begun).as_secs_f64());
            let failure = match outcome {
                Ok(answer) => {
                    retries.succeeded();
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            if at_start && failure.may_pass().is_none_or(|kind| kind == Failed::Credentials) {
                return Err(match failure {
                    Failure::Stop(error) => error,
                    other => Error::config(format!("could not {attempted}")).caused_by(other.to_string()),
                });
            }
            let waited = retries.wait_out(failure).await;
            waited.map_err(|failure| failure.into_error(&attempted, self.in_doubt.is_some()))?;
        }
    }

    /// Tries once. A connection on which it failed is not used again.
    async fn once<R>(
        &mut self,
        work: &mut impl AsyncFnMut(&mut Session, &mut Option<Committed>) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let mut session = match self.session.take().filter(|session| !session.is_closed()) {
            Some(session) => session,
            None => Session::open(&self.server).await?,
        };
        let limit = self.server.call_timeout();
        let outcome = tokio::time::timeout(limit, work(&mut session, &mut self.in_doubt)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(Failure::transient(format!("it took longer than {limit:?}"))));
        match &outcome {
            Ok(_) => self.session = Some(session),
            Err(_) => session.cut(),
        }
        outcome
    }
}

impl Committed {
    /// Counts it, and says where rows were refused.
    pub(crate) fn tell(&self, metrics: &DeliveryMetrics, step: &str, table: &TableName) {
        metrics.records.increment(self.rows);
        metrics.bytes.increment(self.bytes);
        metrics.refused.increment(self.set_aside);
        if let Some(first) = &self.first {
            let (table, rows) = (table.to_string(), self.set_aside);
            tracing::warn!(step, table, rows, first, "rows were refused and set aside");
        }
    }
}
