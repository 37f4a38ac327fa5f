//! What a failed call to a store means: wait and call again, or stop. Pure but for looking into the error's causes.

use std::error::Error as StdError;

use object_store::client::{HttpError, HttpErrorKind};
use shardflow::retry::Failed;
use shardflow::sink::Trouble;
use shardflow::{Error, Outcome};

/// The most of a store's answer that is told.
const LONGEST: usize = 600;

/// What became of a call that asked for a change.
pub(super) fn trouble(error: &object_store::Error) -> Trouble {
    let text = text(error);
    Trouble { may_pass: may_pass(error, &text), outcome: outcome(error), text }
}

/// A trouble that cannot pass.
pub(super) fn fatal(text: String) -> Trouble {
    Trouble { may_pass: None, outcome: Outcome::Determinate, text }
}

/// A trouble that may pass.
pub(super) fn passing(text: String) -> Trouble {
    Trouble { may_pass: Some(Failed::Transient), outcome: Outcome::Indeterminate, text }
}

/// The engine's error of a trouble that did not pass.
pub(super) fn failed(attempted: String, trouble: Trouble) -> Error {
    let outcome = trouble.outcome;
    let error = Error::sink(attempted).caused_by(trouble);
    if outcome == Outcome::Indeterminate { error.indeterminate() } else { error }
}

fn may_pass(error: &object_store::Error, text: &str) -> Option<Failed> {
    use object_store::Error as Store;
    let says = |codes: &[&str]| codes.iter().any(|code| text.contains(code));
    if says(&["SlowDown", "TooManyRequests", "ServerBusy", "rateLimitExceeded"]) {
        return Some(Failed::Throttled);
    }
    if says(&["RequestTimeTooSkewed", "ExpiredToken", "RequestExpired", "TokenRefreshRequired"]) {
        return Some(Failed::Credentials);
    }
    match error {
        // A token that ran out and was not renewed yet looks like this too.
        Store::Unauthenticated { .. } => Some(Failed::Credentials),
        Store::Generic { .. } => match status(text) {
            Some(429) => Some(Failed::Throttled),
            Some(status) if status >= 500 || status == 408 || status == 409 || status < 300 => Some(Failed::Transient),
            // S3 answers 400 where a body arrived cut short or late.
            Some(400) if says(&["RequestTimeout", "IncompleteBody", "BadDigest"]) => Some(Failed::Transient),
            Some(_) => None,
            // The network, or a disk.
            None => Some(Failed::Transient),
        },
        _ => None,
    }
}

/// Whether the store may have done what it was asked for all the same.
fn outcome(error: &object_store::Error) -> Outcome {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            let never_sent = http.kind() == HttpErrorKind::Connect;
            return if never_sent { Outcome::Determinate } else { Outcome::Indeterminate };
        }
        cause = error.source();
    }
    let known = !matches!(error, object_store::Error::Generic { .. });
    let refused = status(&error.to_string()).is_some_and(|status| (400..500).contains(&status));
    if known || refused { Outcome::Determinate } else { Outcome::Indeterminate }
}

/// The HTTP status in an error's text: its type has no public name.
fn status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

/// An error with its causes, in one line, without query strings (they may be signed) and key ids.
pub(super) fn text(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    shown(&text)
}

/// A text without what might be secret.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for word in text.split_whitespace() {
        if !shown.is_empty() {
            shown.push(' ');
        }
        let (kept, is_cut) = match word.find("://") {
            Some(_) => without_secrets(word),
            None => (word.to_owned(), false),
        };
        shown.push_str(&kept);
        if is_cut {
            shown.push_str("?…");
        }
    }
    for element in
        ["AWSAccessKeyId", "StringToSign", "StringToSignBytes", "CanonicalRequest", "AuthenticationErrorDetail"]
    {
        shown = without_element(&shown, element);
    }
    match shown.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", shown.get(..end).unwrap_or_default()),
        None => shown,
    }
}

/// A URL without its user and its query.
fn without_secrets(word: &str) -> (String, bool) {
    let (word, is_cut) = word.split_once('?').map_or((word, false), |(before, _)| (before, true));
    let Some((scheme, rest)) = word.split_once("://") else { return (word.to_owned(), is_cut) };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    (format!("{scheme}://{host}{path}"), is_cut)
}

/// A text without the content of an XML element.
fn without_element(text: &str, element: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(&open) {
        shown.push_str(before);
        shown.push_str(&open);
        rest = after.find(&close).and_then(|end| after.get(end..)).unwrap_or_default();
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    fn answered(status: &str, body: &str) -> object_store::Error {
        generic(&format!(
            "Error performing PUT http://host/key in 3ms - Server returned non-2xx status code: {status}: {body}"
        ))
    }

    #[test]
    fn throttles_wait_faults_retry_and_refusals_stop() {
        for (error, expected) in [
            (answered("503 Service Unavailable", ""), Some(Failed::Transient)),
            (answered("503 Service Unavailable", "<Code>SlowDown</Code>"), Some(Failed::Throttled)),
            (answered("429 Too Many Requests", ""), Some(Failed::Throttled)),
            (answered("500 Internal Server Error", ""), Some(Failed::Transient)),
            (answered("400 Bad Request", "<Code>ExpiredToken</Code>"), Some(Failed::Credentials)),
            (answered("400 Bad Request", "<Code>RequestTimeout</Code>"), Some(Failed::Transient)),
            (answered("400 Bad Request", "<Code>InvalidArgument</Code>"), None),
            (answered("301 Moved Permanently", ""), None),
            (generic("connection reset"), Some(Failed::Transient)),
            (object_store::Error::PermissionDenied { path: "a".into(), source: "AccessDenied".into() }, None),
            (
                object_store::Error::PermissionDenied { path: "a".into(), source: "RequestTimeTooSkewed".into() },
                Some(Failed::Credentials),
            ),
            (object_store::Error::NotFound { path: "a".into(), source: "NoSuchBucket".into() }, None),
            (object_store::Error::NotSupported { source: "no".into() }, None),
        ] {
            assert_eq!(trouble(&error).may_pass, expected, "{error}");
        }
    }

    #[test]
    fn an_answer_tells_that_nothing_was_done_and_a_lost_one_does_not() {
        assert_eq!(trouble(&answered("400 Bad Request", "")).outcome, Outcome::Determinate);
        assert_eq!(trouble(&answered("503 Service Unavailable", "")).outcome, Outcome::Indeterminate);
        assert_eq!(trouble(&generic("connection reset")).outcome, Outcome::Indeterminate);
    }

    #[test]
    fn nothing_secret_is_told() {
        for text in [
            "error sending request for url (https://acc.blob.core.windows.net/c/k?sv=1&sig=SECRET)",
            "could not use s3://KEY:SECRET@bucket/prefix today",
            "403: <Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>SECRET</AWSAccessKeyId><Resource>/b</Resource>",
            "x <StringToSign>AWS4 SECRET\nSECRET</StringToSign> y <StringToSign>SECRET",
        ] {
            let shown = shown(text);
            assert!(!shown.contains("SECRET") && shown.len() > 20, "{shown}");
        }
        assert_eq!(shown("plain text\nin two lines"), "plain text in two lines");
    }
}
