//! Calls that are made again while their failure may pass, for a bounded time; and many at once.

use std::future::Future;
use std::time::{Duration, Instant};

use shardflow::retry::Backoff;
use shardflow::{Error, Result};
use shardflow_aws::failure::{Failure, Remedy};
use tokio::task::JoinSet;

use super::Stream;

/// Calls until a call succeeds, its failure cannot pass, or `patience` is over. A command that throttling could keep
/// waiting for ever would look hung, so here even that has an end: "too many requests" and "too many shards" read alike.
pub(super) async fn repeat<T, F>(patience: Duration, mut call: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let deadline = Instant::now() + patience;
    let mut backoff = Backoff::new(patience);
    loop {
        let failure = match call().await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        let Remedy::Retry(failed) = failure.remedy else { return Err(failure) };
        let now = Instant::now();
        match backoff.failed(failed, now, rand::random()) {
            Some(wait) if now + wait < deadline => tokio::time::sleep(wait).await,
            _ => {
                let text = format!("{failure} (still, after {patience:?})");
                return Err(Failure { remedy: Remedy::None, text });
            }
        }
    }
}

impl Stream {
    /// [`repeat`]s a call for as long as this stream's calls may fail. `attempted` completes "could not …" and ends before
    /// the stream's name.
    pub(super) async fn call<T, F>(&self, attempted: &str, call: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        repeat(self.patience, call).await.map_err(|failure| self.could_not(attempted, failure))
    }

    /// `could not list the shards of stream "usage" at …: …`
    pub(super) fn could_not(&self, attempted: &str, failure: Failure) -> Error {
        Error::source(format!("could not {attempted} {}", self.describe_place())).caused_by(failure)
    }
}

/// Does `work` for each of `inputs`, `at_once` at a time. Gives the outcomes in the order of the inputs, or the first error.
pub(super) async fn each<I, T, F>(inputs: Vec<I>, at_once: usize, work: impl Fn(I) -> F) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let mut done: Vec<(usize, T)> = Vec::with_capacity(inputs.len());
    let mut running = JoinSet::new();
    let mut inputs = inputs.into_iter().enumerate();
    loop {
        while running.len() < at_once.max(1)
            && let Some((index, input)) = inputs.next()
        {
            let task = work(input);
            running.spawn(async move { (index, task.await) });
        }
        match running.join_next().await {
            None => break,
            Some(Ok((index, outcome))) => done.push((index, outcome?)),
            Some(Err(failed)) => return Err(Error::internal("could not finish a task").caused_by(failed)),
        }
    }
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, outcome)| outcome).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardflow::retry::Failed;

    fn failure(remedy: Remedy) -> Failure {
        Failure { remedy, text: "no".to_owned() }
    }

    #[tokio::test]
    async fn even_throttling_has_an_end_here() {
        let call = || async { Err::<(), _>(failure(Remedy::Retry(Failed::Throttled))) };
        // Shorter than any wait, so that nothing is waited for.
        let failed = repeat(Duration::from_millis(50), call).await.unwrap_err();
        assert!(failed.text.contains("still, after 50ms"), "{failed}");
    }

    #[tokio::test]
    async fn what_cannot_pass_is_not_tried_again() {
        let mut calls = 0;
        let call = || {
            calls += 1;
            async { Err::<(), _>(failure(Remedy::Missing)) }
        };
        assert_eq!(repeat(Duration::from_secs(9), call).await.unwrap_err(), failure(Remedy::Missing));
        assert_eq!(calls, 1);
    }

    #[tokio::test]
    async fn outcomes_come_in_the_order_of_the_inputs() {
        let slow_first = |n: u64| async move {
            for _ in 0..(10 - n) {
                tokio::task::yield_now().await;
            }
            Ok(n * 2)
        };
        assert_eq!(each((0..10).collect(), 3, slow_first).await.unwrap(), (0..20).step_by(2).collect::<Vec<_>>());
        let fails = |n: u64| async move { if n == 4 { Err(Error::source("four")) } else { Ok(n) } };
        assert_eq!(each((0..10).collect(), 3, fails).await.unwrap_err().to_string(), "four");
    }
}
