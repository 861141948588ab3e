//! The ways in which calls of SQS fail, one word each.

use std::fmt;

use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};

use crate::aws::{BAD_CREDENTIALS, bounded, causes};

/// Why a call failed, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqsProblem {
    /// There are no credentials, or SQS does not know them.
    Credentials,
    /// A policy does not allow the call.
    Denied,
    /// What the call is about is gone: the receipt is no longer the message's.
    Gone,
    /// There is no such queue.
    Missing,
    /// SQS does not take the call as it is.
    Rejected,
    /// A 5xx, or an answer that is none.
    Server,
    /// Too many calls.
    Throttled,
    /// No answer in time.
    Timeout,
    /// No connection, or one that broke.
    Unreachable,
}

impl SqsProblem {
    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Denied => "denied",
            Self::Gone => "gone",
            Self::Missing => "missing",
            Self::Rejected => "rejected",
            Self::Server => "server",
            Self::Throttled => "throttled",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
        }
    }

    /// Whether somebody has to change something before the call can succeed, so that trying often is of no use.
    pub fn needs_a_person(self) -> bool {
        matches!(self, Self::Credentials | Self::Denied | Self::Missing | Self::Rejected)
    }

    /// What is known by SQS's own code and status.
    pub(super) fn of(code: &str, status: u16) -> Self {
        let has = |words: &[&str]| words.iter().any(|word| code.contains(word));
        match code {
            _ if has(&["NonExistentQueue", "QueueDoesNotExist", "QueueDeletedRecently"]) => Self::Missing,
            _ if has(&["Throttl", "TooManyRequests", "OverLimit", "SlowDown", "RequestLimitExceeded"]) => {
                Self::Throttled
            }
            _ if has(&["ReceiptHandleIsInvalid", "MessageNotInflight"]) => Self::Gone,
            _ if has(&BAD_CREDENTIALS) || has(&["MissingAuthenticationToken", "IncompleteSignature"]) => {
                Self::Credentials
            }
            _ if status == 429 => Self::Throttled,
            _ if status == 401 || status == 403 || has(&["AccessDenied", "NotAuthorized", "KmsAccessDenied"]) => {
                Self::Denied
            }
            _ if status >= 500 => Self::Server,
            _ => Self::Rejected,
        }
    }
}

/// A call that failed. The text is bounded and names no credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {text}")]
pub struct SqsError {
    /// The call, such as `ReceiveMessage`: also the name of the IAM action behind `sqs:`.
    pub call: &'static str,
    /// Why, in a word.
    pub problem: SqsProblem,
    /// Why, in SQS's or the network's words.
    pub text: String,
}

/// The status of an answer.
pub(super) trait Status: fmt::Debug {
    fn code(&self) -> u16;
}

impl Status for aws_sdk_sqs::config::http::HttpResponse {
    fn code(&self) -> u16 {
        self.status().as_u16()
    }
}

pub(super) fn judge<E, R>(call: &'static str, error: &SdkError<E, R>) -> SqsError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: Status,
{
    let said = |error: &SdkError<E, R>| bounded(&causes(error), "");
    let (problem, text) = match error {
        SdkError::ServiceError(answered) => {
            let status = answered.raw().code();
            if status < 400 {
                // The SDK takes a success that it cannot read, such as half of one, for an answer of the service's.
                let text = bounded(&format!("{status}, and an answer that cannot be read: {}", causes(error)), "");
                return SqsError { call, problem: SqsProblem::Server, text };
            }
            let code = answered.err().code().unwrap_or_default();
            let message = answered.err().message().unwrap_or("no message");
            (SqsProblem::of(code, status), bounded(&format!("{status} {code}: {message}"), ""))
        }
        SdkError::ResponseError(answered) => match answered.raw().code() {
            // A proxy's page instead of SQS's answer.
            status if status >= 400 => (SqsProblem::of("", status), format!("{status}, and no answer of SQS")),
            _ => (SqsProblem::Server, said(error)),
        },
        SdkError::TimeoutError(_) => (SqsProblem::Timeout, "no answer in time".to_owned()),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => (SqsProblem::Timeout, said(error)),
        // A connection that is cut in the middle of an exchange is a transient failure of another kind than input and output.
        SdkError::DispatchFailure(failure) if failure.is_io() || failure.as_other().is_some() => {
            (SqsProblem::Unreachable, said(error))
        }
        // What is neither the network's nor SQS's doing is done before the call: finding credentials and signing.
        _ => (SqsProblem::Credentials, said(error)),
    };
    SqsError { call, problem, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_statuses_have_one_word_each() {
        for (code, status, problem) in [
            ("AWS.SimpleQueueService.NonExistentQueue", 400, SqsProblem::Missing),
            ("QueueDoesNotExist", 400, SqsProblem::Missing),
            ("RequestThrottled", 403, SqsProblem::Throttled),
            ("ThrottlingException", 400, SqsProblem::Throttled),
            ("KmsThrottled", 400, SqsProblem::Throttled),
            ("OverLimit", 403, SqsProblem::Throttled),
            ("", 429, SqsProblem::Throttled),
            ("AccessDeniedException", 400, SqsProblem::Denied),
            ("KmsAccessDenied", 400, SqsProblem::Denied),
            ("", 403, SqsProblem::Denied),
            ("InvalidClientTokenId", 403, SqsProblem::Credentials),
            ("ReceiptHandleIsInvalid", 400, SqsProblem::Gone),
            ("InternalError", 500, SqsProblem::Server),
            ("", 503, SqsProblem::Server),
            ("InvalidAttributeValue", 400, SqsProblem::Rejected),
        ] {
            assert_eq!(SqsProblem::of(code, status), problem, "{code} {status}");
        }
    }
}
