//! Calls until a call succeeds or its failure cannot pass. The clock is handed in, so that tests need not wait.

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant, SystemTime};

use super::backoff::{Backoff, Failed};
use crate::error::Outcome;
use crate::metrics::{Counter, RetryMetrics};

/// A call that failed, as far as calling again is concerned.
pub trait Failing: fmt::Display {
    /// Whether it may pass, and as what; `None`: calling again would give the same.
    fn may_pass(&self) -> Option<Failed>;

    /// The same, once it has lasted for longer than one waits.
    #[must_use]
    fn given_up(self) -> Self;

    /// Whether what was attempted may have been done all the same. Of calls that only read it does not matter.
    fn outcome(&self) -> Outcome {
        Outcome::Determinate
    }

    /// The same, where an earlier attempt may have done it. Whoever has [`outcome`](Self::outcome) has this too.
    #[must_use]
    fn in_doubt(self) -> Self
    where
        Self: Sized,
    {
        self
    }
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
    /// Whether one of the calls may have done what it was to do. Without it a lost answer that is followed by a refused connection
    /// would end as "it did not happen".
    in_doubt: bool,
}

impl<C: Clock> Retries<C> {
    /// Gives up when nothing but failures other than throttling were met for `give_up_after`. `attempted` is for the log:
    /// `read shard "…" of stream "…"`.
    #[must_use]
    pub fn new(give_up_after: Duration, clock: &C, metrics: &RetryMetrics, attempted: String) -> Self {
        let (clock, metrics) = (clock.clone(), metrics.clone());
        Self { backoff: Backoff::new(give_up_after), clock, metrics, attempted, in_doubt: false }
    }

    /// Waits after `failure`. Gives the failure back where it cannot pass or has lasted too long: in doubt where it is, or one
    /// before it was.
    ///
    /// # Errors
    /// The failure.
    pub async fn wait_out<F: Failing>(&mut self, failure: F) -> Result<(), F> {
        self.in_doubt |= failure.outcome() == Outcome::Indeterminate;
        let failure = if self.in_doubt { failure.in_doubt() } else { failure };
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

    /// A call succeeded: what was attempted is done.
    pub fn succeeded(&mut self) {
        self.progressed();
        self.in_doubt = false;
    }

    /// A part of what is attempted is done. Waits begin anew; what is in doubt of the rest stays so.
    pub fn progressed(&mut self) {
        if let Some(lasted) = self.backoff.succeeded(self.clock.now()) {
            tracing::info!(attempted = self.attempted, ?lasted, "calls succeed again");
        }
    }

    /// Repeats `call` until it succeeds or fails for good.
    ///
    /// # Errors
    /// The last failure, in doubt where any was.
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const GIVES_UP_AFTER: Duration = Duration::from_secs(60);

    /// A clock on which a wait takes no time but its own.
    #[derive(Debug, Clone)]
    struct Skipping(Arc<Mutex<Instant>>);

    impl Clock for Skipping {
        fn now(&self) -> Instant {
            *self.0.lock().unwrap()
        }

        async fn sleep(&self, time: Duration) {
            *self.0.lock().unwrap() += time;
        }
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Trouble(Option<Failed>, Outcome);

    impl fmt::Display for Trouble {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{self:?}")
        }
    }

    impl Failing for Trouble {
        fn may_pass(&self) -> Option<Failed> {
            self.0
        }

        fn given_up(self) -> Self {
            Self(None, self.1)
        }

        fn outcome(&self) -> Outcome {
            self.1
        }

        fn in_doubt(self) -> Self {
            Self(self.0, Outcome::Indeterminate)
        }
    }

    const REFUSED: Trouble = Trouble(Some(Failed::Transient), Outcome::Determinate);
    const LOST: Trouble = Trouble(Some(Failed::Transient), Outcome::Indeterminate);
    const FORBIDDEN: Trouble = Trouble(None, Outcome::Determinate);

    fn retries() -> Retries<Skipping> {
        let clock = Skipping(Arc::new(Mutex::new(Instant::now())));
        Retries::new(GIVES_UP_AFTER, &clock, &RetryMetrics::unseen(), "test".to_owned())
    }

    /// How it ends: `failures` one after the other, the last of them for ever.
    fn ends(failures: &[Trouble]) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut failures = failures.iter().copied();
        let mut last = None;
        let call = || {
            last = failures.next().or(last);
            std::future::ready(last.map_or(Ok(()), Err))
        };
        let failure = runtime.block_on(retries().run(call)).unwrap_err();
        assert_eq!(failure.0, None);
        failure.1
    }

    #[test]
    fn what_may_have_been_done_once_stays_in_doubt_however_later_calls_fail() {
        assert_eq!(ends(&[REFUSED]), Outcome::Determinate);
        assert_eq!(ends(&[REFUSED, FORBIDDEN]), Outcome::Determinate);
        assert_eq!(ends(&[LOST]), Outcome::Indeterminate);
        assert_eq!(ends(&[LOST, REFUSED]), Outcome::Indeterminate, "given up on");
        assert_eq!(ends(&[REFUSED, LOST, REFUSED, FORBIDDEN]), Outcome::Indeterminate, "stopped");
    }

    #[test]
    fn only_a_success_of_all_of_it_ends_the_doubt() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut retries = retries();
            retries.wait_out(LOST).await.unwrap();
            retries.progressed();
            assert_eq!(retries.wait_out(FORBIDDEN).await.unwrap_err().1, Outcome::Indeterminate);
            retries.succeeded();
            assert_eq!(retries.wait_out(FORBIDDEN).await, Err(FORBIDDEN));
        });
    }
}
