//! The job's settings as flags and environment variables.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser};

use super::config::{Restart, parse_bytes, parse_duration};
use crate::error::{Error, Result};

/// Flags for the settings of [`JobConfig`](super::JobConfig). Programs flatten them into their own.
///
/// Each also has an environment variable, which counts where the flag is not given. What neither says is left as the code
/// has it.
///
/// # Examples
/// ```
/// use clap::Parser;
/// use shardflow::runtime::{JobArgs, JobConfig};
///
/// #[derive(Parser)]
/// struct Cli {
///     #[command(flatten)]
///     job: JobArgs,
/// }
///
/// let cli = Cli::parse_from(["metering", "--state", "state", "--epoch", "1s", "--workers", "2"]);
/// let config = JobConfig::named("metering").resolve(&cli.job)?;
/// assert_eq!(config.epoch, shardflow::seconds(1));
/// # Ok::<(), shardflow::Error>(())
/// ```
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Job")]
pub struct JobArgs {
    /// Name of the job, stored with its state
    #[arg(long, env = "SHARDFLOW_JOB_NAME", value_name = "NAME")]
    pub job_name: Option<String>,

    /// Worker threads [default: the cores this process may use]
    #[arg(long, env = "SHARDFLOW_WORKERS", value_name = "N")]
    pub workers: Option<usize>,

    /// Folder of the job's durable state
    #[arg(long, env = "SHARDFLOW_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,

    /// How often results are committed, 10ms to 10m [default: 200ms]
    #[arg(long, env = "SHARDFLOW_EPOCH", value_name = "DURATION", value_parser = parse_duration)]
    pub epoch: Option<Duration>,

    /// How many epochs may be open before the sources wait, 2 to 1000 [default: 3]
    #[arg(long, env = "SHARDFLOW_MAX_OPEN_EPOCHS", value_name = "N")]
    pub max_open_epochs: Option<usize>,

    /// How much may be on its way to keyed steps before the sources wait, 1MiB and more [default: 16MiB]
    #[arg(long, env = "SHARDFLOW_IN_FLIGHT_BYTES", value_name = "BYTES", value_parser = parse_bytes)]
    pub in_flight_bytes: Option<u64>,

    /// How much keyed state is kept in memory, 16MiB and more; what is above it lies on disk [default: half of the memory]
    #[arg(long, env = "SHARDFLOW_STATE_MEMORY", value_name = "BYTES", value_parser = parse_bytes)]
    pub state_memory: Option<u64>,

    /// Into how many parts the keys are cut; fixed at the first start [default: 256]
    #[arg(long, env = "SHARDFLOW_KEY_GROUPS", value_name = "N")]
    pub key_groups: Option<u16>,

    /// Address at which Prometheus may read metrics, such as 127.0.0.1:9000 [default: off]
    #[arg(long, env = "SHARDFLOW_METRICS", value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,

    /// What happens after a failure: never, or on-failure:MAX,BACKOFF such as on-failure:3,1s [default: never]
    #[arg(long, env = "SHARDFLOW_RESTART", value_name = "POLICY")]
    pub restart: Option<Restart>,

    /// How often the splits' loads are compared and splits moved between workers, 10ms to 1 day [default: 60s]
    #[arg(long, env = "SHARDFLOW_REBALANCE", value_name = "DURATION", value_parser = parse_duration)]
    pub rebalance: Option<Duration>,

    /// How long a stop may take to commit the last epoch, 1s to 1h [default: 25s]
    #[arg(long, env = "SHARDFLOW_STOP_TIMEOUT", value_name = "DURATION", value_parser = parse_duration)]
    pub stop_timeout: Option<Duration>,

    /// Allow that state of steps which no longer exist is dropped
    #[arg(
        long,
        env = "SHARDFLOW_ALLOW_DROPPED_STATE",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub allow_dropped_state: Option<bool>,

    /// Allow that a source reads another input than the one that its stored positions are of
    #[arg(
        long,
        env = "SHARDFLOW_ALLOW_CHANGED_SOURCE",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub allow_changed_source: Option<bool>,
}

impl JobArgs {
    /// What the environment alone says, for programs that have no flags.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a variable that cannot be read as its setting.
    pub fn from_env() -> Result<Self> {
        #[derive(Parser)]
        struct NoFlags {
            #[command(flatten)]
            args: JobArgs,
        }
        NoFlags::try_parse_from(["shardflow"]).map(|flags| flags.args).map_err(|error| {
            let report = error.to_string();
            let line = report.lines().next().unwrap_or_default();
            Error::config(format!("could not read the environment: {}", line.trim_start_matches("error: ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::runtime::JobConfig;
    use crate::vocabulary::{millis, seconds};

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        job: JobArgs,
    }

    fn parse(flags: &[&str]) -> std::result::Result<JobArgs, String> {
        let flags = std::iter::once(&"job").chain(flags);
        Cli::try_parse_from(flags).map(|cli| cli.job).map_err(|error| error.to_string())
    }

    #[test]
    fn every_flag_is_read() {
        let args = parse(&[
            "--job-name=j",
            "--workers=3",
            "--state=s",
            "--epoch=50ms",
            "--max-open-epochs=4",
            "--in-flight-bytes=1MiB",
            "--state-memory=1GiB",
            "--key-groups=8",
            "--metrics=127.0.0.1:0",
            "--restart=on-failure:2,1s",
            "--rebalance=5s",
            "--stop-timeout=3s",
            "--allow-dropped-state",
            "--allow-changed-source",
        ])
        .unwrap();
        let expected = JobConfig {
            workers: 3,
            state: "s".into(),
            epoch: millis(50),
            max_open_epochs: 4,
            in_flight_bytes: 1 << 20,
            state_memory: Some(1 << 30),
            key_groups: 8,
            metrics: "127.0.0.1:0".parse().ok(),
            restart: Restart::OnFailure { max: 2, backoff: seconds(1) },
            rebalance: seconds(5),
            stop_timeout: seconds(3),
            allow_dropped_state: true,
            allow_changed_source: true,
            ..JobConfig::named("j")
        };
        assert_eq!(JobConfig::named("code").resolve(&args).unwrap(), expected);
    }

    #[test]
    fn a_flag_that_cannot_be_read_is_named_with_its_value() {
        for (flag, value) in [("--epoch", "fast"), ("--workers", "-1"), ("--metrics", "9000"), ("--restart", "always")]
        {
            let error = parse(&[&format!("{flag}={value}")]).unwrap_err();
            assert!(error.contains(flag) && error.contains(value), "{error}");
        }
    }

    // The environment of a running process cannot be changed safely, so this test starts itself again with another one.
    #[test]
    fn the_environment_overrides_the_code_and_flags_override_the_environment() {
        let child = |test: &str, variables: &[(&str, &str)]| {
            let test = format!("runtime::args::tests::{test}");
            let mut command = Command::new(std::env::current_exe().unwrap());
            let output =
                command.args(["--exact", "--ignored", &test]).envs(variables.iter().copied()).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
        };
        child("in_a_set_environment", &[("SHARDFLOW_WORKERS", "5"), ("SHARDFLOW_EPOCH", "70ms")]);
        child("in_a_broken_environment", &[("SHARDFLOW_WORKERS", "many")]);
    }

    #[test]
    #[ignore = "run by the_environment_overrides_the_code_and_flags_override_the_environment"]
    fn in_a_set_environment() {
        let code = || JobConfig { workers: 2, state: "s".into(), max_open_epochs: 9, ..JobConfig::named("j") };
        let config = code().resolve(&JobArgs::from_env().unwrap()).unwrap();
        assert_eq!((config.workers, config.epoch, config.max_open_epochs), (5, millis(70), 9));
        let config = code().resolve(&parse(&["--workers=6"]).unwrap()).unwrap();
        assert_eq!((config.workers, config.epoch, config.max_open_epochs), (6, millis(70), 9));
    }

    #[test]
    #[ignore = "run by the_environment_overrides_the_code_and_flags_override_the_environment"]
    fn in_a_broken_environment() {
        let error = JobArgs::from_env().unwrap_err().to_string();
        assert!(error.contains("\"many\"") || error.contains("'many'"), "{error}");
        assert!(error.contains("--workers") && !error.contains('\n'), "{error}");
    }
}
