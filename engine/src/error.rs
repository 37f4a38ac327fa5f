//! One error for the whole engine: what kind it is, what was attempted, and whether it may have taken effect.

use std::error::Error as StdError;
use std::fmt;

/// What kind of failure an [`Error`] is. Decides the exit code and whether a restart can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The program or its configuration is wrong: a bad flag, two steps of one name. A restart cannot help.
    Config,
    /// The state folder cannot be used: damaged, of another job, of a newer version, or in use. A restart cannot help.
    State,
    /// A source could not be listed or read.
    Source,
    /// A sink could not write or commit.
    Sink,
    /// A user's closure panicked or returned an error.
    User,
    /// The durable store failed while running.
    Store,
    /// An invariant of the engine does not hold: a bug in shardflow.
    Internal,
}

impl ErrorKind {
    /// Whether starting again from the last committed epoch may succeed.
    #[must_use]
    pub fn may_pass(self) -> bool {
        matches!(self, Self::Source | Self::Sink | Self::User | Self::Store)
    }
}

/// Whether an attempted outside effect is known not to have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Outcome {
    /// It did not happen.
    #[default]
    Determinate,
    /// It may have happened: the answer was lost, not necessarily the request.
    Indeterminate,
}

/// The engine's error: kind, what was attempted with its subject quoted, and the cause.
///
/// # Examples
/// ```
/// use shardflow::{Error, ErrorKind};
/// let error = Error::new(ErrorKind::Source, "could not open \"usage.ndjson\"").caused_by("no such file");
/// assert_eq!(error.to_string(), "could not open \"usage.ndjson\": no such file");
/// ```
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: ErrorKind,
    outcome: Outcome,
    step: Option<String>,
    message: String,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind`. `message` is lowercase and quotes its subject.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let inner = Inner { kind, outcome: Outcome::Determinate, step: None, message: message.into(), cause: None };
        Self { inner: Box::new(inner) }
    }

    /// Shorthand for [`ErrorKind::Config`].
    #[must_use]
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// Shorthand for [`ErrorKind::State`].
    #[must_use]
    pub fn state(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::State, message)
    }

    /// Shorthand for [`ErrorKind::Source`].
    #[must_use]
    pub fn source(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Source, message)
    }

    /// Shorthand for [`ErrorKind::Sink`].
    #[must_use]
    pub fn sink(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Sink, message)
    }

    /// Shorthand for [`ErrorKind::Internal`].
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Adds the cause; it is printed after the message.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.inner.cause = Some(cause.into());
        self
    }

    /// Names the step in which it happened, unless an inner layer already has.
    #[must_use]
    pub fn in_step(mut self, step: impl Into<String>) -> Self {
        self.inner.step.get_or_insert(step.into());
        self
    }

    /// Marks the attempted effect as possibly done.
    #[must_use]
    pub fn indeterminate(mut self) -> Self {
        self.inner.outcome = Outcome::Indeterminate;
        self
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Whether the attempted effect may have happened.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.inner.outcome
    }

    /// The step that failed, where one is known.
    #[must_use]
    pub fn step(&self) -> Option<&str> {
        self.inner.step.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(step) = &self.inner.step {
            write!(f, "step \"{step}\": ")?;
        }
        f.write_str(&self.inner.message)?;
        let mut cause: Option<&(dyn StdError + 'static)> = self.inner.cause.as_ref().map(|cause| &**cause as _);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            // Our own errors print their causes themselves.
            cause = if error.is::<Error>() { None } else { error.source() };
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({:?}): {self}", self.inner.kind, self.inner.outcome)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.cause.as_ref().map(|cause| &**cause as _)
    }
}

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
