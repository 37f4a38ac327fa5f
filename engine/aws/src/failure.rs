//! What a failed call means: wait, retry, renew the iterator, or fail. Pure but for looking into the SDK's error.

use std::error::Error as StdError;
use std::{fmt, io};

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use shardflow::retry::{Failed, Failing};

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Wait and call again.
    Retry(Failed),
    /// The iterator is too old: get a new one for the current position.
    NewIterator,
    /// What was asked for is not there, and will not be.
    Missing,
    /// The condition of a write does not hold: somebody has written in between, or this very write was done before and its
    /// answer was lost. Reading back tells which.
    Conflict,
    /// Calling again would give the same.
    None,
}

impl Remedy {
    /// Whether a start gives up at once. What ran out while a job ran is renewed; a start with it is a wrong setting.
    pub fn is_final_at_start(self) -> bool {
        matches!(self, Self::None | Self::Missing | Self::Retry(Failed::Credentials))
    }
}

/// A failed call: what to do, and what to tell the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What to do about it.
    pub remedy: Remedy,
    /// What the service, or the network, says: one line, without what was signed.
    pub text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Failure {}

impl Failing for Failure {
    fn may_pass(&self) -> Option<Failed> {
        match self.remedy {
            Remedy::Retry(failed) => Some(failed),
            Remedy::NewIterator | Remedy::Missing | Remedy::Conflict | Remedy::None => None,
        }
    }

    fn given_up(self) -> Self {
        Self { remedy: Remedy::None, text: format!("{self} (still, after many attempts)") }
    }
}

impl Failure {
    /// Looks into what the SDK reports.
    pub fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        let service = match error {
            SdkError::ServiceError(service) => service,
            // What answers is not the service, or something before it: the status is all that can be understood.
            SdkError::ResponseError(response) if response.raw().status().as_u16() >= 400 => {
                let status = response.raw().status().as_u16();
                let remedy = match status {
                    // The service's own status for throttling and for refusals alike: its code was lost on the way.
                    400 => Remedy::Retry(Failed::Transient),
                    _ => remedy(None, status, ""),
                };
                return Self { remedy, text: format!("HTTP status {status}: {}", chain(error)) };
            }
            // A request that cannot be built will not be built better next time.
            SdkError::ConstructionFailure(_) => return Self { remedy: Remedy::None, text: chain(error) },
            // All else is the network's doing.
            _ => return Self { remedy: Remedy::Retry(Failed::Transient), text: chain(error) },
        };
        let status = service.raw().status().as_u16();
        let meta = service.err().meta();
        let code = meta.code().filter(|code| !code.is_empty());
        let remedy = remedy(code, status, meta.message().unwrap_or_default());
        let code = code.map_or_else(|| format!("HTTP status {status}"), ToOwned::to_owned);
        let text = meta.message().map_or_else(|| code.clone(), |message| format!("{code}: {}", told(message)));
        Self { remedy, text }
    }

    /// What a code means that comes without an HTTP answer of its own, as that of one record of a batch does.
    pub fn of_code(code: &str, message: &str) -> Self {
        Self { remedy: remedy(Some(code), 400, message), text: format!("{code}: {}", told(message)) }
    }

    /// An error that came in the place of an event of a stream. One of an unknown code is a fault of the service: what it
    /// refuses for good it has refused before.
    pub fn of_event(code: &str, message: Option<&str>) -> Self {
        let remedy = match code {
            _ if code.starts_with("KMS") && code != "KMSThrottlingException" => Remedy::None,
            _ => remedy(Some(code), 500, message.unwrap_or_default()),
        };
        let text = message.map_or_else(|| code.to_owned(), |message| format!("{code}: {}", told(message)));
        Self { remedy, text }
    }

    /// What the network did, or what made no sense to the SDK.
    pub fn of_network(error: &(dyn StdError + 'static)) -> Self {
        Self { remedy: Remedy::Retry(Failed::Transient), text: chain(error) }
    }
}

/// Decides by the service's error code; by the HTTP status where there is none that says more.
fn remedy(code: Option<&str>, status: u16, message: &str) -> Remedy {
    match code.unwrap_or_default() {
        "ProvisionedThroughputExceededException"
        | "KMSThrottlingException"
        | "LimitExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "TooManyRequestsException"
        | "RequestLimitExceeded" => Remedy::Retry(Failed::Throttled),
        "ExpiredIteratorException" => Remedy::NewIterator,
        "ConditionalCheckFailedException" => Remedy::Conflict,
        "ResourceNotFoundException" => Remedy::Missing,
        // The listing starts again from its first page. A stream that is being created or changed soon will not be.
        "ExpiredNextTokenException"
        | "ResourceInUseException"
        // Two writes to one row met in the service: neither condition was looked at.
        | "TransactionConflictException"
        | "ReplicatedWriteConflictException"
        | "InternalFailureException"
        | "InternalFailure"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "RequestTimeout"
        | "RequestTimeoutException" => Remedy::Retry(Failed::Transient),
        // A token that ran out is renewed by its provider; a clock is set right. At the start neither would be.
        "ExpiredTokenException" | "ExpiredToken" | "RequestExpired" | "RequestTimeTooSkewed" => {
            Remedy::Retry(Failed::Credentials)
        }
        "InvalidSignatureException"
            if message.contains("Signature expired") || message.contains("Signature not yet current") =>
        {
            Remedy::Retry(Failed::Credentials)
        }
        // Our clock is ahead of the service's: a start at "now" will have come soon.
        "InvalidArgumentException" if message.contains("currentTimestampInMillis") => Remedy::Retry(Failed::Transient),
        _ if status == 429 => Remedy::Retry(Failed::Throttled),
        _ if status >= 500 || status == 408 => Remedy::Retry(Failed::Transient),
        _ => Remedy::None,
    }
}

/// Where a service begins to say back what it was called with, in small letters: all that was signed, the session token included.
const SAID_BACK: [&str; 4] = ["the canonical string", "the string-to-sign", "x-amz-security-token", "authorization="];

/// What a service says, in one line and up to where it says back the request. It does so where a signature is wrong.
fn told(text: &str) -> String {
    // In ASCII, so that places in one are places in the other.
    let small = text.to_ascii_lowercase();
    let end = SAID_BACK.iter().filter_map(|begin| small.find(begin)).min();
    let said = end.and_then(|end| text.get(..end)).unwrap_or(text);
    let words = said.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// An error with its causes, each said once, in one line and without what was signed.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
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
    told(&text)
}

/// Whether a failed call may have been carried out. Known not to have been: what was never sent, and what the service itself
/// refused. A fault of the service may have come after the work.
pub fn may_have_happened<E>(error: &SdkError<E, HttpResponse>) -> bool
where
    E: StdError + 'static,
{
    match error {
        SdkError::ConstructionFailure(_) => false,
        SdkError::ServiceError(refused) => refused.raw().status().as_u16() >= 500,
        SdkError::ResponseError(answer) => !(400..500).contains(&answer.raw().status().as_u16()),
        _ => !was_never_sent(error),
    }
}

/// Nobody listened: there was no connection to send it over.
fn was_never_sent(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        // What an I/O error wraps is not its source: it stands for it.
        let wrapped = io.and_then(io::Error::get_ref).map(|wrapped| wrapped as &(dyn StdError + 'static));
        cause = wrapped.or_else(|| error.source());
    }
    false
}

#[cfg(test)]
mod tests {
    use aws_smithy_types::body::SdkBody;
    use aws_smithy_types::error::metadata::ErrorMetadata;

    use super::*;

    #[test]
    fn throttles_wait_faults_retry_and_refusals_fail() {
        let throttled = Remedy::Retry(Failed::Throttled);
        let transient = Remedy::Retry(Failed::Transient);
        for (code, status, expected) in [
            (Some("ProvisionedThroughputExceededException"), 400, throttled),
            (Some("KMSThrottlingException"), 400, throttled),
            (Some("LimitExceededException"), 400, throttled),
            (None, 429, throttled),
            (Some("InternalFailureException"), 500, transient),
            (Some("SomethingNew"), 503, transient),
            (None, 500, transient),
            (None, 408, transient),
            (Some("ResourceInUseException"), 400, transient),
            (Some("ExpiredIteratorException"), 400, Remedy::NewIterator),
            (Some("ConditionalCheckFailedException"), 400, Remedy::Conflict),
            (Some("TransactionConflictException"), 400, transient),
            (Some("InternalServerError"), 500, transient),
            (Some("AccessDeniedException"), 400, Remedy::None),
            (Some("ResourceNotFoundException"), 400, Remedy::Missing),
            (Some("UnrecognizedClientException"), 400, Remedy::None),
            (Some("InvalidArgumentException"), 400, Remedy::None),
            (Some("KMSDisabledException"), 400, Remedy::None),
            (None, 404, Remedy::None),
        ] {
            assert_eq!(remedy(code, status, ""), expected, "{code:?} {status}");
        }
    }

    #[test]
    fn credentials_that_ran_out_and_clocks_that_differ_are_retried_and_wrong_ones_are_not() {
        let retried = Remedy::Retry(Failed::Credentials);
        assert_eq!(remedy(Some("ExpiredTokenException"), 400, ""), retried);
        assert_eq!(remedy(Some("RequestExpired"), 400, ""), retried);
        for message in
            ["Signature expired: 20261101T000000Z is now earlier than 20261101T000500Z", "Signature not yet current: x"]
        {
            assert_eq!(remedy(Some("InvalidSignatureException"), 400, message), retried, "{message}");
        }
        let wrong = "The request signature we calculated does not match the signature you provided.";
        assert_eq!(remedy(Some("InvalidSignatureException"), 400, wrong), Remedy::None);
        assert!(retried.is_final_at_start() && !Remedy::Retry(Failed::Transient).is_final_at_start());
    }

    #[test]
    fn errors_in_the_place_of_an_event_mean_what_they_mean_in_an_answer() {
        let of = |code| Failure::of_event(code, None).remedy;
        assert_eq!(of("ResourceNotFoundException"), Remedy::Missing);
        assert_eq!(of("ResourceInUseException"), Remedy::Retry(Failed::Transient));
        assert_eq!(of("KMSThrottlingException"), Remedy::Retry(Failed::Throttled));
        assert_eq!(of("KMSDisabledException"), Remedy::None);
        assert_eq!(of("SomethingNew"), Remedy::Retry(Failed::Transient));
    }

    #[test]
    fn a_start_that_the_services_clock_has_not_reached_is_waited_for() {
        let message = "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis.";
        assert_eq!(remedy(Some("InvalidArgumentException"), 400, message), Remedy::Retry(Failed::Transient));
    }

    #[test]
    fn what_was_signed_is_told_in_no_way() {
        let message = "The request signature we calculated does not match the signature you provided. Check your key.\n\nThe \
                       Canonical String for this request should have been\n'POST\n/\n\nhost:kinesis.eu-west-1.amazonaws.com\n\
                       x-amz-date:20261101T000000Z\nx-amz-security-token:SECRET\n\nhost;x-amz-date'\n\nThe String-to-Sign should \
                       have been\n'AWS4-HMAC-SHA256\nSECRET'";
        for code in ["InvalidSignatureException", "SignatureDoesNotMatch"] {
            let error = ErrorMetadata::builder().code(code).message(message).build();
            let answer = HttpResponse::new(400_u16.try_into().unwrap(), SdkBody::from(message));
            let all = [
                Failure::of(&SdkError::service_error(error, answer)),
                Failure::of_code(code, message),
                Failure::of_event(code, Some(message)),
            ];
            for failure in all {
                let shown = format!("{failure} {failure:?}");
                assert!(failure.text.ends_with("you provided. Check your key."), "{shown}");
                assert!(!shown.contains("SECRET") && !failure.text.contains('\n'), "{shown}");
            }
        }
        for said in [
            "no: 'POST\nX-Amz-Security-Token: SECRET'",
            "no: Authorization=AWS4-HMAC-SHA256 Credential=SECRET",
            "no: The String-to-Sign should have been SECRET",
            "no:\r\n",
        ] {
            assert_eq!(told(said).trim_end_matches(" 'POST"), "no:", "{said}");
        }
        let broken = io::Error::other("reset\nx-amz-security-token:SECRET");
        assert_eq!(Failure::of_network(&broken).text, "reset");
    }

    #[test]
    fn a_refused_connection_is_known_to_have_carried_nothing() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert!(was_never_sent(&refused));
        assert!(was_never_sent(&io::Error::other(refused)));
        assert!(!was_never_sent(&io::Error::from(io::ErrorKind::ConnectionReset)));
    }
}
