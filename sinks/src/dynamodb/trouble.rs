//! What a failed call means for the records in it. Pure, but for looking into the SDK's error.

use std::error::Error as StdError;
use std::io::ErrorKind as Io;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use shardflow::Outcome;
use shardflow::retry::{Failed, Failing};
use shardflow::sink::Trouble;
use shardflow_aws::failure::Failure;

/// What a refusal of one record is called, alone or in a batch. All else that is refused is refused for every record.
const OF_A_RECORD: [&str; 2] = ["ValidationException", "ItemCollectionSizeLimitExceededException"];

/// The request is too large, says something before the service.
const TOO_LARGE: u16 = 413;

/// What a call met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Met {
    /// A record in it is refused for good, for this reason.
    Invalid(String),
    /// None of it is known to be written.
    Trouble(Trouble),
}

impl Met {
    /// Looks into what the SDK reports.
    pub(super) fn of<E: ProvideErrorMetadata + StdError + 'static>(error: &SdkError<E>) -> Self {
        let failure = Failure::of(error);
        let may_pass = failure.may_pass();
        let status = error.raw_response().map(|response| response.status().as_u16());
        let code = error.as_service_error().and_then(|service| service.code());
        if code.is_some_and(|code| OF_A_RECORD.contains(&code)) || status == Some(TOO_LARGE) {
            return Self::Invalid(failure.text);
        }
        Self::Trouble(Trouble { may_pass, outcome: outcome(error, status), text: failure.text })
    }

    /// Whether the service has certainly written nothing, so that the call has cost nothing of the table's capacity.
    pub(super) fn is_free(&self) -> bool {
        match self {
            Self::Invalid(_) => true,
            Self::Trouble(trouble) => trouble.outcome == Outcome::Determinate,
        }
    }
}

/// Whether the service asked to slow down.
pub(super) fn is_throttle(trouble: &Trouble) -> bool {
    trouble.may_pass == Some(Failed::Throttled)
}

/// Whether the call may have done its work all the same. A service that refuses with a status of 4xx has done nothing; one
/// that fails with 5xx may have (so says the developer guide, "Error handling").
fn outcome<E: StdError + 'static>(error: &SdkError<E>, status: Option<u16>) -> Outcome {
    match error {
        SdkError::ConstructionFailure(_) => Outcome::Determinate,
        SdkError::ServiceError(_) if status.is_some_and(|status| (400..500).contains(&status)) => Outcome::Determinate,
        SdkError::DispatchFailure(_) if never_left(error) => Outcome::Determinate,
        _ => Outcome::Indeterminate,
    }
}

/// Whether there was no connection to send the request on.
fn never_left(error: &(dyn StdError + 'static)) -> bool {
    let unreachable = [Io::ConnectionRefused, Io::HostUnreachable, Io::NetworkUnreachable, Io::AddrNotAvailable];
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<std::io::Error>().is_some_and(|io| unreachable.contains(&io.kind())) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::config::http::HttpResponse;
    use aws_sdk_dynamodb::error::ErrorMetadata;
    use aws_sdk_dynamodb::operation::put_item::PutItemError;
    use aws_smithy_types::body::SdkBody;

    fn response(status: u16) -> HttpResponse {
        HttpResponse::new(status.try_into().unwrap(), SdkBody::empty())
    }

    fn service(code: &str, status: u16, message: &str) -> Met {
        let error = PutItemError::generic(ErrorMetadata::builder().code(code).message(message).build());
        Met::of(&SdkError::service_error(error, response(status)))
    }

    fn trouble(met: Met) -> Trouble {
        match met {
            Met::Trouble(trouble) => trouble,
            Met::Invalid(why) => panic!("invalid: {why}"),
        }
    }

    #[test]
    fn refusals_have_not_happened_and_faults_may_have() {
        for (code, status, may_pass, outcome) in [
            ("ProvisionedThroughputExceededException", 400, Some(Failed::Throttled), Outcome::Determinate),
            ("ThrottlingException", 400, Some(Failed::Throttled), Outcome::Determinate),
            ("RequestLimitExceeded", 400, Some(Failed::Throttled), Outcome::Determinate),
            ("ExpiredTokenException", 400, Some(Failed::Credentials), Outcome::Determinate),
            ("AccessDeniedException", 400, None, Outcome::Determinate),
            ("ResourceNotFoundException", 400, None, Outcome::Determinate),
            ("InternalServerError", 500, Some(Failed::Transient), Outcome::Indeterminate),
            ("ServiceUnavailable", 503, Some(Failed::Transient), Outcome::Indeterminate),
        ] {
            let trouble = trouble(service(code, status, "why"));
            assert_eq!((trouble.may_pass, trouble.outcome), (may_pass, outcome), "{code}");
            assert_eq!(trouble.text, format!("{code}: why"));
            assert_eq!(is_throttle(&trouble), may_pass == Some(Failed::Throttled));
        }
    }

    #[test]
    fn what_is_wrong_with_a_record_is_told_from_what_is_wrong_with_the_call() {
        assert_eq!(service("ValidationException", 400, "why"), Met::Invalid("ValidationException: why".to_owned()));
        let collection = service("ItemCollectionSizeLimitExceededException", 400, "full");
        assert!(matches!(collection, Met::Invalid(_)));
        let error = PutItemError::generic(ErrorMetadata::builder().build());
        assert!(matches!(Met::of(&SdkError::service_error(error, response(413))), Met::Invalid(_)));
    }

    #[test]
    fn a_request_that_never_left_has_not_happened_and_one_without_an_answer_may_have() {
        use aws_sdk_dynamodb::error::ConnectorError;
        let of = |kind: Io| {
            let io = std::io::Error::new(kind, "io");
            let error: SdkError<PutItemError> = SdkError::dispatch_failure(ConnectorError::io(io.into()));
            trouble(Met::of(&error))
        };
        assert_eq!(of(Io::ConnectionRefused).outcome, Outcome::Determinate);
        assert_eq!(of(Io::ConnectionReset).outcome, Outcome::Indeterminate);
        assert_eq!(of(Io::BrokenPipe).may_pass, Some(Failed::Transient));
        let late: SdkError<PutItemError> = SdkError::timeout_error("late");
        assert_eq!(trouble(Met::of(&late)).outcome, Outcome::Indeterminate);
        let broken: SdkError<PutItemError> = SdkError::response_error("broken", response(200));
        assert_eq!(trouble(Met::of(&broken)).outcome, Outcome::Indeterminate);
        let unbuilt: SdkError<PutItemError> = SdkError::construction_failure("unbuilt");
        let unbuilt = trouble(Met::of(&unbuilt));
        assert_eq!((unbuilt.outcome, unbuilt.may_pass), (Outcome::Determinate, None));
    }

    #[test]
    fn what_was_signed_is_not_told() {
        let message = "The request signature we calculated does not match the signature you provided.\n\nThe Canonical String \
                       for this request should have been\n'POST\nx-amz-security-token:SECRET'";
        let told = trouble(service("InvalidSignatureException", 400, message)).text;
        assert!(told.ends_with("you provided.") && !told.contains("SECRET"), "{told}");
    }
}
