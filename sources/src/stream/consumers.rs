//! The consumers that are registered for enhanced fan-out: each has 2 MB a second of every shard to itself.

use std::time::Duration;

use aws_sdk_kinesis::error::ProvideErrorMetadata;
use jiff::Timestamp;
use shardflow::{Error, Result};
use shardflow_aws::failure::{Failure, Remedy};
use tokio::time::{Instant, sleep};

use super::{Stream, timestamp};

/// How often to look whether a change has come about.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A registered consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// Its name.
    pub name: String,
    /// Its ARN, with which it subscribes to shards.
    pub arn: String,
    /// `CREATING`, `ACTIVE` or `DELETING`.
    pub status: String,
    /// When it was registered.
    pub created: Option<Timestamp>,
}

impl Stream {
    /// The registered consumers, by name.
    ///
    /// # Errors
    /// The service refuses, or the failure lasts.
    pub async fn consumers(&self) -> Result<Vec<Consumer>> {
        let arn = self.arn().await?;
        self.consumers_of(&arn).await
    }

    pub(super) async fn consumers_of(&self, arn: &str) -> Result<Vec<Consumer>> {
        self.call("list the consumers of", || self.listed_consumers(arn)).await
    }

    async fn listed_consumers(&self, arn: &str) -> Result<Vec<Consumer>, Failure> {
        let mut consumers = Vec::new();
        let mut token = None;
        loop {
            let call = self.sdk().list_stream_consumers().stream_arn(arn).set_next_token(token);
            let answer = call.send().await.map_err(|error| Failure::of(&error))?;
            consumers.extend(answer.consumers().iter().map(|consumer| Consumer {
                name: consumer.consumer_name().to_owned(),
                arn: consumer.consumer_arn().to_owned(),
                status: consumer.consumer_status().as_str().to_owned(),
                created: timestamp(consumer.consumer_creation_timestamp()),
            }));
            token = answer.next_token().map(ToOwned::to_owned);
            if token.is_none() {
                consumers.sort_by(|left, right| left.name.cmp(&right.name));
                return Ok(consumers);
            }
        }
    }

    /// Registers a consumer and waits until it is ACTIVE, `within` at most.
    ///
    /// # Errors
    /// There is one of this name, the stream has as many as it may have, the service refuses, or it is not ACTIVE in time
    /// (it then is registered nevertheless, and may become ACTIVE).
    pub async fn register_consumer(&self, name: &str, within: Duration) -> Result<Consumer> {
        let arn = self.arn().await?;
        let mut calls = 0;
        let registered = super::call::repeat(self.patience, || {
            calls += 1;
            self.register_once(&arn, name)
        });
        if let Err(failure) = registered.await {
            // The answer to an earlier call may have been lost, and the consumer in the way be this one.
            let is_ours = calls > 1 && is_taken(&failure);
            if !is_ours {
                return Err(self.could_not(&format!("register consumer \"{name}\" of"), failure));
            }
        }
        let is_active = |consumers: &[Consumer]| {
            consumers.iter().find(|consumer| consumer.name == name && consumer.status == "ACTIVE").cloned()
        };
        let late = format!("could not see consumer \"{name}\" of {} become ACTIVE", self.describe_place());
        self.until(&arn, within, late, is_active).await
    }

    async fn register_once(&self, arn: &str, name: &str) -> Result<(), Failure> {
        let answer = self.sdk().register_stream_consumer().stream_arn(arn).consumer_name(name).send().await;
        answer.map(drop).map_err(|error| {
            let failure = Failure::of(&error);
            match error.code() {
                // Elsewhere these two pass with time; here they say that the name is taken or the stream full.
                Some("ResourceInUseException" | "LimitExceededException") => {
                    Failure { remedy: Remedy::None, ..failure }
                }
                _ => failure,
            }
        })
    }

    /// Deregisters a consumer and waits until it is gone, `within` at most.
    ///
    /// # Errors
    /// There is none of this name, the service refuses, or it is not gone in time.
    pub async fn deregister_consumer(&self, name: &str, within: Duration) -> Result<()> {
        let arn = self.arn().await?;
        if !self.consumers_of(&arn).await?.iter().any(|consumer| consumer.name == name) {
            let place = self.describe_place();
            return Err(Error::config(format!("could not deregister consumer \"{name}\" of {place}: there is none")));
        }
        let deregister = || async {
            let call = self.sdk().deregister_stream_consumer().stream_arn(&arn).consumer_name(name);
            match call.send().await.map_err(|error| Failure::of(&error)) {
                // It was there a moment ago: an earlier call, or someone else, has removed it.
                Err(failure) if failure.remedy == Remedy::Missing => Ok(()),
                answer => answer.map(drop),
            }
        };
        self.call(&format!("deregister consumer \"{name}\" of"), deregister).await?;
        let is_gone = |consumers: &[Consumer]| (!consumers.iter().any(|consumer| consumer.name == name)).then_some(());
        let late = format!("could not see consumer \"{name}\" of {} go away", self.describe_place());
        self.until(&arn, within, late, is_gone).await
    }

    async fn until<T>(
        &self,
        arn: &str,
        within: Duration,
        late: String,
        is_so: impl Fn(&[Consumer]) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(found) = is_so(&self.consumers_of(arn).await?) {
                return Ok(found);
            }
            if Instant::now() + LOOK_EVERY > deadline {
                return Err(Error::source(format!("{late} within {within:?}")));
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

fn is_taken(failure: &Failure) -> bool {
    failure.text.starts_with("ResourceInUseException")
}
