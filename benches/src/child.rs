//! A program as a child process: run to its end, or left running, and what it used.
//!
//! The system keeps a child's processor time in `/proc` until the child is waited for, so the time is read between its end
//! and the wait: exact, all threads, in the kernel's ticks. Peak memory is gone by then. It is read from the running
//! child every few milliseconds; being a high-water mark, it can only miss growth in the last of them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// How often peak memory is read.
const SAMPLE: Duration = Duration::from_millis(5);
/// Linux shows times to programs in hundredths of a second, on every machine that this runs on.
const TICKS_PER_SECOND: u64 = 100;
/// Lines of a failed child's log that are quoted.
const QUOTED: usize = 8;
/// How long a child may take to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(30);

/// What a run took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    /// From before it was started to its end.
    pub(crate) elapsed: Duration,
    /// Processor time, user and system, all threads.
    pub(crate) cpu: Duration,
    /// Peak of resident memory, in bytes.
    pub(crate) peak: u64,
}

/// A running child. Dropping it kills it.
pub(crate) struct Running {
    child: Child,
    pid: Pid,
    log: PathBuf,
    started: Instant,
}

impl Running {
    /// Starts `command`; what it writes goes to `log`.
    pub(crate) fn start(command: &mut Command, log: PathBuf) -> Result<Self> {
        let output = File::create(&log).with_context(|| format!("could not make \"{}\"", log.display()))?;
        let errors = output.try_clone().with_context(|| format!("could not share \"{}\"", log.display()))?;
        let started = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        let child = child.with_context(|| format!("could not start {:?}", command.get_program()))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a child has no process id")?;
        Ok(Self { child, pid, log, started })
    }

    /// Waits for its end, which must be a success.
    pub(crate) fn finish(mut self) -> Result<Usage> {
        let (done, ended) = channel::<()>();
        let status_file = self.proc("status");
        let (elapsed, peak) = thread::scope(|scope| -> Result<(Duration, u64)> {
            let sampler = scope.spawn(move || {
                let mut peak = 0;
                while ended.recv_timeout(SAMPLE) == Err(RecvTimeoutError::Timeout) {
                    peak = peak.max(peak_memory(&fs::read_to_string(&status_file).unwrap_or_default()));
                }
                peak
            });
            // Leaves it unwaited, so that its times can still be read.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            let waited = waitid(WaitId::Pid(self.pid), options).context("could not wait for a child");
            let elapsed = self.started.elapsed();
            drop(done);
            let peak = sampler.join().unwrap_or_default();
            waited.map(|_| (elapsed, peak))
        })?;
        let cpu = self.cpu()?;
        let status = self.child.wait().context("could not wait for a child")?;
        self.require(status)?;
        Ok(Usage { elapsed, cpu, peak })
    }

    /// Waits until `path` is there: how a child says that it is ready.
    pub(crate) fn wait_for(&mut self, path: &Path, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        while !path.exists() {
            if let Some(status) = self.child.try_wait().context("could not look after a child")? {
                self.require(status)?;
                bail!("a child ended before it was ready: {}", self.quoted());
            }
            if Instant::now() > deadline {
                bail!("a child was not ready within {} s: {}", within.as_secs(), self.quoted());
            }
            thread::sleep(SAMPLE);
        }
        Ok(())
    }

    /// Processor time until now, or until its end.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(self.proc("stat")).context("could not read a child's times")?;
        cpu_time(&stat).with_context(|| format!("could not understand a child's times: {stat}"))
    }

    /// SIGTERM; it must end with exit code 0.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill_process(self.pid, Signal::TERM).context("could not stop a child")?;
        let deadline = Instant::now() + STOPS_WITHIN;
        loop {
            if let Some(status) = self.child.try_wait().context("could not look after a child")? {
                return self.require(status);
            }
            if Instant::now() > deadline {
                bail!("a child did not stop within {} s of SIGTERM: {}", STOPS_WITHIN.as_secs(), self.quoted());
            }
            thread::sleep(SAMPLE);
        }
    }

    fn require(&self, status: ExitStatus) -> Result<()> {
        if !status.success() {
            bail!("a child ended with {status}: {}", self.quoted());
        }
        Ok(())
    }

    fn proc(&self, file: &str) -> PathBuf {
        format!("/proc/{}/{file}", self.child.id()).into()
    }

    /// The end of its log.
    fn quoted(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(QUOTED)..).unwrap_or_default().join("; ")
    }
}

impl Drop for Running {
    /// Nothing that was started here outlives the benchmark. A child that has ended already is no matter.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `VmHWM` of `/proc/PID/status`, in bytes; 0 where the process has no memory any more.
fn peak_memory(status: &str) -> u64 {
    let text = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let kib = text.trim().strip_suffix("kB").unwrap_or_default().trim().parse::<u64>().unwrap_or_default();
    kib.saturating_mul(1024)
}

/// User and system time of `/proc/PID/stat`: the 14th and 15th fields. The 2nd, a name, may hold spaces and brackets.
fn cpu_time(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let ticks = times.next()?.ok()?.checked_add(times.next()?.ok()?)?;
    Some(Duration::from_millis(ticks.saturating_mul(1000 / TICKS_PER_SECOND)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, dir: &Path) -> Running {
        Running::start(Command::new("/bin/sh").args(["-c", script]), dir.join("log")).unwrap()
    }

    #[test]
    fn times_are_found_behind_a_name_with_brackets() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20";
        assert_eq!(cpu_time(stat), Some(Duration::from_millis(1750)));
        assert_eq!(cpu_time("7 (a) S 1"), None);
    }

    #[test]
    fn peak_memory_of_a_process_that_has_none_is_nothing() {
        assert_eq!(peak_memory("Name:\tx\nVmHWM:\t    1234 kB\nVmRSS:\t 1 kB\n"), 1234 * 1024);
        assert_eq!(peak_memory("Name:\tx\nState:\tZ (zombie)\n"), 0);
    }

    #[test]
    fn a_child_that_worked_has_used_time_and_memory() {
        let dir = tempfile::tempdir().unwrap();
        // Until it has used 50 ms of processor time by its own account, however slow the machine is.
        let script =
            "while :; do read -r stat < /proc/$$/stat; set -- $stat; [ $((${14} + ${15})) -ge 5 ] && exit; done";
        let usage = shell(script, dir.path()).finish().unwrap();
        assert!(usage.cpu >= Duration::from_millis(50) && usage.peak > 100_000, "{usage:?}");
        assert!(usage.elapsed >= usage.cpu / 2, "{usage:?}");
    }

    #[test]
    fn a_child_that_fails_is_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let error = shell("echo no input >&2; exit 3", dir.path()).finish().unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no input"), "{error}");
    }

    #[test]
    fn a_child_that_ends_before_it_is_ready_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = shell("exit 0", dir.path());
        let error = child.wait_for(&dir.path().join("ready"), Duration::from_secs(20)).unwrap_err().to_string();
        assert!(error.contains("before it was ready"), "{error}");
    }

    #[test]
    fn a_child_that_is_ready_stops_when_it_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let ready = dir.path().join("ready");
        let script = format!("trap 'exit 0' TERM; : > '{}'; while :; do sleep 0.01; done", ready.display());
        let mut child = shell(&script, dir.path());
        child.wait_for(&ready, Duration::from_secs(20)).unwrap();
        child.stop().unwrap();
    }
}
