//! Standard output, and why the command ends early.

use std::io::{self, BufWriter, ErrorKind, Stdout, Write};

use shardflow::Error;

/// Why the command ends before it is done.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Whoever read standard output has had enough.
    NobodyReads,
    /// It failed; one line that says how.
    Failed(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Standard output.
pub(crate) struct Out(BufWriter<Stdout>);

impl Out {
    pub(crate) fn new() -> Self {
        Self(BufWriter::new(io::stdout()))
    }

    /// Writes; [`Out::flush`] sends it off.
    pub(crate) fn write(&mut self, text: &str) -> Result<(), Stop> {
        self.0.write_all(text.as_bytes()).map_err(stop)
    }

    pub(crate) fn flush(&mut self) -> Result<(), Stop> {
        self.0.flush().map_err(stop)
    }

    /// Writes one text and sends it off.
    pub(crate) fn print(text: &str) -> Result<(), Stop> {
        let mut out = Self::new();
        out.write(text)?;
        out.flush()
    }
}

fn stop(error: io::Error) -> Stop {
    match error.kind() {
        ErrorKind::BrokenPipe => Stop::NobodyReads,
        _ => Stop::Failed(format!("could not write to standard output: {error}")),
    }
}
