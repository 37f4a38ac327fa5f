//! Text that must never be seen: not in `Debug`, not in an error, not where a server says it back to us.

use std::fmt;
use std::sync::Arc;

use reqwest::header::HeaderValue;
use shardflow::{Error, Result};

/// A password, a token, a key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Arc<str>);

impl Secret {
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self(Arc::from(text.as_ref()))
    }

    /// The text, for the call that needs it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A header's value that nothing prints.
///
/// # Errors
/// The text cannot be a header's value; `what` names it, the error does not show it.
pub(crate) fn header_value(what: &str, text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Error::config(format!("could not use {what}: it holds characters that no HTTP header may have"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Takes secrets out of what others say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scrubber(Vec<Secret>);

/// Shorter ones would take harmless words apart, and are no secrets to speak of.
const SHORTEST: usize = 4;

impl Scrubber {
    pub(crate) fn add(&mut self, secret: Secret) {
        if secret.expose().len() >= SHORTEST && !self.0.contains(&secret) {
            self.0.push(secret);
            // The longest first, so that no part of one is left.
            self.0.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        }
    }

    pub(crate) fn scrub(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| match text.contains(secret.expose()) {
            true => text.replace(secret.expose(), "[secret]"),
            false => text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "[secret]");
        assert_eq!(format!("{:?}", header_value("the password", "hunter2").unwrap()), "Sensitive");
        let error = header_value("the password", "hunter\n2").unwrap_err().to_string();
        assert!(error.contains("the password") && !error.contains("hunter"), "{error}");
    }

    #[test]
    fn what_a_server_says_back_is_scrubbed() {
        let mut scrubber = Scrubber::default();
        for secret in ["hunter2", "hunter2-and-more", "ab"] {
            scrubber.add(Secret::new(secret));
        }
        let said = "no such user: ab with hunter2-and-more or hunter2".to_owned();
        assert_eq!(scrubber.scrub(said), "no such user: ab with [secret] or [secret]");
    }
}
