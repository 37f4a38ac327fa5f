//! Calls until a call succeeds or its failure cannot pass. The clock is handed in, so that tests need not wait.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime};

use shardflow::metrics::SourceMetrics;

use super::backoff::{Backoff, Failed};
use super::failure::{Failure, Remedy};

/// A clock to wait on.
pub(crate) trait Clock: Clone + Send + Sync + 'static {
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
#[derive(Debug, Clone, Copy)]
pub(crate) struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send {
        tokio::time::sleep(time)
    }
}

/// The failures of one kind of call: waits them out, counts them, and says so when they last.
pub(crate) struct Retries<C> {
    backoff: Backoff,
    clock: C,
    metrics: SourceMetrics,
    /// What the calls are for, for the log: `read shard "…" of stream "…"`.
    attempted: String,
}

impl<C: Clock> Retries<C> {
    /// Gives up when nothing but failures other than throttling were met for `give_up_after`.
    pub(crate) fn new(give_up_after: Duration, clock: &C, metrics: &SourceMetrics, attempted: String) -> Self {
        let (clock, metrics) = (clock.clone(), metrics.clone());
        Self { backoff: Backoff::new(give_up_after), clock, metrics, attempted }
    }

    /// Waits after `failure`. Gives the failure back where it cannot pass or has lasted too long.
    pub(crate) async fn wait_out(&mut self, failure: Failure) -> Result<(), Failure> {
        let Remedy::Retry(failed) = failure.remedy else { return Err(failure) };
        let now = self.clock.now();
        let Some(wait) = self.backoff.failed(failed, now, rand::random()) else {
            return Err(Failure { remedy: Remedy::None, text: format!("{failure} (still, after many attempts)") });
        };
        self.counter(failed).increment(1);
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
    pub(crate) fn succeeded(&mut self) {
        if let Some(lasted) = self.backoff.succeeded(self.clock.now()) {
            tracing::info!(attempted = self.attempted, ?lasted, "calls succeed again");
        }
    }

    /// Repeats `call` until it succeeds or fails for good.
    pub(crate) async fn run<T, F>(mut self, mut call: impl FnMut() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
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

    fn counter(&self, failed: Failed) -> &shardflow::metrics::Counter {
        match failed {
            Failed::Throttled => &self.metrics.throttled,
            Failed::Transient => &self.metrics.failed,
            Failed::Credentials => &self.metrics.credentials,
        }
    }
}
