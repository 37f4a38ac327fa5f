//! Answers, read up to a bound and not trusted; and calls that got none.

use std::error::Error as StdError;
use std::fmt::Write;
use std::time::Duration;

use reqwest::Response;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use shardflow::Outcome;
use shardflow::retry::Failed;
use shardflow::sink::Trouble;

/// An answer that has arrived.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// At most as much as was asked for.
    pub(crate) body: Vec<u8>,
    /// Whether there was more.
    pub(crate) is_cut: bool,
}

impl Answer {
    /// Reads an answer, at most `most` bytes of it.
    ///
    /// # Errors
    /// It broke off: what it answers to may have been done.
    pub(crate) async fn read(response: Response, most: usize) -> Result<Self, Trouble> {
        let (answer, end) = Self::read_on(response, most).await;
        end.map(|()| answer)
    }

    /// Reads what comes of an answer, at most `most` bytes of it: its status says enough.
    pub(crate) async fn read_what_comes(response: Response, most: usize) -> Self {
        Self::read_on(response, most).await.0
    }

    async fn read_on(mut response: Response, most: usize) -> (Self, Result<(), Trouble>) {
        let (status, headers) = (response.status().as_u16(), std::mem::take(response.headers_mut()));
        let mut answer = Self { status, headers, body: Vec::new(), is_cut: false };
        loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return (answer, Ok(())),
                Err(error) => return (answer, Err(broken(error))),
            };
            let room = most.saturating_sub(answer.body.len());
            answer.body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            if chunk.len() > room {
                // The rest is not waited for; the connection is given up with it.
                answer.is_cut = true;
                return (answer, Ok(()));
            }
        }
    }

    /// For how long the server asks to be left alone. `now` is the time of day in milliseconds since 1970.
    pub(crate) fn retry_after(&self, now: u64) -> Option<Duration> {
        retry_after(self.headers.get(RETRY_AFTER)?.to_str().ok()?, now)
    }
}

/// Seconds, or a date. (RFC 9110, 10.2.3.)
fn retry_after(text: &str, now: u64) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    let at = u64::try_from(at.as_millisecond()).ok()?;
    Some(Duration::from_millis(at.saturating_sub(now)))
}

/// What a call that got no whole answer means.
pub(crate) fn broken(error: reqwest::Error) -> Trouble {
    // What could not be sent was not done.
    let outcome = match error.is_connect() || error.is_builder() {
        true => Outcome::Determinate,
        false => Outcome::Indeterminate,
    };
    let may_pass = (!error.is_builder()).then_some(Failed::Transient);
    // A URL may hold what is secret.
    Trouble { may_pass, outcome, text: chain(&error.without_url()) }
}

/// An error with its causes, in one line.
fn chain(error: &dyn StdError) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            // Writing to a string does not fail.
            let _ = write!(text, ": {said}");
        }
        cause = error.source();
    }
    text
}

/// The beginning of what a server says, in one line without control characters.
pub(crate) fn one_line(text: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(text.get(..most.saturating_mul(4)).unwrap_or(text));
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_server_asks_for_seconds_or_until_a_date() {
        let now = 1_445_412_470_000;
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:27:00 GMT", now), Some(Duration::ZERO));
        for nonsense in ["", "soon", "-5", "99999999999999999999999"] {
            assert_eq!(retry_after(nonsense, now), None, "{nonsense}");
        }
    }

    #[test]
    fn what_a_server_says_becomes_one_short_line() {
        assert_eq!(one_line(b" a\r\n\tb\x1b[31m c ", 100), "a b [31m c");
        assert_eq!(one_line("äöü".as_bytes(), 2), "äö…");
        assert_eq!(one_line(&[0xff, b'a'], 10), "\u{fffd}a");
    }

    proptest! {
        #[test]
        fn any_bytes_become_a_line_that_is_not_too_long(bytes: Vec<u8>, most in 0usize..50) {
            let line = one_line(&bytes, most);
            prop_assert!(line.chars().count() <= most + 1 && !line.contains(char::is_control), "{line:?}");
        }
    }
}
