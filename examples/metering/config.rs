//! What the job is told: where it reads, where it writes, and the settings that decide its results.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use shardflow::JobArgs;

use super::outputs::{SinkSpec, Target};
use super::reference::Semantics;
use super::stream::StreamArgs;

/// Where usage comes from: `file:PATH` or `kinesis:STREAM`.
///
/// # Examples
/// ```
/// use shardflow_examples::metering::config::SourceSpec;
/// assert_eq!("kinesis:usage".parse(), Ok(SourceSpec::Kinesis("usage".to_owned())));
/// assert!("usage".parse::<SourceSpec>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSpec {
    /// A file, or a folder of files, of NDJSON; plain, `.gz` or `.zst`. Read to its end.
    File(PathBuf),
    /// A Kinesis stream, by name or ARN. Followed until the job is stopped.
    Kinesis(String),
}

impl FromStr for SourceSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("file" | "kinesis", "")) => Err("nothing after the colon".to_owned()),
            Some(("file", path)) => Ok(Self::File(path.into())),
            Some(("kinesis", stream)) => Ok(Self::Kinesis(stream.to_owned())),
            _ => Err("expected file:PATH or kinesis:STREAM".to_owned()),
        }
    }
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Kinesis(stream) => write!(f, "kinesis:{stream}"),
        }
    }
}

/// The folders below `--out`.
pub const OUTPUTS: [&str; 3] = ["charges", "late", "rejected"];

/// Everything the job is told. Made from checked arguments.
#[derive(Debug, Clone)]
pub struct RunConfig {
    /// Where usage comes from.
    pub source: SourceSpec,
    /// How a stream is read.
    pub stream: StreamArgs,
    /// The folder of `charges/`, `late/` and `rejected/`.
    pub out: PathBuf,
    /// Where charges, bills and raw records go beside or in place of `charges/`.
    pub sinks: Vec<SinkSpec>,
    /// The folder of the job's state.
    pub state: PathBuf,
    /// The engine's own settings.
    pub job: JobArgs,
    /// Length of a window of event time.
    pub window: Duration,
    /// How far a split's watermark stays behind its greatest event time.
    pub lag: Duration,
    /// How long after its end a window still takes records. They go out as late only after that.
    pub grace: Duration,
    /// How far apart two records of one id may lie and still be copies; zero: copies count.
    pub dedupe: Duration,
    /// Where latencies are reported to, for the demo.
    pub report: Option<PathBuf>,
    /// Whether to stop when standard input ends.
    pub tethered: bool,
}

impl RunConfig {
    /// The settings that decide the results, for the reference.
    #[must_use]
    pub fn semantics(&self) -> Semantics {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Semantics {
            window: millis(self.window),
            lag: millis(self.lag),
            grace: millis(self.grace),
            dedupe: millis(self.dedupe),
        }
    }

    /// Refuses flags that do not go together.
    ///
    /// # Errors
    /// The reason, naming the flags.
    pub fn check(&self) -> Result<(), String> {
        if plain(&self.out) == plain(&self.state) {
            return Err("--out and --state must be separate folders".to_owned());
        }
        if inside(&self.out, &self.state) {
            return Err("--out must not be inside --state: that folder is the job's own".to_owned());
        }
        if OUTPUTS.iter().any(|output| inside(&self.state, &self.out.join(output))) {
            return Err("--state must not be inside a folder of the output".to_owned());
        }
        let folders = self.sinks.iter().filter_map(|sink| match &sink.target {
            Target::Files(folder) => Some(folder),
            _ => None,
        });
        for folder in folders.clone() {
            if inside(folder, &self.state) {
                return Err("the folder of --sink must not be inside --state: that folder is the job's own".to_owned());
            }
        }
        let SourceSpec::File(source) = &self.source else { return Ok(()) };
        let ours = [("--out", &self.out), ("--state", &self.state)];
        for (flag, folder) in ours.into_iter().chain(folders.map(|folder| ("--sink", folder))) {
            if inside(folder, source) {
                return Err(format!("{flag} must not be inside the source's folder: the job would read it"));
            }
        }
        match self.stream.set() {
            Some(flag) => Err(format!("{flag} goes with --source kinesis:STREAM only")),
            None => Ok(()),
        }
    }
}

/// Whether `path` is `folder` or lies in it. By their text alone: neither has to exist.
fn inside(path: &Path, folder: &Path) -> bool {
    plain(path).starts_with(plain(folder))
}

fn plain(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut plain = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_print_as_they_are_read() {
        for text in
            ["file:a/b.ndjson", "file:C:/x", "kinesis:usage", "kinesis:arn:aws:kinesis:eu-west-1:1:stream/usage"]
        {
            assert_eq!(text.parse::<SourceSpec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "file:", "kinesis:", "s3:x", "a.ndjson"] {
            assert!(text.parse::<SourceSpec>().is_err(), "{text}");
        }
    }

    #[test]
    fn inside_is_found_however_it_is_written() {
        assert!(inside(Path::new("a/b"), Path::new("./a")));
        assert!(inside(Path::new("b/c/."), Path::new("a/../b")));
        assert!(!inside(Path::new("a/bc"), Path::new("a/b")));
        assert!(!inside(Path::new("a"), Path::new("a/b")));
    }
}
