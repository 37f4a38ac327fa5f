//! Runs the job.
use super::config::RunConfig;

/// Runs.
///
/// # Errors
/// Always, until the flow has landed.
pub fn run(config: RunConfig) -> anyhow::Result<()> {
    anyhow::bail!("not yet: {}", config.source)
}
