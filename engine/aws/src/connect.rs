//! Reaches a service at the start, within a bounded time, and says clearly what is wrong where it cannot.

use std::future::Future;
use std::time::Duration;

use aws_config::SdkConfig;
use shardflow::metrics::RetryMetrics;
use shardflow::retry::{Retries, WallClock};
use shardflow::{Error, ErrorKind, Result};
use tokio::time::{Instant, timeout_at};

use crate::config::{Given, credentials, is_url};
use crate::failure::Failure;

/// Something of a service's that is being opened: the time that this may take, and what to say when it is over.
#[derive(Debug, Clone)]
pub struct Opening {
    subject: String,
    kind: ErrorKind,
    time: Duration,
    deadline: Instant,
}

impl Opening {
    /// Opens `subject` (`stream "usage"`) within `time`, from now on. `kind` is that of failures that may pass.
    #[must_use]
    pub fn new(kind: ErrorKind, subject: impl Into<String>, time: Duration) -> Self {
        let time = time.min(Duration::from_secs(3600));
        Self { subject: subject.into(), kind, time, deadline: Instant::now() + time }
    }

    /// It cannot be opened, whatever one waits.
    #[must_use]
    pub fn refused(&self, why: &str) -> Error {
        Error::config(format!("could not open {}: {why}", self.subject))
    }

    /// The AWS configuration with a region and credentials, and where it leads: its endpoint, or `region eu-west-1`.
    ///
    /// # Errors
    /// A bad endpoint, no region, no credentials, or the time is over.
    pub async fn configure(&self, given: Given<'_>) -> Result<(SdkConfig, String)> {
        if let Some(endpoint) = given.endpoint.filter(|endpoint| !is_url(endpoint)) {
            return Err(Error::config(format!(
                "could not use the endpoint \"{endpoint}\": it must begin with http:// or https:// and name a host"
            )));
        }
        let config = self.within("finding the AWS configuration", given.load()).await?;
        let region = config.region().map(ToString::to_string).ok_or_else(|| self.refused("no AWS region is set"))?;
        self.within("getting AWS credentials", credentials(&config)).await?.map_err(|text| self.refused(&text))?;
        let place = config.endpoint_url().map_or_else(|| format!("region {region}"), ToOwned::to_owned);
        Ok((config, place))
    }

    /// # Errors
    /// The time is over.
    async fn within<T>(&self, what: &str, work: impl Future<Output = T>) -> Result<T> {
        timeout_at(self.deadline, work).await.map_err(|_| {
            let (subject, time) = (&self.subject, self.time);
            Error::new(self.kind, format!("could not open {subject}: {what} took longer than {time:?}"))
        })
    }

    /// Calls until there is an answer, the failure cannot pass, or the time is over. What calls are about is called `subject`
    /// here: by now more is known of it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where the service refuses, else this value's kind.
    pub async fn repeat<T, F>(&self, subject: &str, metrics: &RetryMetrics, mut call: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut last = None;
        let attempts = async {
            let mut retries = Retries::new(Duration::MAX, &WallClock, metrics, format!("reach {subject}"));
            loop {
                let failure = match call().await {
                    Ok(answer) => return Ok(answer),
                    Err(failure) => failure,
                };
                if failure.remedy.is_final_at_start() {
                    return Err(Error::config(format!("could not open {subject}")).caused_by(failure));
                }
                last = Some(failure.clone());
                let waited = retries.wait_out(failure).await;
                waited
                    .map_err(|failure| Error::new(self.kind, format!("could not open {subject}")).caused_by(failure))?;
            }
        };
        let answer = timeout_at(self.deadline, attempts).await;
        answer.unwrap_or_else(|_| {
            let error = Error::new(self.kind, format!("could not reach {subject} within {:?}", self.time));
            Err(match last {
                Some(failure) => error.caused_by(failure),
                None => error,
            })
        })
    }
}
