//! Splits and merges shards, by what was measured to flow through them.
//!
//! *Measure* ([`Stream::sample`]), *plan* ([`Plan`], pure), *do* ([`Stream::reshard`]): one SplitShard or MergeShards call a
//! step, and after each the stream must be ACTIVE again, which takes about half a minute on AWS. UpdateShardCount is not
//! used: it splits by hash keys alone, and at most 10 times a day.
//!
//! # When it is cut off
//! Each step is whole or not at all. What was done stays done; a plan that is made anew goes on from what is there. A call
//! whose answer was lost is looked up in the listing before it is made again, so no step is done twice.

mod load;
mod plan;
mod sample;
mod table;

use std::fmt;
use std::time::Duration;

use shardflow::{Error, Result};
use shardflow_aws::failure::{Failure, Remedy};
use tokio::time::{Instant, sleep};

pub use load::Load;
pub use plan::{Goal, Piece, Plan, Step};

use super::consumers::LOOK_EVERY;
use super::{HashRange, Shard, Stream};

/// How often a call is made again whose failure may pass, within the time a step may take.
const TRIES: u32 = 20;

/// A reshard that did not come to its end.
#[derive(Debug)]
pub struct Stopped {
    /// How many steps of the plan were done: the first so many.
    pub done: usize,
    /// How many it has.
    pub of: usize,
    /// Why the next one was not. [`Outcome::Indeterminate`](shardflow::Outcome): it may come about yet.
    pub error: Error,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { done, of, error } = self;
        write!(f, "{error}; of {of} steps {done} were done, and {} were not", of - done)
    }
}

impl std::error::Error for Stopped {}

impl Stream {
    /// Carries out a plan, step by step, each with `within` at most until the stream is ACTIVE again. `told` hears of each
    /// step that was done, with its number from 1.
    ///
    /// # Errors
    /// The first step that fails ends it.
    pub async fn reshard(
        &self,
        plan: &Plan,
        within: Duration,
        mut told: impl FnMut(usize, &Step),
    ) -> Result<(), Stopped> {
        for (done, step) in plan.steps.iter().enumerate() {
            if let Err(error) = self.step(step, within).await {
                return Err(Stopped { done, of: plan.steps.len(), error });
            }
            told(done + 1, step);
        }
        Ok(())
    }

    async fn step(&self, step: &Step, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        let mut last: Option<Failure> = None;
        for _ in 0..TRIES {
            self.until_active(deadline, within, last.as_ref()).await?;
            let shards = self.shards().await?;
            if is_done(step, &shards) {
                return Ok(());
            }
            match self.call_step(step, &shards).await {
                Ok(()) => return self.until_done(step, deadline, within).await,
                Err(failure) if matches!(failure.remedy, Remedy::Retry(_)) && Instant::now() < deadline => {
                    tracing::debug!(%step, %failure, "a reshard call failed, will be tried again");
                    last = Some(failure);
                    sleep(LOOK_EVERY).await;
                }
                Err(failure) => return Err(self.could_not(&format!("{step} in"), failure)),
            }
        }
        let last = last.map_or_else(String::new, |failure| failure.text);
        Err(Error::source(format!("could not {step} in {}", self.describe_place())).caused_by(last).indeterminate())
    }

    async fn call_step(&self, step: &Step, shards: &[Shard]) -> Result<(), Failure> {
        let id = |range: HashRange| {
            let shard = shards.iter().find(|shard| shard.is_open() && shard.range == range);
            shard.map(|shard| shard.id.as_str()).ok_or_else(|| Failure {
                remedy: Remedy::None,
                text: format!("there is no open shard of hash keys {range}; has someone else resharded the stream?"),
            })
        };
        match *step {
            Step::Split { range, at } => {
                let call = self.sdk().split_shard().stream_name(self.name()).set_stream_arn(self.given_arn());
                let call = call.shard_to_split(id(range)?).new_starting_hash_key(at.to_string());
                call.send().await.map(drop).map_err(|error| Failure::of(&error))
            }
            Step::Merge { left, right } => {
                let call = self.sdk().merge_shards().stream_name(self.name()).set_stream_arn(self.given_arn());
                let call = call.shard_to_merge(id(left)?).adjacent_shard_to_merge(id(right)?);
                call.send().await.map(drop).map_err(|error| Failure::of(&error))
            }
        }
    }

    /// Waits until the stream may be changed. `last` is why the last call failed, which then is why it may not.
    async fn until_active(&self, deadline: Instant, within: Duration, last: Option<&Failure>) -> Result<()> {
        loop {
            let status = self.summary().await?.status;
            if status == "ACTIVE" {
                return Ok(());
            }
            if Instant::now() + LOOK_EVERY > deadline {
                let place = self.describe_place();
                let error =
                    Error::source(format!("could not see {place} become ACTIVE within {within:?}: it is {status}"));
                return Err(match last {
                    Some(failure) => error.caused_by(failure.clone()).indeterminate(),
                    None => error,
                });
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until a call that was taken has come about.
    async fn until_done(&self, step: &Step, deadline: Instant, within: Duration) -> Result<()> {
        loop {
            // Even if the listing shows it: a stream that is not ACTIVE does not take the next step.
            if self.summary().await?.status == "ACTIVE" && is_done(step, &self.shards().await?) {
                return Ok(());
            }
            if Instant::now() + LOOK_EVERY > deadline {
                let place = self.describe_place();
                let text = format!("could not see that {place} is done with \"{step}\" within {within:?}");
                return Err(Error::source(text).indeterminate());
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

/// Whether the listing shows the step's outcome: open shards of just the ranges that it makes.
fn is_done(step: &Step, shards: &[Shard]) -> bool {
    let is_open = |range: HashRange| shards.iter().any(|shard| shard.is_open() && shard.range == range);
    match *step {
        Step::Split { range, at } => range.split_at(at).is_some_and(|(left, right)| is_open(left) && is_open(right)),
        Step::Merge { left, right } => left.joined_with(right).is_some_and(is_open),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::shards::tests::shard;

    #[test]
    fn a_step_is_done_when_what_it_makes_is_open() {
        let range = |start, end| HashRange::new(start, end).unwrap();
        let split = Step::Split { range: range(0, 99), at: 40 };
        let left = shard("b", &["a"], 0, 39, true);
        assert!(!is_done(&split, &[shard("a", &[], 0, 99, true)]));
        assert!(!is_done(&split, &[left.clone(), shard("c", &["a"], 40, 99, false)]));
        assert!(is_done(&split, &[left, shard("c", &["a"], 40, 99, true)]));
        let merge = Step::Merge { left: range(0, 39), right: range(40, 99) };
        assert!(is_done(&merge, &[shard("d", &["b", "c"], 0, 99, true)]));
    }

    #[test]
    fn a_reshard_that_stopped_says_how_far_it_came() {
        let stopped = Stopped { done: 2, of: 5, error: Error::source("could not split") };
        assert_eq!(stopped.to_string(), "could not split; of 5 steps 2 were done, and 3 were not");
    }
}
