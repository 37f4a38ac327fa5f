//! Reaches a service at the start, within a bounded time, and says clearly what is wrong where it cannot.

use std::future::Future;
use std::time::Duration;

use aws_config::SdkConfig;
use shardflow::metrics::RetryMetrics;
use shardflow::retry::{Retries, WallClock};
use shardflow::{Error, ErrorKind, Result};
use tokio::time::{Instant, timeout_at};

use crate::config::{Given, check_endpoint, credentials, endpoint_of};
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
    /// Opens `subject` (`stream "usage"`, without its place, which may not be fit to be shown) within `time`, from now on. `kind` is that of failures that may pass.
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
        // Before anything can tell of it.
        self.check(given.endpoint, "that is given")?;
        let config = self.within("finding the AWS configuration", given.load()).await?;
        let endpoint = endpoint_of(&config, given.service);
        self.check(endpoint.as_deref(), "of the AWS configuration (AWS_ENDPOINT_URL, a profile or the program's own)")?;
        let region = config.region().map(ToString::to_string).ok_or_else(|| self.refused("no AWS region is set"))?;
        self.within("getting AWS credentials", credentials(&config)).await?.map_err(|text| self.refused(&text))?;
        Ok((config, endpoint.unwrap_or_else(|| format!("region {region}"))))
    }

    /// # Errors
    /// An endpoint that cannot be called, or must not be shown. It is not repeated.
    fn check(&self, endpoint: Option<&str>, which: &str) -> Result<()> {
        endpoint.map_or(Ok(()), check_endpoint).map_err(|why| {
            Error::config(format!("could not open {}: could not use the endpoint {which}: {why}", self.subject))
        })
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

#[cfg(test)]
mod tests {
    use aws_config::Region;
    use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

    use super::*;

    const BAD: &str = "https://user:SECRET@host";

    /// What an environment has: an endpoint for Kinesis alone.
    #[derive(Debug)]
    struct Environment;

    impl LoadServiceConfig for Environment {
        fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
            (key.service_id() == "Kinesis").then(|| BAD.to_owned())
        }
    }

    #[tokio::test]
    async fn an_endpoint_with_credentials_is_refused_wherever_it_comes_from_and_not_repeated() {
        let config = || SdkConfig::builder().region(Region::new("eu-west-1"));
        let (own, own_of_service) = (
            config().endpoint_url(BAD).build(),
            config().service_config(Environment).endpoint_url("https://x").build(),
        );
        let given =
            |config, endpoint| Given { service: "Kinesis", config, endpoint, region: Some("r"), otherwise: None };
        for given in [given(None, Some(BAD)), given(Some(&own), None), given(Some(&own_of_service), None)] {
            let opening = Opening::new(ErrorKind::Sink, "stream \"usage\"", Duration::from_secs(60));
            let error = opening.configure(given).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let error = format!("{error} {error:?}");
            assert!(error.contains("stream \"usage\"") && error.contains("it holds a user name"), "{error}");
            assert!(!error.contains("SECRET") && !error.contains("user:"), "{error}");
        }
        let opening = Opening::new(ErrorKind::Sink, "stream \"usage\"", Duration::from_secs(60));
        let error = opening.configure(given(Some(&own_of_service), Some("https://x"))).await.unwrap_err().to_string();
        assert!(error.contains("no AWS credentials"), "what a program gives counts more: {error}");
    }
}
