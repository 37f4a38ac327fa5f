//! What a failed call to a store means: wait and call again, or stop. Pure but for looking into the error's causes.

use std::error::Error as StdError;

use object_store::client::{HttpError, HttpErrorKind};
use serde::Deserialize;
use shardflow::retry::Failed;
use shardflow::sink::Trouble;
use shardflow::{Error, Outcome};

/// The most of a store's answer that is told.
const LONGEST: usize = 600;

/// What the crate's error of an answer reads like. Its type has no public name, but it stands by itself among the causes, with
/// neither a URL nor a key before it.
const REFUSED: &str = "Server returned non-2xx status code: ";
/// The same of an answer of 200 with an error in it.
const FAILED: &str = "Server returned error response: ";

/// The same of one that leads elsewhere and does not say where to.
const ELSEWHERE: &str = "Received redirect without LOCATION";

/// What a service answered, as far as it tells what a failure means.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answered {
    status: Option<u16>,
    code: Option<String>,
}

/// What became of a call that asked for a change.
pub(super) fn trouble(error: &object_store::Error) -> Trouble {
    let (answered, mut text) = (answered(error), text(error));
    // A long key may have pushed the reason out of what is told.
    if let Some(code) = answered.code.as_ref().filter(|code| !text.contains(code.as_str())) {
        text = format!("{text} ({})", shown(code));
    }
    Trouble { may_pass: may_pass(error, &answered), outcome: outcome(error, &answered), text }
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

fn may_pass(error: &object_store::Error, answered: &Answered) -> Option<Failed> {
    use object_store::Error as Store;
    let code = answered.code.as_deref().unwrap_or_default();
    match code {
        "SlowDown" | "TooManyRequests" | "ServerBusy" | "rateLimitExceeded" | "userRateLimitExceeded" => {
            return Some(Failed::Throttled);
        }
        "RequestTimeTooSkewed" | "ExpiredToken" | "RequestExpired" | "TokenRefreshRequired" => {
            return Some(Failed::Credentials);
        }
        _ => {}
    }
    match error {
        // A token that ran out and was not renewed yet looks like this too.
        Store::Unauthenticated { .. } => Some(Failed::Credentials),
        Store::Generic { .. } => match answered.status {
            Some(429) => Some(Failed::Throttled),
            // It will never be implemented while one waits.
            Some(501) => None,
            Some(status) if status >= 500 || status == 408 || status == 409 || status < 300 => Some(Failed::Transient),
            // S3 answers 400 where a body arrived cut short or late.
            Some(400) if matches!(code, "RequestTimeout" | "IncompleteBody" | "BadDigest") => Some(Failed::Transient),
            Some(_) => None,
            // The network, or a disk.
            None => Some(Failed::Transient),
        },
        _ => None,
    }
}

/// Whether the store may have done what it was asked for all the same.
fn outcome(error: &object_store::Error, answered: &Answered) -> Outcome {
    for error in causes(error) {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            let never_sent = http.kind() == HttpErrorKind::Connect;
            return if never_sent { Outcome::Determinate } else { Outcome::Indeterminate };
        }
    }
    let known = !matches!(error, object_store::Error::Generic { .. });
    let refused = answered.status.is_some_and(|status| (400..500).contains(&status));
    if known || refused { Outcome::Determinate } else { Outcome::Indeterminate }
}

/// Finds the answer among an error's causes. It is read whole: keys and messages may be long.
fn answered(error: &object_store::Error) -> Answered {
    let of = |error: &(dyn StdError + 'static)| {
        let text = error.to_string();
        if let Some(body) = text.strip_prefix(FAILED) {
            return Some(Answered { status: None, code: code(body) });
        }
        if text.starts_with(ELSEWHERE) {
            return Some(Answered { status: Some(301), code: None });
        }
        let (status, body) = text.strip_prefix(REFUSED)?.split_once(": ")?;
        Some(Answered { status: status.get(..3).and_then(|status| status.parse().ok()), code: code(body) })
    };
    causes(error).find_map(of).unwrap_or_default()
}

/// The code in an answer's body: an element of XML, or what Google calls the reason in JSON. Keys and messages beside it count for
/// nothing.
fn code(body: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Xml {
        #[serde(rename = "Code")]
        code: Option<String>,
    }
    // Azure begins with a mark of the byte order.
    let body = body.trim_start_matches('\u{feff}').trim();
    if body.starts_with('<') {
        return quick_xml::de::from_str::<Xml>(body).ok()?.code;
    }
    let json: serde_json::Value = serde_json::from_str(body).ok()?;
    json.pointer("/error/errors/0/reason")?.as_str().map(ToOwned::to_owned)
}

/// An error and what caused it, one after the other.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// An error with its causes, in one line, without query strings (they may be signed) and key ids.
pub(super) fn text(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    for cause in causes(error).skip(1) {
        let next = cause.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
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
    use object_store::path::Path;
    use object_store::{ObjectStoreExt, PutPayload};

    use super::super::scripted::{Answer, Scripted, s3};
    use super::*;

    const PLAIN: &str = "out/a";

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    /// The crate's error of an answer to a put of `key`.
    async fn answered_to(key: &str, status: u16, body: &str) -> object_store::Error {
        let body = body.to_owned();
        let s3 = s3(Scripted::new(move |_| Answer::new(status, &body)));
        s3.put(&Path::from(key), PutPayload::from_static(b"x")).await.unwrap_err()
    }

    fn xml(code: &str) -> String {
        format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>no</Message></Error>")
    }

    #[tokio::test]
    async fn throttles_wait_faults_retry_and_refusals_stop() {
        for (status, body, expected) in [
            (503, String::new(), Some(Failed::Transient)),
            (503, "<html><body>busy</body></html>".to_owned(), Some(Failed::Transient)),
            (503, xml("SlowDown"), Some(Failed::Throttled)),
            (503, format!("\u{feff}{}", xml("ServerBusy")), Some(Failed::Throttled)),
            (429, String::new(), Some(Failed::Throttled)),
            (403, r#"{"error": {"errors": [{"reason": "rateLimitExceeded"}]}}"#.to_owned(), Some(Failed::Throttled)),
            (500, xml("InternalError"), Some(Failed::Transient)),
            (501, xml("NotImplemented"), None),
            (400, xml("ExpiredToken"), Some(Failed::Credentials)),
            (401, xml("InvalidToken"), Some(Failed::Credentials)),
            (403, xml("RequestTimeTooSkewed"), Some(Failed::Credentials)),
            (400, xml("RequestTimeout"), Some(Failed::Transient)),
            (400, xml("InvalidArgument"), None),
            (403, xml("AccessDenied"), None),
            (404, xml("NoSuchBucket"), None),
            (301, String::new(), None),
        ] {
            let error = answered_to(PLAIN, status, &body).await;
            assert_eq!(trouble(&error).may_pass, expected, "{error}");
        }
        assert_eq!(trouble(&generic("connection reset")).may_pass, Some(Failed::Transient));
        assert_eq!(trouble(&object_store::Error::NotSupported { source: "no".into() }).may_pass, None);
    }

    /// Keys hold what users have: names of folders, and in them names of anything.
    #[tokio::test]
    async fn what_a_key_or_a_message_says_is_not_what_the_service_says() {
        let long = "k".repeat(900);
        let hostile = [
            "account=ServerBusy/a",
            "account=ExpiredToken/SlowDown/TooManyRequests/rateLimitExceeded",
            "status code: 503/a",
            "Server returned non-2xx status code: 503 : /a",
            "<Code>SlowDown</Code>",
            "</Key><Code>SlowDown</Code>",
            long.as_str(),
        ];
        for key in hostile {
            let told = key.replace('<', "&lt;");
            let body = |code: &str| {
                let key = format!("<Key>{told}</Key><Resource>/bucket/{told}</Resource>");
                format!(
                    "<Error><Message>{told}</Message>{key}<Code>{code}</Code><Inner><Code>SlowDown</Code></Inner></Error>"
                )
            };
            for (status, code, expected) in [
                (403, "AccessDenied", None),
                (400, "InvalidArgument", None),
                (400, "ExpiredToken", Some(Failed::Credentials)),
                (403, "RequestTimeTooSkewed", Some(Failed::Credentials)),
                (503, "SlowDown", Some(Failed::Throttled)),
                (500, "InternalError", Some(Failed::Transient)),
            ] {
                let error = answered_to(key, status, &body(code)).await;
                let trouble = trouble(&error);
                assert_eq!(trouble.may_pass, expected, "{status} {code}: {error}");
                let is_refusal = status < 500;
                assert_eq!(trouble.outcome == Outcome::Determinate, is_refusal, "{status} {code}: {error}");
                assert!(trouble.text.contains(code), "{}", trouble.text);
                assert!(trouble.text.chars().count() < LONGEST + 30, "{}", trouble.text);
            }
        }
    }

    #[tokio::test]
    async fn an_answer_tells_that_nothing_was_done_and_a_lost_one_does_not() {
        assert_eq!(trouble(&answered_to(PLAIN, 400, "").await).outcome, Outcome::Determinate);
        assert_eq!(trouble(&answered_to(PLAIN, 503, "").await).outcome, Outcome::Indeterminate);
        assert_eq!(trouble(&generic("connection reset")).outcome, Outcome::Indeterminate);
        let refused = |kind| HttpError::new(kind, std::io::Error::other("no"));
        for (kind, outcome) in
            [(HttpErrorKind::Connect, Outcome::Determinate), (HttpErrorKind::Timeout, Outcome::Indeterminate)]
        {
            let error = object_store::Error::Generic { store: "S3", source: refused(kind).into() };
            assert_eq!(trouble(&error).outcome, outcome, "{kind:?}");
        }
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
