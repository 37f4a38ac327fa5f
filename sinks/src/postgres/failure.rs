//! What a failed call means: whether it may pass, whether it may have taken effect, and whether one row is to blame.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use shardflow::retry::{Failed, Failing};
use shardflow::sink::Trouble;
use shardflow::{Error, Outcome};
use tokio_postgres::error::{DbError, SqlState};

/// Why a call did not do what it was to do.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server or the way to it.
    Trouble(Trouble),
    /// The server will never take one of the rows that it was sent.
    Refusal(Refusal),
    /// We have decided that it must not be.
    Stop(Error),
}

/// What the server says of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) text: String,
    /// Which row it is, from 0, as far as the server says so.
    pub(crate) row: Option<usize>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trouble(trouble) => trouble.fmt(f),
            Self::Refusal(refusal) => f.write_str(&refusal.text),
            Self::Stop(error) => error.fmt(f),
        }
    }
}

impl Failing for Failure {
    fn may_pass(&self) -> Option<Failed> {
        match self {
            Self::Trouble(trouble) => trouble.may_pass,
            Self::Refusal(_) | Self::Stop(_) => None,
        }
    }

    fn given_up(self) -> Self {
        match self {
            Self::Trouble(trouble) => Self::Trouble(trouble.given_up()),
            other => other,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Stop(error)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let may_pass = match error.as_db_error() {
            Some(said) => may_pass(said.code()),
            None => without_answer(&error),
        };
        Self::Trouble(Trouble { may_pass, outcome: Outcome::Determinate, text: text(&error) })
    }
}

impl Failure {
    /// A failure that may pass.
    pub(crate) fn transient(text: impl Into<String>) -> Self {
        let may_pass = Some(Failed::Transient);
        Self::Trouble(Trouble { may_pass, outcome: Outcome::Determinate, text: text.into() })
    }

    /// Of a call that brings rows, or ends the transaction that did: one of them may be to blame.
    pub(crate) fn of_rows(error: tokio_postgres::Error, table: &str) -> Self {
        match error.as_db_error() {
            Some(said) if blames_a_row(said.code()) => {
                Self::Refusal(Refusal { text: told(said), row: row_of(said.where_().unwrap_or_default(), table) })
            }
            _ => error.into(),
        }
    }

    /// As an error of the job's. `in_doubt`: whether what was attempted may have happened.
    pub(crate) fn into_error(self, attempted: &str, in_doubt: bool) -> Error {
        let error = match self {
            Self::Stop(error) => error,
            Self::Trouble(trouble) => Error::sink(format!("could not {attempted}")).caused_by(trouble),
            Self::Refusal(refusal) => Error::sink(format!("could not {attempted}")).caused_by(refusal.text),
        };
        if in_doubt { error.indeterminate() } else { error }
    }
}

/// What the server said, in one line.
fn told(said: &DbError) -> String {
    let detail = said.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    let code = said.code().code();
    format!("{}{detail} [{code}]", said.message()).replace(['\n', '\r'], " ")
}

/// What is told of an error. The driver's own words hold nothing secret; the server's are about what it was sent, which has
/// no password in it.
fn text(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => told(said),
        None => match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

/// Whether a failure that the server names may pass.
fn may_pass(code: &SqlState) -> Option<Failed> {
    let code = code.code();
    match code {
        // A database that is dropped does not come back by itself.
        "57P04" => None,
        // A password that is being changed.
        _ if code.starts_with("28") => Some(Failed::Credentials),
        // Serialization and deadlocks; an object or a lock in use; a cancelled or timed-out statement or transaction; a server
        // that has become a replica; a statement that the pooler in between has forgotten.
        "40001" | "40003" | "40P01" | "55006" | "55P03" | "57014" | "25P03" | "25P04" | "25006" | "26000" => {
            Some(Failed::Transient)
        }
        // Connections, resources, operator intervention, the system, and the server's own faults, which other programs'
        // changes of the schema can cause for a moment.
        _ if ["08", "53", "57P", "58", "XX"].iter().any(|class| code.starts_with(class)) => Some(Failed::Transient),
        _ => None,
    }
}

/// Whether the server may have refused a row for what is in it: a bad value, a constraint, a limit of its own that a value
/// passes, or a trigger or function that raises an exception, with a code of PL/pgSQL's or one that a user has made up.
fn blames_a_row(code: &SqlState) -> bool {
    let code = code.code();
    ["22", "23", "54", "P0"].iter().any(|class| code.starts_with(class)) || is_made_up(code)
}

/// Whether no server has such a code of its own. The SQL standard leaves classes from 5 to 9 and from I to Z to others.
fn is_made_up(code: &str) -> bool {
    let is_free = code.starts_with(|first| matches!(first, '5'..='9' | 'I'..='Z'));
    is_free && !["53", "54", "55", "57", "58", "72", "P0", "XX"].iter().any(|class| code.starts_with(class))
}

/// Whether a COMMIT that failed so has certainly not happened.
pub(crate) fn is_rolled_back(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| blames_a_row(code) || matches!(code.code(), "40001" | "40P01"))
}

/// Whether a failure without an answer from the server may pass.
fn without_answer(error: &tokio_postgres::Error) -> Option<Failed> {
    let Some(source) = error.source() else {
        // The connection is closed, or the server has said something that does not belong there.
        return Some(Failed::Transient);
    };
    // Settings that do not fit together, a server without TLS, a password that is missing.
    let io: &io::Error = source.downcast_ref()?;
    let is_tls = io.get_ref().is_some_and(|inner| {
        matches!(
            inner.downcast_ref(),
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
        )
    });
    (!is_tls).then_some(Failed::Transient)
}

/// The row that COPY was at, from 0: `COPY charges, line 3, column cents: "x"`. Other languages' words are not understood.
fn row_of(context: &str, table: &str) -> Option<usize> {
    let from = format!("COPY {table}, line ");
    let line = context.lines().find_map(|line| line.strip_prefix(&from))?;
    let digits = line.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse::<usize>().ok()?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(code: &str) -> SqlState {
        SqlState::from_code(code)
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        for code in [
            "08006", "40001", "40P01", "53300", "53100", "55P03", "57P01", "57P02", "57P03", "57014", "25006", "58030",
            "XX000",
        ] {
            assert_eq!(may_pass(&state(code)), Some(Failed::Transient), "{code}");
        }
        assert_eq!(may_pass(&state("28P01")), Some(Failed::Credentials));
        for code in ["42P01", "42703", "42501", "22003", "23505", "3D000", "57P04", "0A000"] {
            assert_eq!(may_pass(&state(code)), None, "{code}");
        }
    }

    #[test]
    fn a_row_is_blamed_for_what_is_in_it_and_for_nothing_else() {
        for code in
            ["22003", "22P02", "22021", "23502", "23503", "23505", "23514", "54000", "P0001", "P0002", "U0001", "99001"]
        {
            assert!(blames_a_row(&state(code)), "{code}");
        }
        for code in ["42804", "42501", "40001", "57014", "25006", "53100", "58030", "XX000", "HV000", "72000"] {
            assert!(!blames_a_row(&state(code)), "{code}");
        }
    }

    #[test]
    fn the_row_that_copy_was_at_is_found() {
        assert_eq!(row_of("COPY charges, line 3, column cents: \"x\"", "charges"), Some(2));
        assert_eq!(row_of("COPY charges, line 1: \"a\tb\"", "charges"), Some(0));
        assert_eq!(row_of("SQL statement \"x\"\nCOPY a, line 9, line 12, column x", "a, line 9"), Some(11));
        for none in ["", "COPY charges, Zeile 3", "COPY others, line 3", "COPY charges, line 0", "COPY charges, line x"]
        {
            assert_eq!(row_of(none, "charges"), None, "{none}");
        }
    }
}
