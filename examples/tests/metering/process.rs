//! One `metering` process: how it is started, what it says, how it ends. Every wait is bounded and waits on an event.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use shardflow_examples::metering::generate::generate;
use shardflow_examples::metering::reference::Semantics;
use shardflow_examples::metering::workload::Spec;
use shardflow_stand_ins::kill::Kill;
use tempfile::TempDir;

/// More than enough for a slow machine: a process that hangs fails its test and not the whole run.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) const SEMANTICS: Semantics = Semantics { window: 60_000, lag: 5_000, grace: 0, dedupe: 86_400_000 };

/// Between two looks at a folder: files give no event, and looking without a pause would take the job's core.
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(2));
}

/// Folders of one job: `in`, `out`, `state`.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With generated files in `in`, of which more records are late and bad than usual.
    pub(crate) fn with_input(records: u64, seed: u64) -> Self {
        let place = Self::empty();
        let spec = Spec { lanes: 3, late: 0.005, bad: 0.005, ..Spec::new(records, seed) };
        generate(spec, &place.path("in")).unwrap();
        place
    }

    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `metering run` on the files in `in`, with short epochs.
    pub(crate) fn job(&self, semantics: &Semantics, workers: usize) -> Launch {
        let launch = Launch::new(&["run"]).args(["--source", &format!("file:{}", self.path("in").display())]);
        launch.folders(self).semantics(semantics).args(["--workers", &workers.to_string(), "--epoch-ms", "10"])
    }
}

/// A process that is to be started. Its environment says nothing to the job but what is set here.
pub(crate) struct Launch(Command);

impl Launch {
    pub(crate) fn new(args: &[&str]) -> Self {
        Self::of(env!("CARGO_BIN_EXE_metering"), args)
    }

    /// A process of another program.
    pub(crate) fn of(program: &str, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        let ours = |name: &str| ["SHARDFLOW_", "AWS_", "FAILPOINTS"].iter().any(|prefix| name.starts_with(prefix));
        for (name, _) in std::env::vars().filter(|(name, _)| ours(name)) {
            command.env_remove(name);
        }
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Self(command)
    }

    pub(crate) fn args<const N: usize>(mut self, args: [&str; N]) -> Self {
        self.0.args(args);
        self
    }

    pub(crate) fn flags(mut self, flags: &[&str]) -> Self {
        self.0.args(flags);
        self
    }

    pub(crate) fn arg(mut self, arg: &OsStr) -> Self {
        self.0.arg(arg);
        self
    }

    pub(crate) fn folders(self, place: &Place) -> Self {
        let (out, state) = (place.path("out"), place.path("state"));
        self.args(["--out", &out.to_string_lossy(), "--state", &state.to_string_lossy()])
    }

    pub(crate) fn semantics(self, semantics: &Semantics) -> Self {
        let Semantics { window, lag, grace, dedupe } = semantics;
        let (window, lag) = (window.to_string(), lag.to_string());
        let (grace, dedupe) = (grace.to_string(), dedupe.to_string());
        self.args(["--window-ms", &window, "--lag-ms", &lag, "--grace-ms", &grace, "--dedupe-ms", &dedupe])
    }

    /// Where relative paths begin.
    pub(crate) fn within(mut self, place: &Place) -> Self {
        self.0.current_dir(place.root());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.env_remove(name);
        self
    }

    /// What happens at named points of the commit.
    pub(crate) fn points(self, points: &str) -> Self {
        self.env("FAILPOINTS", points)
    }

    pub(crate) fn start(self) -> Process {
        self.start_heard_for(usize::MAX)
    }

    /// Starts it and listens to so many lines of what it says; then nobody does.
    pub(crate) fn start_heard_for(mut self, most: usize) -> Process {
        let mut child = self.0.spawn().unwrap();
        let (send, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        // Ends with the process, which closes the pipe; or closes it itself.
        std::thread::spawn(move || {
            for line in stderr.split(b'\n').take(most) {
                let _ = send.send(String::from_utf8_lossy(&line.unwrap()).into_owned());
            }
        });
        Process { child, lines, said: Vec::new() }
    }

    /// Runs it to its own end, which must come within `within`.
    pub(crate) fn end_within(self, within: Duration) -> Ended {
        self.start().end(within)
    }

    /// Runs it to its own end, which must be a good one.
    pub(crate) fn succeed(self) {
        let ended = self.end_within(PATIENCE);
        assert!(ended.status.success(), "{ended:?}");
    }

    /// What it prints on its way to a good end.
    pub(crate) fn output(mut self) -> String {
        let ended = self.0.stdout(Stdio::piped()).output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8(ended.stdout).unwrap()
    }

    /// Runs it until it dies of SIGKILL at a named point.
    pub(crate) fn die_at(self, kill: Kill) {
        self.die_at_beside(kill, "");
    }

    /// As [`die_at`](Self::die_at), while something happens at other points.
    pub(crate) fn die_at_beside(self, kill: Kill, others: &str) {
        let ended = self.points(&format!("{kill};{others}")).end_within(PATIENCE);
        assert_eq!(ended.status.signal(), Some(9), "it never came to {kill}: {ended:?}");
    }
}

/// A process that runs. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stderr: Vec<String>,
}

impl Process {
    /// Waits until it says a line that contains `text`.
    pub(crate) fn says(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push(line),
                Err(error) => panic!("it never said {text:?} ({error}): {:?}", self.said),
            }
            if self.said.last().unwrap().contains(text) {
                return;
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.id().try_into().unwrap()).unwrap(), signal).unwrap();
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGKILL; gives how it ended, which may have been by itself before.
    pub(crate) fn kill(mut self) -> Ended {
        self.child.kill().unwrap();
        self.end(PATIENCE)
    }

    /// Waits for its end.
    pub(crate) fn end(mut self, within: Duration) -> Ended {
        let deadline = Instant::now() + within;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it did not end within {within:?}: {:?}", self.said),
            }
        }
        while self.runs() {
            assert!(Instant::now() < deadline, "it did not end within {within:?}: {:?}", self.said);
            pause();
        }
        Ended { status: self.child.wait().unwrap(), stderr: std::mem::take(&mut self.said) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
