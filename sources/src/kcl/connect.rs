//! Reaches the lease table at the start, within a bounded time, makes it where it is to be made, and says clearly what is
//! wrong where it cannot.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use shardflow::metrics::SourceMetrics;
use shardflow::retry::WallClock;
use shardflow::{Error, ErrorKind, Result};
use shardflow_aws::config::Given;
use shardflow_aws::connect::Opening;
use shardflow_aws::failure::{Failure, Remedy};

use super::Leases;
use super::table::Table;

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
    let opening = Opening::new(ErrorKind::Source, format!("lease table \"{}\"", settings.table), CONNECT_TIMEOUT);
    let given = Given {
        service: "DynamoDB",
        config: settings.sdk_config.as_ref(),
        endpoint: settings.endpoint.as_deref(),
        region: settings.region.as_deref(),
        otherwise: region,
    };
    let (config, place) = opening.configure(given).await?;
    let description = format!("lease table \"{}\" at {place}", settings.table);
    let table = Table { sdk: client(&config, settings.failover_time), name: settings.table.clone(), description };
    let check = || async {
        let ready = match if_absent {
            IfAbsent::Refuse => table.is_ready().await.map(drop),
            IfAbsent::Make => table.make_ready(&WallClock).await,
        };
        ready.map_err(|failure| match failure.remedy {
            Remedy::Missing => Failure { text: "there is no such table".to_owned(), ..failure },
            _ => failure,
        })
    };
    opening.repeat(&table.description, &metrics.retries, check).await?;
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
