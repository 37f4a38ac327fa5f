//! A Kinesis inside this process, on loopback, and the administrator's calls on its stream.
//!
//! The server lives as long as [`Embedded`]; its records are in memory and go with it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_kinesis::types::{Shard, StreamStatus};
use axum::extract::DefaultBodyLimit;
use ferrokinesis::store::StoreOptions;
use ferrokinesis::{create_app, serve_plain_http};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The region that everyone in the demo names.
pub const REGION: &str = "us-east-1";
/// Bytes of the largest call: 10 MiB of records in Base64, and what is around them. Without it the server would take 2 MiB.
const LARGEST_CALL: usize = 16 << 20;
/// How long a stream may be busy creating, splitting or merging.
const ACTIVE_WITHIN: Duration = Duration::from_secs(20);

/// The server.
#[derive(Debug)]
pub struct Embedded {
    endpoint: String,
    server: JoinHandle<std::io::Result<()>>,
}

impl Embedded {
    /// Starts it on a free port of loopback, without limits on writes.
    ///
    /// # Errors
    /// No port to be had.
    pub async fn start() -> Result<Self> {
        Self::serve(false).await
    }

    /// As [`Embedded::start`], and a shard takes 1,000 records or 1 MB a second, as on AWS.
    ///
    /// # Errors
    /// No port to be had.
    pub async fn start_with_limits() -> Result<Self> {
        Self::serve(true).await
    }

    async fn serve(enforce_limits: bool) -> Result<Self> {
        let options = StoreOptions {
            create_stream_ms: 20,
            update_stream_ms: 100,
            shard_limit: 1000,
            enforce_limits,
            ..Default::default()
        };
        let (app, _store) = create_app(options);
        let app = app.layer(DefaultBodyLimit::max(LARGEST_CALL));
        let listener = TcpListener::bind("127.0.0.1:0").await.context("could not open a port on loopback")?;
        let address = listener.local_addr().context("could not open a port on loopback")?;
        let server = tokio::spawn(serve_plain_http(listener, app, std::future::pending()));
        Ok(Self { endpoint: format!("http://{address}"), server })
    }

    /// Its address.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A client of it. It does not retry: the producer must know what may have been put twice.
    #[must_use]
    pub fn client(&self) -> Client {
        let timeouts = TimeoutConfig::builder().operation_timeout(Duration::from_secs(10)).build();
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .credentials_provider(Credentials::new("demo", "demo", None, None, "demo"))
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .endpoint_url(&self.endpoint)
            .build();
        Client::from_conf(config)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// One stream, seen by its administrator.
#[derive(Debug, Clone)]
pub struct Stream {
    client: Client,
    name: String,
}

impl Stream {
    /// Creates it and waits until it can be written to.
    ///
    /// # Errors
    /// A refused call, or a stream that is not active within 20 s.
    pub async fn create(client: Client, name: &str, shards: i32) -> Result<Self> {
        let call = client.create_stream().stream_name(name).shard_count(shards).send();
        call.await.with_context(|| format!("could not create stream \"{name}\""))?;
        let stream = Self { client, name: name.to_owned() };
        stream.wait_until_active().await?;
        Ok(stream)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The client it is called with.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The shards that can be written to, in order of their hash keys.
    ///
    /// # Errors
    /// A refused call.
    pub async fn open_shards(&self) -> Result<Vec<OpenShard>> {
        let mut open = Vec::new();
        let mut token = None;
        loop {
            let call = self.client.list_shards();
            let call = match token.take() {
                Some(token) => call.next_token(token),
                None => call.stream_name(&self.name),
            };
            let page = call.send().await.with_context(|| format!("could not list the shards of \"{}\"", self.name))?;
            for shard in page.shards() {
                open.extend(OpenShard::of(shard)?);
            }
            token = page.next_token;
            if token.is_none() {
                break;
            }
        }
        open.sort_by_key(|shard| shard.first);
        Ok(open)
    }

    /// Splits a shard in the middle of its hash keys.
    ///
    /// # Errors
    /// A shard too small to split, a refused call, or a stream that does not become active again.
    pub async fn split(&self, shard: &OpenShard) -> Result<()> {
        let middle = shard.middle().with_context(|| format!("shard \"{}\" is too small to split", shard.id))?;
        let call = self.client.split_shard().stream_name(&self.name).shard_to_split(&shard.id);
        let call = call.new_starting_hash_key(middle.to_string()).send();
        call.await.with_context(|| format!("could not split shard \"{}\"", shard.id))?;
        self.wait_until_active().await
    }

    /// Merges two neighbours.
    ///
    /// # Errors
    /// Shards that are no neighbours, a refused call, or a stream that does not become active again.
    pub async fn merge(&self, left: &OpenShard, right: &OpenShard) -> Result<()> {
        let call = self.client.merge_shards().stream_name(&self.name).shard_to_merge(&left.id);
        let call = call.adjacent_shard_to_merge(&right.id).send();
        call.await.with_context(|| format!("could not merge shards \"{}\" and \"{}\"", left.id, right.id))?;
        self.wait_until_active().await
    }

    async fn wait_until_active(&self) -> Result<()> {
        let poll = async {
            let mut beat = tokio::time::interval(Duration::from_millis(20));
            loop {
                beat.tick().await;
                let call = self.client.describe_stream_summary().stream_name(&self.name).send();
                let answer = call.await.with_context(|| format!("could not describe stream \"{}\"", self.name))?;
                let status = answer.stream_description_summary.map(|summary| summary.stream_status);
                if status == Some(StreamStatus::Active) {
                    return Ok(());
                }
            }
        };
        match tokio::time::timeout(ACTIVE_WITHIN, poll).await {
            Ok(result) => result,
            Err(_) => bail!("stream \"{}\" was not active within {} s", self.name, ACTIVE_WITHIN.as_secs()),
        }
    }
}

/// A shard that can be written to, and the hash keys it takes, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenShard {
    /// Its id.
    pub id: String,
    /// The first hash key.
    pub first: u128,
    /// The last.
    pub last: u128,
}

impl OpenShard {
    fn of(shard: &Shard) -> Result<Option<Self>> {
        let closed = shard.sequence_number_range().is_some_and(|range| range.ending_sequence_number().is_some());
        if closed {
            return Ok(None);
        }
        let id = shard.shard_id().to_owned();
        let range = shard.hash_key_range().with_context(|| format!("shard \"{id}\" has no hash keys"))?;
        let parse = |key: &str| key.parse().with_context(|| format!("shard \"{id}\" has a broken hash key \"{key}\""));
        let (first, last) = (parse(range.starting_hash_key())?, parse(range.ending_hash_key())?);
        Ok(Some(Self { id, first, last }))
    }

    /// Where the right half begins; nothing for a shard of one key.
    #[must_use]
    pub fn middle(&self) -> Option<u128> {
        let middle = self.first + self.last.checked_sub(self.first)? / 2 + 1;
        (middle <= self.last).then_some(middle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middle_halves_the_greatest_range_and_never_leaves_it() {
        let shard = |first, last| OpenShard { id: String::new(), first, last };
        assert_eq!(shard(0, u128::MAX).middle(), Some(1 << 127));
        assert_eq!(shard(4, 5).middle(), Some(5));
        assert_eq!(shard(4, 4).middle(), None);
    }
}
