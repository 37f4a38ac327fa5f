//! The job as a child process: started, killed, stopped, and never left behind.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::embedded::REGION;

/// Lines of a failed child's log that are quoted.
const QUOTED: usize = 8;

/// How the job is started.
#[derive(Debug, Clone)]
pub struct JobSpec {
    /// The program; the demo's own.
    pub program: PathBuf,
    /// Its arguments, without workers and report.
    pub arguments: Vec<String>,
    /// Where logs and reports go.
    pub dir: PathBuf,
}

/// One incarnation of the job. Dropping it kills it.
#[derive(Debug)]
pub struct Job {
    child: Child,
    log: PathBuf,
    report: PathBuf,
}

impl Job {
    /// Starts the job's `incarnation`-th process with `workers` workers.
    ///
    /// # Errors
    /// A program that cannot be started.
    pub fn start(spec: &JobSpec, incarnation: usize, workers: usize) -> Result<Self> {
        let log = spec.dir.join(format!("job-{incarnation}.log"));
        let report = spec.dir.join(format!("report-{incarnation}.json"));
        let stderr = File::create(&log).with_context(|| format!("could not make \"{}\"", log.display()))?;
        let child = Command::new(&spec.program)
            .args(&spec.arguments)
            .args(["--workers", &workers.to_string(), "--tethered", "--report"])
            .arg(&report)
            .envs([("AWS_ACCESS_KEY_ID", "demo"), ("AWS_SECRET_ACCESS_KEY", "demo"), ("AWS_REGION", REGION)])
            // It ends with this process, also where that is killed.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("could not start \"{}\"", spec.program.display()))?;
        Ok(Self { child, log, report })
    }

    /// Where it reports its latencies.
    #[must_use]
    pub fn report(&self) -> &Path {
        &self.report
    }

    /// Fails if it has exited: nobody told it to.
    ///
    /// # Errors
    /// How it exited, and the end of its log.
    pub fn must_be_running(&mut self) -> Result<()> {
        match self.child.try_wait().context("could not look after the job")? {
            None => Ok(()),
            Some(status) => bail!("the job exited by itself, {status}: {}", self.log_end()),
        }
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// A process that cannot be killed, or was gone already.
    pub async fn kill(mut self) -> Result<()> {
        self.must_be_running()?;
        self.child.kill().await.context("could not kill the job")
    }

    /// SIGTERM, and waits up to `within` for it to stop with exit code 0.
    ///
    /// # Errors
    /// Another exit code, or none in time.
    pub async fn stop(mut self, within: Duration) -> Result<()> {
        self.must_be_running()?;
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        kill_process(id.context("the job has no process id")?, Signal::TERM).context("could not stop the job")?;
        let status: ExitStatus = match tokio::time::timeout(within, self.child.wait()).await {
            Ok(status) => status.context("could not wait for the job")?,
            Err(_) => bail!("the job did not stop within {} s of SIGTERM: {}", within.as_secs(), self.log_end()),
        };
        if !status.success() {
            bail!("the job stopped with {status} after SIGTERM: {}", self.log_end());
        }
        Ok(())
    }

    fn log_end(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        let end = lines.get(lines.len().saturating_sub(QUOTED)..).unwrap_or_default().join("; ");
        if end.is_empty() { format!("\"{}\" is empty", self.log.display()) } else { end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(dir: &Path, script: &str) -> JobSpec {
        JobSpec { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()], dir: dir.into() }
    }

    #[tokio::test]
    async fn a_job_that_stops_on_sigterm_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        // The trap must be set before the signal comes: the shell says so in its log.
        let spec = shell(dir.path(), "trap 'exit 0' TERM; echo ready >&2; while :; do sleep 0.01; done");
        let job = Job::start(&spec, 1, 2).unwrap();
        while !job.log_end().contains("ready") {
            tokio::task::yield_now().await;
        }
        job.stop(Duration::from_secs(20)).await.unwrap();
    }

    #[tokio::test]
    async fn a_job_that_exits_by_itself_is_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let mut job = Job::start(&shell(dir.path(), "echo no stream >&2; exit 1"), 1, 2).unwrap();
        job.child.wait().await.unwrap();
        let error = job.must_be_running().unwrap_err().to_string();
        assert!(error.contains("exit status: 1") && error.contains("no stream"), "{error}");
        assert!(job.stop(Duration::from_secs(20)).await.is_err());
    }

    #[tokio::test]
    async fn a_killed_job_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let job = Job::start(&shell(dir.path(), "while :; do sleep 0.01; done"), 1, 2).unwrap();
        let id = Pid::from_raw(job.child.id().unwrap() as i32).unwrap();
        job.kill().await.unwrap();
        assert!(rustix::process::test_kill_process(id).is_err());
    }
}
