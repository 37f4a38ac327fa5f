//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use jiff::SignedDuration;
use shardflow_sources::Kinesis;
use shardflow_sources::stream::Begin;

/// Tools for shardflow's sources
#[derive(Debug, Parser)]
#[command(name = "shardflow", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) of: Of,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Of {
    /// Look at an Amazon Kinesis data stream, follow it, fill it, reshard it
    #[command(subcommand)]
    Stream(Task),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Show the stream, its shards and their lineage, its fan-out consumers
    Describe(Describe),
    /// Print records as they come, over splits and merges, parents before children
    Tail(Tail),
    /// Put lines into the stream, a record each
    Put(Put),
    /// Split hot shards, merge cold ones, or change their number
    Reshard(Reshard),
    /// List, register or deregister consumers with enhanced fan-out
    Consumers {
        /// What to do
        #[command(subcommand)]
        task: Consumers,
    },
}

/// Which stream. Credentials, and what is not given, come from the usual AWS configuration.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    /// Name or ARN of the stream
    stream: String,
    /// Another endpoint than that of the region, with http:// or https://
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// AWS region
    #[arg(long)]
    region: Option<String>,
}

impl Place {
    pub(crate) fn settings(&self) -> Kinesis {
        let mut settings = Kinesis::stream(&self.stream);
        if let Some(endpoint) = &self.endpoint {
            settings = settings.endpoint(endpoint);
        }
        if let Some(region) = &self.region {
            settings = settings.region(region);
        }
        settings
    }
}

#[derive(Debug, Args)]
pub(crate) struct Describe {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Ask each shard how far back its records reach: two reads of each
    #[arg(long)]
    pub(crate) lag: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Tail {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Where to begin: latest, trim-horizon, or a time such as 2026-11-01T12:00:00Z
    #[arg(long, value_name = "START", default_value = "latest")]
    pub(crate) from: Begin,
    /// End after so many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Only this shard and not its children; may be given several times. Ends when it is closed and read
    #[arg(long, value_name = "ID")]
    pub(crate) shard: Vec<String>,
    /// Print a JSON object a line; `put --envelope` reads it
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Put {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Files to read; `-` or none: standard input
    pub(crate) files: Vec<PathBuf>,
    /// Lines are JSON objects with partition_key, data (text, or JSON that is put as it is) or data_base64, and perhaps
    /// explicit_hash_key
    #[arg(long, group = "keyed")]
    pub(crate) envelope: bool,
    /// Where in the JSON of a line its partition key is, such as account.id; without it (and --envelope) keys are random
    #[arg(long, value_name = "PATH", group = "keyed")]
    pub(crate) key_field: Option<String>,
    /// At most so many records a second
    #[arg(long, value_name = "N", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Keep the order of each partition key: a call holds each key once, so it is slow where keys are few
    #[arg(long, requires = "keyed")]
    pub(crate) ordered: bool,
    /// Go on after lines that cannot be put; each is named
    #[arg(long)]
    pub(crate) skip_bad: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Reshard {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) goal: Aim,
    /// How far back to look at what flows through the shards, up to 10m; all of it is read. 0s: not at all
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) sample: Duration,
    /// Show the plan and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How long each step may take
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub(crate) step_timeout: Duration,
    /// Print the plan as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Aim {
    /// So many splits, each of the shard that is hottest by then, where its bytes are halved
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) split_hottest: Option<usize>,
    /// So many merges, each of the neighbours that are coldest by then
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) merge_coldest: Option<usize>,
    /// So many shards of even ranges
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) to_count: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Consumers {
    /// List them
    List {
        /// Which stream
        #[command(flatten)]
        place: Place,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Register one and wait until it is ACTIVE
    Register(Consumer),
    /// Deregister one and wait until it is gone
    Deregister(Consumer),
}

impl Consumers {
    pub(crate) fn place(&self) -> &Place {
        match self {
            Self::List { place, .. } => place,
            Self::Register(consumer) | Self::Deregister(consumer) => &consumer.place,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Consumer {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Its name
    pub(crate) name: String,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration)]
    pub(crate) timeout: Duration,
}

fn count(text: &str) -> Result<usize, String> {
    let number = text.parse().map_err(|_| "not a whole number".to_owned())?;
    if (1..=10_000).contains(&number) { Ok(number) } else { Err("not from 1 to 10000".to_owned()) }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.001..=1e9).contains(&rate) { Ok(rate) } else { Err("not from 0.001 to 1000000000".to_owned()) }
}

/// `10s`, `500ms`, `1m 30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let span: SignedDuration = text.parse().map_err(|_| "not a time such as 10s or 5m".to_owned())?;
    Duration::try_from(span).map_err(|_| "not a time from now on".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Task, String> {
        let words = std::iter::once("shardflow").chain(line.split(' '));
        Cli::try_parse_from(words).map(|Cli { of: Of::Stream(task) }| task).map_err(|error| error.to_string())
    }

    #[test]
    fn clap_finds_the_command_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_and_numbers_are_read_with_their_bounds() {
        let Ok(Task::Reshard(args)) = parse("stream reshard s --to-count 3 --sample 500ms") else { panic!("reshard") };
        assert_eq!((args.sample, args.step_timeout), (Duration::from_millis(500), Duration::from_secs(300)));
        for bad in [
            "stream reshard s --to-count 0",
            "stream reshard s --to-count 1 --sample soon",
            "stream reshard s --to-count 1 --sample -5s",
            "stream put s --rate 0",
            "stream put s --rate nan",
            "stream tail s --limit 0",
            "stream tail s --from tomorrow",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reshard_has_one_goal_and_a_put_one_way_to_find_keys() {
        assert!(parse("stream reshard s").unwrap_err().contains("--to-count"));
        assert!(parse("stream reshard s --to-count 3 --split-hottest 1").is_err());
        assert!(parse("stream put s --envelope --key-field a").is_err());
        assert!(parse("stream put s --ordered").is_err(), "random keys have no order");
        assert!(
            parse("stream put s --ordered --key-field a").is_ok() && parse("stream put s --ordered --envelope").is_ok()
        );
    }
}
