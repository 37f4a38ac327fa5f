//! Calls until a call succeeds or its failure cannot pass. The clock is handed in, so that tests need not wait.

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant, SystemTime};

use super::backoff::{Backoff, Failed};
use crate::metrics::{Counter, RetryMetrics};

/// A call that failed, as far as calling again is concerned.
pub trait Failing: fmt::Display {
    /// Whether it may pass, and as what; `None`: calling again would give the same.
    fn may_pass(&self) -> Option<Failed>;

    /// The same, once it has lasted for longer than one waits.
    #[must_use]
    fn given_up(self) -> Self;
}

/// A clock to wait on.
pub trait Clock: Clone + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Instant;
    /// The time of day, in milliseconds since 1970.
    fn wall_millis(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
    /// Waits.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send;
}

/// The real clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send {
        tokio::time::sleep(time)
    }
}

/// The failures of one kind of call: waits them out, counts them, and says so when they last.
#[derive(Debug)]
pub struct Retries<C> {
    backoff: Backoff,
    clock: C,
    metrics: RetryMetrics,
    /// What the calls are for, for the log: `read shard "…" of stream "…"`.
    attempted: String,
}

impl<C: Clock> Retries<C> {
    /// Gives up when nothing but failures other than throttling were met for `give_up_after`. `attempted` is for the log:
    /// `read shard "…" of stream "…"`.
    #[must_use]
    pub fn new(give_up_after: Duration, clock: &C, metrics: &RetryMetrics, attempted: String) -> Self {
        let (clock, metrics) = (clock.clone(), metrics.clone());
        Self { backoff: Backoff::new(give_up_after), clock, metrics, attempted }
    }

    /// Waits after `failure`. Gives the failure back where it cannot pass or has lasted too long.
    ///
    /// # Errors
    /// The failure.
    pub async fn wait_out<F: Failing>(&mut self, failure: F) -> Result<(), F> {
        let Some(failed) = failure.may_pass() else { return Err(failure) };
        let now = self.clock.now();
        let Some(wait) = self.backoff.failed(failed, now, rand::random()) else {
            return Err(failure.given_up());
        };
        counter(&self.metrics, failed).increment(1);
        let (attempted, failures) = (&self.attempted, self.backoff.in_a_row());
        if self.backoff.is_news(now) {
            tracing::warn!(attempted, failures, %failure, "calls have failed for a while and are tried again");
        } else {
            tracing::debug!(attempted, failures, %failure, ?wait, "call failed, will be tried again");
        }
        self.clock.sleep(wait).await;
        Ok(())
    }

    /// A call succeeded.
    pub fn succeeded(&mut self) {
        if let Some(lasted) = self.backoff.succeeded(self.clock.now()) {
            tracing::info!(attempted = self.attempted, ?lasted, "calls succeed again");
        }
    }

    /// Repeats `call` until it succeeds or fails for good.
    ///
    /// # Errors
    /// The last failure.
    pub async fn run<T, E, F>(mut self, mut call: impl FnMut() -> F) -> Result<T, E>
    where
        E: Failing,
        F: Future<Output = Result<T, E>>,
    {
        loop {
            match call().await {
                Ok(answer) => {
                    self.succeeded();
                    return Ok(answer);
                }
                Err(failure) => self.wait_out(failure).await?,
            }
        }
    }
}

/// What counts failures of this kind.
pub fn counter(metrics: &RetryMetrics, failed: Failed) -> &Counter {
    match failed {
        Failed::Throttled => &metrics.throttled,
        Failed::Transient => &metrics.failed,
        Failed::Credentials => &metrics.credentials,
    }
}
