//! The settings of a job: what they are, what they default to and why, and which values cannot work.
//!
//! A value comes from the code, is overridden by the environment, and that by a flag: the program's author proposes, the
//! machine's operator decides. The order is that of [`JobConfig::resolve`], which also checks the outcome, so that a
//! setting that cannot work stops the program before it reads or writes anything.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread::available_parallelism;
use std::time::Duration;

use jiff::fmt::friendly::SpanParser;

use super::args::JobArgs;
use crate::error::{Error, ErrorKind, Result};
use crate::exchange::KeyGroups;
use crate::vocabulary::shown;

const EPOCH: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(600);
const REBALANCE: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(86_400);
const STOP_TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
const OPEN_EPOCHS: RangeInclusive<usize> = 2..=1000;
const IN_FLIGHT_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 40;
const STATE_MEMORY: RangeInclusive<u64> = 16 << 20..=1 << 40;
const NAME_LENGTH: usize = 100;

/// What happens after a failure that a restart may mend ([`ErrorKind::may_pass`](crate::ErrorKind::may_pass)).
///
/// # Examples
/// ```
/// use shardflow::runtime::Restart;
/// use shardflow::seconds;
/// assert_eq!("never".parse::<Restart>()?, Restart::Never);
/// assert_eq!("on-failure:5,2s".parse::<Restart>()?, Restart::OnFailure { max: 5, backoff: seconds(2) });
/// # Ok::<(), shardflow::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// The program exits. The default: a supervisor (systemd, Kubernetes) restarts it, sees that it did, and can alert.
    #[default]
    Never,
    /// The job starts again in the same process, from the last committed epoch. Not where a sink or the disk does not come
    /// back within `stop_timeout`: it still holds what the next start needs.
    OnFailure {
        /// How many times in a row without a commit in between; then the program exits.
        max: u32,
        /// How long before the first restart, 1 ms to 1 h. Doubles with each one in a row.
        backoff: Duration,
    },
}

impl Restart {
    /// How long to wait before a restart after a failure of `kind`, when `before` failures in a row went before it without
    /// a commit in between. `None`: give up.
    #[must_use]
    pub fn backoff(self, before: u32, kind: ErrorKind) -> Option<Duration> {
        match self {
            Self::OnFailure { max, backoff } if kind.may_pass() && before < max => {
                Some(backoff.saturating_mul(1 << before.min(16)).min(*BACKOFF.end()))
            }
            _ => None,
        }
    }
}

impl FromStr for Restart {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || Error::config(format!("restart \"{text}\" is unknown: never, or on-failure:MAX,BACKOFF"));
        if text == "never" {
            return Ok(Self::Never);
        }
        let settings = match text.strip_prefix("on-failure").ok_or_else(unknown)? {
            "" => "3",
            settings => settings.strip_prefix(':').ok_or_else(unknown)?,
        };
        let (max, backoff) = settings.split_once(',').unwrap_or((settings, "1s"));
        Ok(Self::OnFailure { max: max.parse().map_err(|_| unknown())?, backoff: parse_duration(backoff)? })
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::OnFailure { max, backoff } => write!(f, "on-failure:{max},{}", shown(*backoff)),
        }
    }
}

/// The settings of a job.
///
/// # Examples
/// ```
/// use shardflow::runtime::{JobArgs, JobConfig};
/// let mut config = JobConfig::named("metering");
/// config.state = "state".into();
/// config.workers = 2;
/// let config = config.resolve(&JobArgs { workers: Some(4), ..JobArgs::default() })?;
/// assert_eq!(config.workers, 4);
/// # Ok::<(), shardflow::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobConfig {
    /// The job's name: letters, digits, `.`, `_` and `-`, at most 100. It is stored with the state and is part of the names of
    /// result files, so that two jobs cannot take each other's. No default: it must not change when the code moves.
    pub name: String,
    /// Worker threads in this process, 1 to `key_groups`. Default: the cores that this process may use (a container's
    /// limit counts), at least 1. A worker never waits for another thread while it has records, so more do not help.
    pub workers: usize,
    /// The folder of the job's durable state. No default: a job started in another working directory would silently
    /// begin from nothing and count everything twice.
    pub state: PathBuf,
    /// How long an epoch is, 10 ms to 10 min: how often results become visible, and how much is read again after a crash.
    /// Default 200 ms: results in under half a second, and a commit (about 6 ms for 50,000 changed keys) stays a small
    /// part of it.
    pub epoch: Duration,
    /// How many epochs may be open before the sources wait, 2 to 1000. Default 3: one being read, one being worked off, one
    /// being committed. More only adds latency and memory when something is slow.
    pub max_open_epochs: usize,
    /// How many bytes may be on their way between the sources of this process and its keyed steps, those that wait for their
    /// epoch included, before the sources wait; 1 MiB to 1 TiB. Keeps a fast worker from filling a slow one's queue within an
    /// epoch. Default 16 MiB: some 15 ms of input at full speed, which is more than the workers drift apart; 64 MiB were no
    /// faster, and took 25 MB more.
    pub in_flight_bytes: u64,
    /// How many bytes of keyed state ([`KeyedStream::running`](crate::KeyedStream::running), [`KeyedStream::process`](crate::KeyedStream::process))
    /// the job keeps in memory, 16 MiB to 1 TiB. What is above it lies in the state folder and is read back when its key comes again: slower, and never
    /// killed. Windows, timers and dedupe are not counted. Default half of the memory that this process may use (a
    /// container's limit counts).
    pub state_memory: Option<u64>,
    /// Into how many parts the keys are cut, 1 to 65535: the most workers that the job can ever have. Fixed at the job's first
    /// start. Default 256: even shares up to some 50 workers, and few enough that an idle group costs nothing.
    pub key_groups: u16,
    /// Where Prometheus may read metrics. Default none: no port is opened unless somebody asks for it.
    pub metrics: Option<SocketAddr>,
    /// What happens after a failure. Default [`Restart::Never`].
    pub restart: Restart,
    /// How often the splits' loads are compared, and splits moved to workers that have less to do; 10 ms to 1 day. Default
    /// 60 s: a move interrupts a split's reading for a moment, and a load is worth following only if it lasts.
    pub rebalance: Duration,
    /// How long a stop (SIGINT, SIGTERM) may take to commit the last epoch and to close the sinks, 1 s to 1 h; then the program exits with an error
    /// and the last committed epoch stands. Default 25 s: just under the 30 s after which Kubernetes kills.
    pub stop_timeout: Duration,
    /// Whether state of steps that the program no longer has may be dropped. Default no: a renamed step would lose its
    /// state without a word.
    pub allow_dropped_state: bool,
    /// Whether a source may read another input than the one that its stored positions are of, keeping the positions. Default
    /// no: files or shards of the same names would be taken for those that were read already. For an input that has
    /// moved.
    pub allow_changed_source: bool,
}

impl JobConfig {
    /// The defaults, for a job of this name.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            workers: available_parallelism().map_or(1, std::num::NonZero::get),
            state: PathBuf::new(),
            epoch: Duration::from_millis(200),
            max_open_epochs: 3,
            in_flight_bytes: 16 << 20,
            state_memory: None,
            key_groups: 256,
            metrics: None,
            restart: Restart::Never,
            rebalance: Duration::from_secs(60),
            stop_timeout: Duration::from_secs(25),
            allow_dropped_state: false,
            allow_changed_source: false,
        }
    }

    /// Overrides these settings by what `args` (flags, and the environment where there was no flag) say, and checks all.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a value that cannot work; it names the flag and the value.
    pub fn resolve(mut self, args: &JobArgs) -> Result<Self> {
        fn set<T: Clone>(setting: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                setting.clone_from(value);
            }
        }
        set(&mut self.name, &args.job_name);
        set(&mut self.workers, &args.workers);
        set(&mut self.state, &args.state);
        set(&mut self.epoch, &args.epoch);
        set(&mut self.max_open_epochs, &args.max_open_epochs);
        set(&mut self.in_flight_bytes, &args.in_flight_bytes);
        self.state_memory = args.state_memory.or(self.state_memory);
        set(&mut self.key_groups, &args.key_groups);
        set(&mut self.restart, &args.restart);
        set(&mut self.rebalance, &args.rebalance);
        set(&mut self.stop_timeout, &args.stop_timeout);
        set(&mut self.allow_dropped_state, &args.allow_dropped_state);
        set(&mut self.allow_changed_source, &args.allow_changed_source);
        self.metrics = args.metrics.or(self.metrics);
        self.validate()?;
        Ok(self)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a value that cannot work; it names the flag and the value.
    pub fn validate(&self) -> Result<()> {
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        if self.name.is_empty()
            || self.name.len() > NAME_LENGTH
            || self.name.starts_with('.')
            || !self.name.chars().all(allowed)
        {
            return Err(Error::config(format!(
                "--job-name \"{}\" cannot be a file name: 1 to {NAME_LENGTH} letters, digits, '_', '-' and, not first, '.'",
                self.name
            )));
        }
        if self.state.as_os_str().is_empty() {
            return Err(Error::config(
                "no state folder is given: say where with --state, SHARDFLOW_STATE or `.state(path)`",
            ));
        }
        within("--epoch", self.epoch, &EPOCH, |&value| shown(value))?;
        within("--rebalance", self.rebalance, &REBALANCE, |&value| shown(value))?;
        within("--stop-timeout", self.stop_timeout, &STOP_TIMEOUT, |&value| shown(value))?;
        within("--max-open-epochs", self.max_open_epochs, &OPEN_EPOCHS, ToString::to_string)?;
        within("--in-flight-bytes", self.in_flight_bytes, &IN_FLIGHT_BYTES, ToString::to_string)?;
        if let Some(bytes) = self.state_memory {
            within("--state-memory", bytes, &STATE_MEMORY, ToString::to_string)?;
        }
        if let Restart::OnFailure { backoff, .. } = self.restart {
            within("--restart on-failure:MAX,BACKOFF", backoff, &BACKOFF, |&value| shown(value))?;
        }
        within("--key-groups", self.key_groups, &(1..=u16::MAX), ToString::to_string)?;
        within("--workers", self.workers, &(1..=usize::from(self.key_groups)), ToString::to_string)?;
        KeyGroups::new(self.key_groups)?.check_workers(self.workers)
    }
}

fn within<T: PartialOrd>(flag: &str, value: T, range: &RangeInclusive<T>, show: impl Fn(&T) -> String) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let (value, least, most) = (show(&value), show(range.start()), show(range.end()));
    Err(Error::config(format!("{flag} \"{value}\" is out of range: {least} to {most}")))
}

/// Reads a duration as people write it: `200ms`, `5s`, `1h 30m`.
///
/// # Errors
/// [`ErrorKind::Config`] for anything else, a bare number included: its unit would be a guess.
///
/// # Examples
/// ```
/// use shardflow::{minutes, runtime::config::parse_duration};
/// assert_eq!(parse_duration("1h 30m")?, minutes(90));
/// assert!(parse_duration("200").is_err());
/// # Ok::<(), shardflow::Error>(())
/// ```
pub fn parse_duration(text: &str) -> Result<Duration> {
    SpanParser::new()
        .parse_unsigned_duration(text)
        .map_err(|_| Error::config(format!("\"{text}\" is not a duration such as 200ms, 5s or \"1h 30m\"")))
}

/// Reads a number of bytes: `67108864`, `64MiB`, `64M`. K, M and G are powers of 1024, with or without `iB`.
///
/// # Errors
/// [`ErrorKind::Config`] for anything else, and for 2^64 bytes and more.
///
/// # Examples
/// ```
/// use shardflow::runtime::config::parse_bytes;
/// assert_eq!(parse_bytes("64MiB")?, 64 << 20);
/// assert!(parse_bytes("much").is_err());
/// # Ok::<(), shardflow::Error>(())
/// ```
pub fn parse_bytes(text: &str) -> Result<u64> {
    let unit = text.trim_start_matches(|letter: char| letter.is_ascii_digit());
    let shift = match unit {
        "" | "B" => Some(0),
        "K" | "KiB" => Some(10),
        "M" | "MiB" => Some(20),
        "G" | "GiB" => Some(30),
        _ => None,
    };
    let number = text.strip_suffix(unit).and_then(|number| number.parse::<u64>().ok());
    shift
        .zip(number)
        .and_then(|(shift, number)| number.checked_mul(1 << shift))
        .ok_or_else(|| Error::config(format!("\"{text}\" is not a number of bytes such as 67108864 or 64MiB")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vocabulary::{millis, seconds};

    fn valid() -> JobConfig {
        JobConfig { state: "state".into(), workers: 2, ..JobConfig::named("metering") }
    }

    fn refusal(change: impl FnOnce(&mut JobConfig)) -> String {
        let mut config = valid();
        change(&mut config);
        let error = config.validate().unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn restarts_back_off_and_give_up() {
        let policy = Restart::OnFailure { max: 3, backoff: seconds(2) };
        let waits: Vec<_> = (0..4).map(|before| policy.backoff(before, ErrorKind::Sink)).collect();
        assert_eq!(waits, [Some(seconds(2)), Some(seconds(4)), Some(seconds(8)), None]);
        assert_eq!(policy.backoff(0, ErrorKind::Config), None, "a restart cannot mend it");
        assert_eq!(Restart::Never.backoff(0, ErrorKind::Sink), None);
    }

    #[test]
    fn the_defaults_need_only_a_state_folder() {
        let defaults = JobConfig::named("metering");
        assert!(defaults.workers >= 1);
        assert!(defaults.validate().unwrap_err().to_string().contains("no state folder is given"));
        assert!(JobConfig { workers: 1, state: "state".into(), ..defaults }.validate().is_ok());
    }

    #[test]
    fn values_that_cannot_work_are_refused_by_flag_and_value() {
        assert_eq!(refusal(|c| c.epoch = millis(5)), "--epoch \"5ms\" is out of range: 10ms to 10m");
        assert_eq!(refusal(|c| c.workers = 0), "--workers \"0\" is out of range: 1 to 256");
        assert_eq!(refusal(|c| c.workers = 257), "--workers \"257\" is out of range: 1 to 256");
        assert_eq!(refusal(|c| c.max_open_epochs = 1), "--max-open-epochs \"1\" is out of range: 2 to 1000");
        assert_eq!(refusal(|c| c.stop_timeout = Duration::ZERO), "--stop-timeout \"0s\" is out of range: 1s to 1h");
        assert!(refusal(|c| c.in_flight_bytes = 7).starts_with("--in-flight-bytes \"7\" is out of range"));
        assert!(refusal(|c| c.state_memory = Some(7)).starts_with("--state-memory \"7\" is out of range"));
        assert!(refusal(|c| c.key_groups = 0).starts_with("--key-groups \"0\" is out of range"));
        assert!(refusal(|c| c.restart = Restart::OnFailure { max: 3, backoff: Duration::ZERO }).contains("\"0s\""));
        for name in ["", "a/b", "..", "a b", &"x".repeat(101)] {
            assert!(refusal(|c| c.name = name.into()).contains(&format!("--job-name \"{name}\"")));
        }
    }

    #[test]
    fn arguments_override_the_code_and_only_where_they_are_given() {
        let args = JobArgs { epoch: Some(seconds(1)), metrics: "127.0.0.1:9000".parse().ok(), ..JobArgs::default() };
        let config = valid().resolve(&args).unwrap();
        assert_eq!(config, JobConfig { epoch: seconds(1), metrics: args.metrics, ..valid() });
    }

    #[test]
    fn a_restart_policy_is_written_as_it_is_read() {
        for text in ["never", "on-failure:3,1s", "on-failure:10,500ms"] {
            assert_eq!(text.parse::<Restart>().unwrap().to_string(), text);
        }
        assert_eq!("on-failure".parse::<Restart>().unwrap().to_string(), "on-failure:3,1s");
        assert_eq!("on-failure:7".parse::<Restart>().unwrap().to_string(), "on-failure:7,1s");
        for text in ["", "always", "on-failures", "on-failure:", "on-failure:x,1s", "on-failure:3,soon"] {
            assert!(text.parse::<Restart>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text: String, number: u64, unit in "[KMGBi]{0,3}") {
            let _ = (parse_duration(&text), parse_bytes(&text), text.parse::<Restart>());
            let _ = (parse_bytes(&format!("{number}{unit}")), parse_duration(&format!("{number}h")));
        }
    }
}
