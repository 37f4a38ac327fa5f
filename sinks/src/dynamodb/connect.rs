//! Reaches the table at the start, within a bounded time, and says clearly what is wrong where it cannot be written to.

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use shardflow::metrics::RetryMetrics;
use shardflow::retry::Failed;
use shardflow::{Error, ErrorKind, Result};
use shardflow_aws::config::Given;
use shardflow_aws::connect::Opening;
use shardflow_aws::failure::{Failure, Remedy};

use super::DynamoDb;
use super::schema::{Keys, Schema, Unready};

/// A table, reached through the SDK.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) sdk: Client,
    pub(super) name: String,
    pub(super) schema: Schema,
}

/// The table, once it is there and ready.
///
/// # Errors
/// [`ErrorKind::Config`]: settings that cannot work, no such table, other keys than the sink's, no permission.
/// [`ErrorKind::Sink`]: it could not be reached, or was not ready in time.
pub(super) async fn connect(settings: &DynamoDb) -> Result<Table> {
    let name = &settings.table;
    let keys = keys(settings)?;
    let opening = Opening::new(ErrorKind::Sink, format!("table \"{name}\""), settings.connect_timeout);
    let (config, place) = opening.configure(given(settings)).await?;
    let sdk = client(&config, settings);
    let look = || async {
        let answer = sdk.describe_table().table_name(name).send().await;
        let answer = answer.map_err(|error| {
            let failure = Failure::of(&error);
            match failure.remedy {
                Remedy::Missing => Failure { text: "there is no such table".to_owned(), ..failure },
                _ => failure,
            }
        })?;
        let not_yet = |text| Failure { remedy: Remedy::Retry(Failed::Transient), text };
        let table = answer.table.ok_or_else(|| not_yet("the service did not describe it".to_owned()))?;
        Schema::read(&table, &keys).map_err(|unready| match unready {
            Unready::NotYet(text) => not_yet(text),
            Unready::Never(text) => Failure { remedy: Remedy::None, text },
        })
    };
    let description = format!("table \"{name}\" at {place}");
    let schema = opening.repeat(&description, &RetryMetrics::unseen(), look).await?;
    Ok(Table { sdk, name: name.clone(), schema })
}

/// The table, as far as it is known before anything is reached: `table "charges" at region eu-west-1`. What is no table's name
/// is not shown: it might be anything.
pub(super) fn place(settings: &DynamoDb) -> String {
    match is_table(&settings.table) {
        true => given(settings).locate(&format!("table \"{}\"", settings.table)),
        false => "a table without a name that it can have".to_owned(),
    }
}

fn given(settings: &DynamoDb) -> Given<'_> {
    Given {
        service: "DynamoDB",
        config: settings.sdk_config.as_ref(),
        endpoint: settings.endpoint.as_deref(),
        region: settings.region.as_deref(),
        otherwise: region_of(&settings.table),
    }
}

/// The key's names, with what can be known to be wrong before any call.
fn keys(settings: &DynamoDb) -> Result<Keys> {
    let table = &settings.table;
    if !is_table(table) {
        let error = format!("could not use \"{table}\": that is no name of a DynamoDB table, and no ARN of one");
        return Err(Error::config(error));
    }
    let keys = Keys { partition: settings.key.clone(), sort: settings.sort_key.clone() };
    if keys.names().any(str::is_empty) {
        return Err(Error::config(format!("could not write to table \"{table}\": a key attribute has no name")));
    }
    Ok(keys)
}

/// Retries are ours: the SDK's would hide throttling from the pace. A call that takes too long is made again.
fn client(config: &SdkConfig, settings: &DynamoDb) -> Client {
    let call = settings.call_timeout;
    let timeouts = TimeoutConfig::builder().connect_timeout(call).operation_attempt_timeout(call).build();
    let config = aws_sdk_dynamodb::config::Builder::from(config);
    Client::from_conf(config.retry_config(RetryConfig::disabled()).timeout_config(timeouts).build())
}

/// A name of 3 to 255 of the characters that DynamoDB allows, or `arn:…:table/` with one.
fn is_table(name: &str) -> bool {
    let name = match name.strip_prefix("arn:") {
        Some(arn) => arn.split_once(":table/").map_or("", |(_, name)| name),
        None => name,
    };
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (3..=255).contains(&name.len()) && name.bytes().all(is_allowed)
}

/// The region that an ARN names.
fn region_of(table: &str) -> Option<&str> {
    table.strip_prefix("arn:")?.split(':').nth(2).filter(|region| !region.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_named_by_a_name_or_an_arn() {
        let arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/charges";
        assert!(is_table("charges-1_a.b") && is_table("abc") && is_table(arn));
        for bad in [
            "",
            "ab",
            "a b c",
            "charges/x",
            &"x".repeat(256),
            "arn:aws:dynamodb:eu-west-1:1:index/charges",
            &format!("{arn}/index/x"),
        ] {
            assert!(!is_table(bad), "{bad}");
        }
        assert_eq!(region_of(arn), Some("eu-west-1"));
        assert_eq!(region_of("charges"), None);
    }
}
