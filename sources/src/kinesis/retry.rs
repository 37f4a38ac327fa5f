//! Calls until a call succeeds or its failure cannot pass. The clock is handed in, so that tests need not wait.

use std::future::Future;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::failure::{Failure, Remedy};

/// A clock to wait on.
pub(super) trait Clock: Clone + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Instant;
    /// Waits.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send;
}

/// The real clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send {
        tokio::time::sleep(time)
    }
}

/// Waits after `failure` as `backoff` says. Gives the failure back where it cannot pass or has lasted too long.
pub(super) async fn wait_out(
    failure: Failure,
    backoff: &mut Backoff,
    clock: &impl Clock,
    attempted: &str,
) -> Result<(), Failure> {
    let Remedy::Retry(failed) = failure.remedy else { return Err(failure) };
    let Some(wait) = backoff.failed(failed, clock.now(), rand::random()) else {
        return Err(Failure { remedy: Remedy::None, text: format!("{failure} (still, after many attempts)") });
    };
    tracing::debug!(attempted, %failure, ?wait, "kinesis call failed, will be tried again");
    clock.sleep(wait).await;
    Ok(())
}

/// Repeats `call` until it succeeds or fails for good.
pub(super) async fn retrying<T, F>(
    give_up_after: Duration,
    clock: &impl Clock,
    attempted: &str,
    mut call: impl FnMut() -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut backoff = Backoff::new(give_up_after);
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(failure) => wait_out(failure, &mut backoff, clock, attempted).await?,
        }
    }
}
