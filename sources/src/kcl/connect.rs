//! Reaches the lease table at the start, within a bounded time, makes it where it is to be made, and says clearly what is
//! wrong where it cannot.

use std::future::Future;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use shardflow::metrics::SourceMetrics;
use shardflow::{Error, Result};
use tokio::time::{Instant, timeout_at};

use super::Leases;
use super::store::Store;
use super::table::Table;
use crate::aws::config::{Given, credentials, is_url};
use crate::aws::failure::{Failure, Remedy};
use crate::aws::retry::{Retries, WallClock};

/// How long reaching the table may take, all in all. A new one takes DynamoDB some seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest that one call may take.
const LONGEST_CALL: Duration = Duration::from_secs(5);

/// What to do where there is no such table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfAbsent {
    /// Refuse to start: somebody else must have made it.
    Refuse,
    /// Make it.
    Make,
}

/// The table, after one successful call.
///
/// # Errors
/// [`ErrorKind::Config`](shardflow::ErrorKind::Config): a bad name, region or endpoint, no credentials, or the service
/// refuses (no such table, no permission). [`ErrorKind::Source`](shardflow::ErrorKind::Source): it could not be reached.
pub(super) async fn connect(
    settings: &Leases,
    region: Option<&str>,
    if_absent: IfAbsent,
    metrics: &SourceMetrics,
) -> Result<Table> {
    if !is_table_name(&settings.table) {
        return Err(Error::config(format!(
            "could not use \"{}\": that is no name of a DynamoDB table",
            settings.table
        )));
    }
    if let Some(endpoint) = settings.endpoint.as_deref().filter(|endpoint| !is_url(endpoint)) {
        return Err(Error::config(format!(
            "could not use the endpoint \"{endpoint}\": it must begin with http:// or https:// and name a host"
        )));
    }
    let bounds = Bounds { settings, deadline: Instant::now() + CONNECT_TIMEOUT };
    let given = Given {
        config: settings.sdk_config.as_ref(),
        endpoint: settings.endpoint.as_deref(),
        region: settings.region.as_deref(),
        otherwise: region,
    };
    let config = bounds.within("finding the AWS configuration", given.load()).await?;
    let region = config.region().map(ToString::to_string).ok_or_else(|| bounds.refused("no AWS region is set"))?;
    bounds.within("getting AWS credentials", credentials(&config)).await?.map_err(|text| bounds.refused(&text))?;
    let place = config.endpoint_url().map_or_else(|| format!("region {region}"), ToOwned::to_owned);
    let description = format!("lease table \"{}\" at {place}", settings.table);
    let table = Table { sdk: client(&config, settings.failover_time), name: settings.table.clone(), description };
    bounds.check(&table, if_absent, metrics).await?;
    Ok(table)
}

/// Calls end well before a lease expires, so that a lost one can be made again in time. Retries are ours: the SDK's would
/// hide when a renewal began.
fn client(config: &SdkConfig, failover_time: Duration) -> aws_sdk_dynamodb::Client {
    let call = (failover_time / 3).min(LONGEST_CALL);
    let timeouts = TimeoutConfig::builder().connect_timeout(call).operation_attempt_timeout(call).build();
    let config = aws_sdk_dynamodb::config::Builder::from(config);
    aws_sdk_dynamodb::Client::from_conf(config.retry_config(RetryConfig::disabled()).timeout_config(timeouts).build())
}

/// 3 to 255 of the characters that DynamoDB allows.
fn is_table_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (3..=255).contains(&name.len()) && name.bytes().all(is_allowed)
}

/// The time that reaching the table may take, and what to say when it is over.
struct Bounds<'a> {
    settings: &'a Leases,
    deadline: Instant,
}

impl Bounds<'_> {
    /// `lease table "usage" at http://…`, as far as the settings tell.
    fn subject(&self) -> String {
        let place = self.settings.endpoint.as_ref().map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
        format!("lease table \"{}\"{place}", self.settings.table)
    }

    fn refused(&self, why: &str) -> Error {
        Error::config(format!("could not open {}: {why}", self.subject()))
    }

    async fn within<T>(&self, what: &str, work: impl Future<Output = T>) -> Result<T> {
        timeout_at(self.deadline, work).await.map_err(|_| {
            Error::source(format!("could not open {}: {what} took longer than {CONNECT_TIMEOUT:?}", self.subject()))
        })
    }

    /// Calls the table until it answers and is ready, the failure cannot pass, or the time is over.
    async fn check(&self, table: &Table, if_absent: IfAbsent, metrics: &SourceMetrics) -> Result<()> {
        let subject = table.describe();
        let mut last: Option<Failure> = None;
        let attempts = async {
            let mut retries = Retries::new(Duration::MAX, &WallClock, metrics, format!("reach {subject}"));
            loop {
                let answer = match if_absent {
                    IfAbsent::Refuse => table.is_ready().await.map(drop),
                    IfAbsent::Make => table.make_ready(&WallClock).await,
                };
                let Err(failure) = answer else { return Ok(()) };
                if failure.remedy == Remedy::Missing {
                    return Err(Error::config(format!("could not open {subject}: there is no such table")));
                }
                if failure.remedy.is_final_at_start() {
                    return Err(Error::config(format!("could not open {subject}")).caused_by(failure));
                }
                last = Some(failure.clone());
                retries
                    .wait_out(failure)
                    .await
                    .map_err(|failure| Error::source(format!("could not open {subject}")).caused_by(failure))?;
            }
        };
        timeout_at(self.deadline, attempts).await.unwrap_or_else(|_| {
            let error = Error::source(format!("could not reach {subject} within {CONNECT_TIMEOUT:?}"));
            Err(match last {
                Some(failure) => error.caused_by(failure),
                None => error.caused_by("it is not ready yet"),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_dynamodb_would_refuse_are_refused_before() {
        assert!(is_table_name("usage-app_v1.2") && is_table_name("abc"));
        for bad in ["", "ab", "a b c", "usage/app", &"x".repeat(256)] {
            assert!(!is_table_name(bad), "{bad}");
        }
    }
}
