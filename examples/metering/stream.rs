//! How a stream is read: the flags of `metering run` that go with `--source kinesis:STREAM` alone.

use clap::{Args, ValueEnum};
use shardflow_sources::{Kinesis, OnExpired, ReadMode, Start};

use super::cli::url;

/// The flags.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Reading a stream")]
pub struct StreamArgs {
    /// Kinesis' address, where it is not AWS'.
    #[arg(long, value_name = "URL", value_parser = url)]
    pub endpoint: Option<String>,
    /// Where to read at the first start: trim-horizon, latest, a time as of RFC 3339, or after:SHARD=SEQUENCE,…
    #[arg(long, value_name = "START", default_value = "trim-horizon")]
    pub start: Start,
    /// By calls, by enhanced fan-out, or by fan-out where it is to be had.
    #[arg(long, value_name = "WAY", default_value = "polling")]
    pub read: Read,
    /// The consumer of enhanced fan-out; registered where the stream has none of that name.
    #[arg(long, value_name = "NAME", default_value = "metering")]
    pub consumer: String,
    /// How many other programs poll the same stream.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub shared_with: u32,
    /// What to do where records have expired before they were read.
    #[arg(long, value_name = "POLICY", default_value = "stop")]
    pub on_expired: Expired,
}

/// How the shards are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Read {
    /// By calls.
    Polling,
    /// By enhanced fan-out.
    FanOut,
    /// By fan-out where it is to be had, else by calls.
    Automatic,
}

/// What to do about records that expired unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Expired {
    /// Stop the job.
    Stop,
    /// Go on with what is left.
    GoOn,
}

impl StreamArgs {
    /// The source.
    #[must_use]
    pub fn source(&self, stream: &str) -> Kinesis {
        let consumer = self.consumer.clone();
        let mode = match self.read {
            Read::Polling => ReadMode::Polling,
            Read::FanOut => ReadMode::FanOut { consumer },
            Read::Automatic => ReadMode::Automatic { consumer },
        };
        let on_expired = match self.on_expired {
            Expired::Stop => OnExpired::Stop,
            Expired::GoOn => OnExpired::GoOn,
        };
        let kinesis = Kinesis::stream(stream).start(self.start.clone()).read_mode(mode);
        let kinesis = kinesis.shared_with(self.shared_with).on_expired(on_expired);
        match &self.endpoint {
            Some(endpoint) => kinesis.endpoint(endpoint),
            None => kinesis,
        }
    }

    /// A flag that is set, where one is.
    #[must_use]
    pub fn set(&self) -> Option<&'static str> {
        let flags = [
            (self.endpoint.is_some(), "--endpoint"),
            (self.start != Start::TrimHorizon, "--start"),
            (self.read != Read::Polling, "--read"),
            (self.shared_with > 0, "--shared-with"),
            (self.on_expired != Expired::Stop, "--on-expired"),
        ];
        flags.into_iter().find_map(|(set, flag)| set.then_some(flag))
    }
}
