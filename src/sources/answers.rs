//! What a producer is told about a notification that was judged: one translation for every source that listens.

use hyper::StatusCode;

use crate::listener::Answer;
use crate::queue::QueueError;
use crate::sources::intake::Accepted;

/// Seconds after which a producer may come again when our own store or network was in the way.
pub const RETRY_AFTER: u32 = 5;

/// The answer to what the desk made of a notification: exactly 200 for whatever is durable or was nobody's, 503 for trouble of
/// our own.
pub fn stored(result: Result<Accepted, QueueError>) -> Answer {
    match result {
        Ok(accepted) => Answer::plain(StatusCode::OK, accepted.as_str()),
        Err(error) => refused_by_queue(&error),
    }
}

/// 503 with `Retry-After`: nothing was stored.
pub fn refused_by_queue(error: &QueueError) -> Answer {
    // The condition `store` says it once, and the listener's log of refusals says how often.
    tracing::debug!(error = %error, "answered 503: the queue takes nothing at the moment");
    Answer::unavailable(error.label(), RETRY_AFTER)
}

/// 429 with `Retry-After`: something that we do only so often.
pub fn rate_limited() -> Answer {
    Answer { retry_after: Some(RETRY_AFTER), ..Answer::plain(StatusCode::TOO_MANY_REQUESTS, "rate_limited") }
}
