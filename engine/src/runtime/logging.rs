//! Logs: `tracing`, on stderr, so that stdout stays a sink's.

use std::env;
use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use crate::error::{Error, Result};

const VARIABLE: &str = "SHARDFLOW_LOG";

/// Warnings of everybody, and the job's own milestones: a line a start, reshard or stop, none a record or epoch.
const DEFAULT: &str = "warn,shardflow=info,shardflow_sources=info,shardflow_sinks=info";

/// Writes logs to stderr, one line an event: what `SHARDFLOW_LOG` selects (`debug`, `info,shardflow::runtime=trace`, …), by
/// default warnings of everybody and the job's milestones.
///
/// May be called again, and in a program that has set up its own `tracing` subscriber: then it changes nothing.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) where `SHARDFLOW_LOG` cannot be read.
pub fn init_logging() -> Result<()> {
    let chosen = match env::var(VARIABLE) {
        Ok(text) => Some(text),
        Err(env::VarError::NotPresent) => None,
        Err(error) => return Err(Error::config(format!("could not read {VARIABLE}")).caused_by(error)),
    };
    let filter = filter(chosen.as_deref())?;
    let subscriber = tracing_subscriber::fmt().compact().with_env_filter(filter).with_writer(stderr);
    // A log that nobody can read any more (a closed pipe, a full disk) is no reason to fail. Reporting it would panic, in
    // whichever thread had something to say.
    let subscriber = subscriber.log_internal_errors(false);
    // It fails only where a subscriber is already set: that one stays.
    let _ = subscriber.with_ansi(stderr().is_terminal()).try_init();
    Ok(())
}

fn filter(chosen: Option<&str>) -> Result<EnvFilter> {
    let text = chosen.filter(|text| !text.trim().is_empty()).unwrap_or(DEFAULT);
    EnvFilter::try_new(text)
        .map_err(|error| Error::config(format!("could not read {VARIABLE} \"{text}\"")).caused_by(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_or_missing_variable_means_the_default() {
        let default = filter(Some(DEFAULT)).unwrap().to_string();
        assert_eq!(filter(None).unwrap().to_string(), default);
        assert_eq!(filter(Some(" ")).unwrap().to_string(), default);
        assert_eq!(filter(Some("debug")).unwrap().to_string(), "debug");
    }

    #[test]
    fn a_variable_that_cannot_be_read_is_quoted() {
        let error = filter(Some("shardflow=loud")).unwrap_err().to_string();
        assert!(error.starts_with("could not read SHARDFLOW_LOG \"shardflow=loud\""), "{error}");
    }

    #[test]
    fn setting_up_twice_changes_nothing() {
        assert!(init_logging().is_ok());
        assert!(init_logging().is_ok());
    }
}
